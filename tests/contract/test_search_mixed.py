"""Numbers that stand among strings, on every engine."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.search_corpus import Corpus, fill, open_engines

from sourcebook.language.requests import MatchQuery

PROPERTIES: dict[str, dict[str, Any]] = {"year": {"type": "keyword"}, "note": {"type": "text"}}
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "fraction", "year": 2012.0, "note": 2012.0},
    {"_id": "number", "year": 2012, "note": 2012},
    {"_id": "other", "year": "x", "note": "x y"},
    {"_id": "text", "year": "2012", "note": "in 2012"},
]


@pytest.mark.parametrize("field", ["year", "note"])
def test_a_whole_number_is_found_however_it_is_written(search_engine: str, tmp_path: Path, field: str) -> None:
    del search_engine

    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            corpus = Corpus(engine, documents, "one")
            await fill(corpus, DOCUMENTS, PROPERTIES)
            all_three = ["fraction", "number", "text"]
            for query in (
                f"{field}:2012",
                f"{field}:(2012 OR nothing)",
                f"({field}:2012)^2",
                f"{field}:2012^2 AND NOT {field}:x",
            ):
                assert sorted(await corpus.ids(query)) == all_three, query
            assert sorted(await corpus.ids((MatchQuery("2012", (field,)),))) == all_three
            assert await corpus.ids(f"{field}:2012.0") == ["fraction"]
            assert sorted(await corpus.ids(f"{field}:(2012 OR x)")) == ["fraction", "number", "other", "text"]
            assert await corpus.ids(f"NOT {field}:2012") == ["other"]

    asyncio.run(scenario())
