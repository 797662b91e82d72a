"""The documents of a source over HTTP, before anything is built."""

from collections.abc import Callable
from typing import Any

from sourcebook.hub.documents.record import make_record
from sourcebook.hub.sources.model import Plugin, SourceState, Upload

from .test_hub import assert_refused, make_plugin

Hub = Callable[..., Any]


def test_documents_and_fields_of_a_source(hub: Hub, tmp_path: Any) -> None:
    folder = make_plugin(tmp_path)

    async def work(gateway: Any) -> None:
        context = gateway.context
        await context.state.put("hgnc", Plugin(name="hgnc", folder=str(folder)))
        assert_refused(await gateway.ask("GET", "/hub/sources/hgnc/documents"), 409, "missing_upload")
        async with context.documents.create("upload~hgnc.hgnc~1") as writer:
            await writer.write([make_record({"_id": f"a/{number}", "n": [number, 1]}) for number in range(5)])
            info = await writer.commit()
        upload = Upload(
            id="hgnc/hgnc@1",
            source="hgnc",
            uploader="hgnc",
            dump="hgnc@1",
            version="1",
            collection="upload~hgnc.hgnc~1",
            count=info.count,
            digest=info.digest,
        )
        await context.state.put(upload.id, upload)
        await context.state.put("hgnc", SourceState(name="hgnc", uploads={"hgnc": upload.id}))
        shown = (await gateway.ask("GET", "/hub/sources/hgnc/documents?size=2")).json()
        assert len(shown) == 2
        one = await gateway.ask("GET", "/hub/sources/hgnc/documents/a/3?uploader=hgnc")
        assert one.json() == {"_id": "a/3", "n": [3, 1]}
        field = (await gateway.ask("GET", "/hub/sources/hgnc/fields/n")).json()
        assert (field["count"], field["values"], field["distinct"], field["max"]) == (5, 10, 5, 4)
        assert_refused(await gateway.ask("GET", "/hub/sources/hgnc/documents/b"), 404, "not_found")
        assert_refused(await gateway.ask("GET", "/hub/sources/hgnc/documents?size=5000"), 422, "invalid_request")
        assert_refused(await gateway.ask("GET", "/hub/sources/hgnc/fields/x"), 404, "not_found")

    hub(work)


def test_a_misspelt_key_of_a_configuration_is_told_with_the_right_one(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        body = {"doc_type": "gene", "sources": ["x"], "schedul": "0 4 * * 1"}
        told = assert_refused(await gateway.ask("PUT", "/hub/build-configs/genes", json=body), 422, "invalid_request")
        assert "unknown key 'schedul'; did you mean 'schedule'?" in told["message"]

    hub(work)
