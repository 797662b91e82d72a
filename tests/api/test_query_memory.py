"""What a request reads is counted while it is read, not afterwards."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sourcebook.context import Context

SIZE = 100_000
COUNT = 100
LIMIT = 2_000_000


def count_read(context: Context, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the bytes of each document that is read from the store from now on."""
    sizes: list[int] = []
    get_many = context.documents.get_many

    async def noting(name: str, ids: Sequence[str], *, max_bytes: int | None = None) -> list[bytes | None]:
        bodies = await get_many(name, ids, max_bytes=max_bytes)
        sizes.extend(len(body) for body in bodies if body is not None)
        return bodies

    monkeypatch.setattr(context.documents, "get_many", noting)
    return sizes


@pytest.mark.parametrize("way", ["search", "sorted", "ids", "terms"])
def test_no_more_is_read_than_an_answer_may_have(
    tmp_path: Path, serve_documents: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    documents = [{"_id": f"d{number:03}", "n": 1, "text": "x" * SIZE} for number in range(COUNT)]
    ids = [document["_id"] for document in documents]

    async def work(gateway: Any) -> None:
        sizes = count_read(gateway.context, monkeypatch)
        answer = await {
            "search": lambda: gateway.get("/query", q="n:1", size=COUNT),
            "sorted": lambda: gateway.get("/query", q="n:1", size=COUNT, sort="-n"),
            "ids": lambda: gateway.post("/gene", {"ids": ids}),
            "terms": lambda: gateway.post("/query", {"q": ["1"] * 20, "scopes": ["n"], "size": COUNT}),
        }[way]()
        assert (answer.status_code, answer.json()["error"]) == (413, "Payload Too Large")
        assert "SOURCEBOOK_ANSWER_MAX_BYTES" in answer.json()["details"]
        # Eight searches at once have a share each and read one document beyond it; one that has too little is read again.
        assert sum(sizes) < 2 * LIMIT + 10 * SIZE

    mapping = {"n": {"type": "integer"}}
    asyncio.run(serve_documents(tmp_path / "home", documents, mapping, work, answer_max_bytes=LIMIT))
