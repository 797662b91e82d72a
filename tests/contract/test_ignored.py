"""Values that an index cannot hold, on every engine: they are stored, `_exists_` and facets know them, `_ignored` finds them."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.search_corpus import Corpus, fill, open_engines

from sourcebook.hub.documents.record import HASH_BYTES, make_record
from sourcebook.language.requests import FacetRequest, MatchQuery

KEYWORD: dict[str, Any] = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
PROPERTIES: dict[str, dict[str, Any]] = {
    "n": {"type": "integer"},
    "f": {"type": "float"},
    "at": {"type": "date"},
    "p": KEYWORD,
    "short": {"type": "keyword", "ignore_above": 3},
    "greek": KEYWORD,
    "words": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 5}}},
    "o": {"properties": {"n": {"type": "long"}, "k": KEYWORD}},
}
TITIN = "M" * 34_350
GREEK = "αβγδ" * 5_000  # fewer characters than a keyword may have, but more bytes
LONGEST = "M" * 32_766
DOCUMENTS: list[dict[str, Any]] = [
    {
        "_id": "fits",
        "n": 1,
        "f": 0.5,
        "at": "2024-01-02",
        "p": "MKV",
        "short": "abc",
        "o": {"n": 5, "k": "x"},
        "greek": "αβ",
        "words": "ab",
    },
    {
        "_id": "misfits",
        "n": "N/A",
        "f": "N/A",
        "at": "N/A",
        "p": TITIN,
        "short": "abcd",
        "o": {"n": "N/A", "k": TITIN},
        "greek": GREEK,
        "words": "ab and more",
    },
    {
        "_id": "both",
        "n": [1, "N/A"],
        "f": [0.5, "N/A"],
        "p": ["MKV", TITIN],
        "o": [{"n": 5}, {"n": "N/A"}],
        "greek": ["δ", GREEK],
    },
    {"_id": "longest", "p": LONGEST, "text": ['","~id":', "~body"]},
    {"_id": "none", "other": 1},
]
MALFORMED = ["n", "f", "at", "o.n"]
TOO_LONG = ["p", "short", "o.k", "greek"]
FIELDS = MALFORMED + TOO_LONG

pytestmark = pytest.mark.usefixtures("search_engine")


async def search(home: Path, work: Any) -> None:
    async with open_engines(home) as (engine, documents):
        corpus = Corpus(engine, documents, "things")
        await fill(corpus, DOCUMENTS, PROPERTIES)
        await work(corpus)


async def ids(corpus: Corpus, query: Any) -> list[str]:
    return sorted(await corpus.ids(query))


def has_values(field: str) -> list[str]:
    head, _, tail = field.partition(".")
    found = []
    for document in DOCUMENTS:
        parts = document.get(head, [])
        values = [part.get(tail) for part in (parts if isinstance(parts, list) else [parts])] if tail else [parts]
        if any(value not in (None, []) for value in values):
            found.append(document["_id"])
    return sorted(found)


def test_what_could_not_be_indexed_is_there_all_the_same(tmp_path: Path) -> None:
    async def work(corpus: Corpus) -> None:
        for field in FIELDS:
            expected = has_values(field)
            assert await ids(corpus, f"_exists_:{field}") == expected, field
            assert await ids(corpus, f"{field}:*") == expected, field
            assert await ids(corpus, f"NOT _exists_:{field}") == sorted(
                {document["_id"] for document in DOCUMENTS} - {*expected}
            )
        assert await ids(corpus, "_exists_:o") == ["both", "fits", "misfits"]
        assert await ids(corpus, "_exists_:other") == []

    asyncio.run(search(tmp_path, work))


def test_missing_counts_only_documents_without_a_value(tmp_path: Path) -> None:
    async def work(corpus: Corpus) -> None:
        found = await corpus.find(None, facets=tuple(FacetRequest(field) for field in FIELDS))
        assert found.facets is not None
        for field in FIELDS:
            assert found.facets[field].missing == len(DOCUMENTS) - len(has_values(field)), field
        assert [(term.term, term.count) for term in found.facets["n"].terms] == [(1, 2)]

    asyncio.run(search(tmp_path, work))


def test_ignored_finds_the_documents_of_each_field(tmp_path: Path) -> None:
    async def work(corpus: Corpus) -> None:
        for field in FIELDS:
            some = ["both", "misfits"] if field in {"n", "f", "p", "o.n", "greek"} else ["misfits"]
            assert await ids(corpus, f"_ignored:{field}") == some, field
        assert await ids(corpus, "_exists_:_ignored") == ["both", "misfits"]
        assert await ids(corpus, "_ignored:*") == ["both", "misfits"]
        assert await ids(corpus, "_ignored:n AND n:1") == ["both"]
        assert await ids(corpus, "_ignored:other") == []

    asyncio.run(search(tmp_path, work))


def test_documents_with_values_that_are_too_long_come_back_as_they_are(tmp_path: Path) -> None:
    async def work(corpus: Corpus) -> None:
        found = await corpus.find(None, size=10)
        assert {hit.id: orjson.loads(hit.body) for hit in found.hits} == {item["_id"]: item for item in DOCUMENTS}
        walked = await corpus.find("_exists_:greek", size=10, in_id_order=True)
        expected = [make_record(item)[1][HASH_BYTES:] for item in sorted(DOCUMENTS, key=lambda item: str(item["_id"]))]
        assert [hit.body for hit in walked.hits] == [body for body in expected if b"greek" in body]

    asyncio.run(search(tmp_path, work))


def test_values_up_to_the_limit_are_found_exactly(tmp_path: Path) -> None:
    async def work(corpus: Corpus) -> None:
        assert await ids(corpus, (MatchQuery(LONGEST, ("p",)),)) == ["longest"]
        assert await ids(corpus, "greek:δ") == ["both"]
        assert await ids(corpus, "p:MKV") == ["both", "fits"]
        assert await ids(corpus, "_ignored:(p OR short)") == ["both", "misfits"]
        assert await ids(corpus, "p:MKV AND NOT _ignored:p") == ["fits"]
        assert await ids(corpus, "-_ignored:gre?k AND _exists_:p") == ["fits", "longest"]
        assert await ids(corpus, "words:more") == ["misfits"]
        assert await ids(corpus, "_ignored:words.keyword") == ["misfits"]
        assert await ids(corpus, (MatchQuery("greek", ("_ignored",)),)) == ["both", "misfits"]

    asyncio.run(search(tmp_path, work))
