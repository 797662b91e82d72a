"""What is damaged on the disk stops one API with an answer, and no other."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sourcebook.context import Context
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.releases.model import Api, Release

Genes = Callable[..., Any]
MAPPING = {"symbol": {"type": "keyword"}}


async def _add_other(context: Context) -> None:
    """Serve an API `other` with data of its own beside `genes`."""
    records = [make_record({"_id": str(number), "symbol": f"GENE{number}"}) for number in range(1000, 1010)]
    async with context.documents.create("build~other_1") as collection:
        await collection.write(records)
        await collection.commit()
    async with context.search.create("o", collection="build~other_1", properties=MAPPING, settings={}) as index:
        await index.add(records)
        await index.commit()
    names = {"name": "other_1", "build": "other_1", "config": "other", "doc_type": "gene"}
    values = {**names, "collection": "build~other_1", "index": "o", "count": 10, "mapping": MAPPING, "metadata": {}}
    await context.state.put("other_1", Release.model_validate(values))
    await context.state.put("other", Api(name="other", config="other", release="other_1"))


@pytest.mark.parametrize("request_path", ["gene/1001", "query?q=_id:1001", "query?q=_exists_:symbol", "status"])
def test_an_api_whose_documents_were_cut_answers_503_and_the_others_go_on(
    genes: Genes, tmp_path: Path, request_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(gateway: Any) -> None:
        await _add_other(gateway.context)
        (path,) = Path(gateway.context.settings.home).glob("documents/build~genes_1/data.mdb")
        os.truncate(path, path.stat().st_size // 2)
        for _ in range(2):
            refused = await gateway.ask("GET", f"/apis/genes/{request_path}")
            assert (refused.status_code, refused.json()["code"]) == (503, "store_damaged")
            assert str(tmp_path) not in refused.text
            assert (await gateway.ask("GET", f"/apis/other/{request_path}")).status_code == 200

    genes(work)
    assert "build~genes_1" in "".join(capsys.readouterr())


def test_an_api_whose_index_was_cut_answers_503_and_the_others_go_on(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        await _add_other(gateway.context)
        folder = Path(gateway.context.settings.home) / "search" / "genes_1_index"
        for path in sorted(folder.iterdir()):
            if path.name in {"sourcebook.json", ".lock"} or path.suffix == ".lock":
                continue
            data = path.read_bytes()
            os.truncate(path, len(data) // 2)
            refused = await gateway.ask("GET", "/apis/genes/query?q=_id:1001")
            assert (refused.status_code, refused.json()["code"]) == (503, "store_damaged"), path.name
            assert (await gateway.ask("GET", "/apis/genes/gene/1001")).status_code == 200
            assert (await gateway.ask("GET", "/apis/other/query?q=_id:1001")).json()["total"] == 1
            path.write_bytes(data)
        assert (await gateway.ask("GET", "/apis/genes/query?q=_id:1001")).json()["total"] == 1

    genes(work)
