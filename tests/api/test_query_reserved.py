"""Documents that have a key of ours: no key stands twice in an answer, and what the answer says of the document wins."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[..., Any]

OURS = {
    "_version": "v7",
    "_score": 0.5,
    "_explanation": "mine",
    "query": "mine",
    "notfound": True,
    "all": "x",
    "_all": "y",
}
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "1", **OURS, "n": 1, "inner": {"_version": "kept"}, "Upper": 1},
    {"_id": "2", "n": 2},
]
MAPPING: dict[str, Any] = {"n": {"type": "integer"}, "query": {"type": "keyword"}, "notfound": {"type": "boolean"}}
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "by id": ("GET", "/gene/1", {}),
    "by id with an option": ("GET", "/gene/1?fields=all", {}),
    "by id flattened": ("GET", "/gene/1?dotfield=true", {}),
    "batch of ids": ("POST", "/gene", {"json": {"ids": ["1"]}}),
    "query": ("GET", "/query?q=n:1", {}),
    "query explained": ("GET", "/query?q=n:1&explain=true", {}),
    "query sorted": ("GET", "/query?q=n:1&sort=n", {}),
    "batch of terms": ("POST", "/query", {"json": {"q": ["1"], "scopes": ["n"]}}),
    "batch by _id": ("POST", "/query", {"json": {"q": ["1"]}}),
}


def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, unless a key stands in it twice."""
    assert len(pairs) == len(dict(pairs)), pairs
    return dict(pairs)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_key_of_ours_stands_once_and_says_what_it_always_says(
    name: str, tmp_path: Path, serve_documents: Serve
) -> None:
    method, path, options = REQUESTS[name]

    async def work(gateway: Any) -> str:
        answer = await gateway.ask(method, f"/apis/genes{path}", **options)
        return str(answer.text)

    text = asyncio.run(serve_documents(tmp_path / "home", DOCUMENTS, MAPPING, work))
    found = json.loads(text, object_pairs_hook=refuse_twice)
    (row,) = found["hits"] if "hits" in found else found if isinstance(found, list) else [found]
    if "gene" in path:
        assert row["_version"] == 1
    else:
        assert row["_score"] != OURS["_score"]
    assert row["all"] == "x"
    assert row["_all"] == "y"
    assert row.get("inner", {"_version": row.get("inner._version")}) == {"_version": "kept"}
    if method == "POST":
        assert row["query"] == "1"
        assert "notfound" not in row
    else:
        assert row["query"] == "mine"
    if "explain" in path:
        assert row["_explanation"] != "mine"
