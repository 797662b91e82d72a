"""Values that an index cannot hold, on every engine: they are stored, `_exists_` and facets know them, `_ignored` finds them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.search_corpus import Corpus, fill, open_engines

from sourcebook.language.requests import FacetRequest

KEYWORD: dict[str, Any] = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
PROPERTIES: dict[str, dict[str, Any]] = {
    "n": {"type": "integer"},
    "f": {"type": "float"},
    "at": {"type": "date"},
    "p": KEYWORD,
    "short": {"type": "keyword", "ignore_above": 3},
    "o": {"properties": {"n": {"type": "long"}, "k": KEYWORD}},
}
TITIN = "M" * 34_350
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "fits", "n": 1, "f": 0.5, "at": "2024-01-02", "p": "MKV", "short": "abc", "o": {"n": 5, "k": "x"}},
    {"_id": "misfits", "n": "N/A", "f": "N/A", "at": "N/A", "p": TITIN, "short": "abcd", "o": {"n": "N/A", "k": TITIN}},
    {"_id": "both", "n": [1, "N/A"], "f": [0.5, "N/A"], "p": ["MKV", TITIN], "o": [{"n": 5}, {"n": "N/A"}]},
    {"_id": "none", "other": 1},
]
MALFORMED = ["n", "f", "at", "o.n"]
TOO_LONG = ["p", "short", "o.k"]


async def search(home: Path, work: Any) -> None:
    async with open_engines(home) as (engine, documents):
        corpus = Corpus(engine, documents, "things")
        await fill(corpus, DOCUMENTS, PROPERTIES)
        await work(corpus)


def has_values(field: str) -> list[str]:
    head, _, tail = field.partition(".")
    found = []
    for document in DOCUMENTS:
        parts = document.get(head, [])
        values = [part.get(tail) for part in (parts if isinstance(parts, list) else [parts])] if tail else [parts]
        if any(value not in (None, []) for value in values):
            found.append(document["_id"])
    return sorted(found)


@pytest.fixture
def fields(search_engine: str) -> list[str]:
    """The fields of which an engine knows what it left out: OpenSearch does not say so of keywords that are too long."""
    return MALFORMED + TOO_LONG if search_engine == "tantivy" else MALFORMED


def test_what_could_not_be_indexed_is_there_all_the_same(tmp_path: Path, fields: list[str]) -> None:
    async def work(corpus: Corpus) -> None:
        for field in fields:
            expected = has_values(field)
            assert await corpus.ids(f"_exists_:{field}") == expected, field
            assert await corpus.ids(f"{field}:*") == expected, field
            assert await corpus.ids(f"NOT _exists_:{field}") == sorted(
                {"fits", "misfits", "both", "none"} - {*expected}
            )
        assert await corpus.ids("_exists_:o") == ["both", "fits", "misfits"]
        assert await corpus.ids("_exists_:other") == []

    asyncio.run(search(tmp_path, work))


def test_missing_counts_only_documents_without_a_value(tmp_path: Path, fields: list[str]) -> None:
    async def work(corpus: Corpus) -> None:
        found = await corpus.find(None, facets=tuple(FacetRequest(field) for field in fields))
        assert found.facets is not None
        for field in fields:
            assert found.facets[field].missing == len(DOCUMENTS) - len(has_values(field)), field
        assert [(term.term, term.count) for term in found.facets["n"].terms] == [(1, 2)]

    asyncio.run(search(tmp_path, work))


def test_ignored_finds_the_documents_of_each_field(tmp_path: Path, fields: list[str]) -> None:
    async def work(corpus: Corpus) -> None:
        for field in fields:
            some = ["both", "misfits"] if field in {"n", "f", "p", "o.n"} else ["misfits"]
            assert await corpus.ids(f"_ignored:{field}") == some, field
        assert await corpus.ids("_exists_:_ignored") == ["both", "misfits"]
        assert await corpus.ids("_ignored:*") == ["both", "misfits"]
        assert await corpus.ids("_ignored:n AND n:1") == ["both"]
        assert await corpus.ids("_ignored:other") == []

    asyncio.run(search(tmp_path, work))
