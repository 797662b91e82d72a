"""Hits are bounded by bytes on every engine: a page of a walk ends early, any other search is refused before memory is spent."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.search_corpus import Corpus, fill, open_engines

from sourcebook.errors import PayloadTooLarge
from sourcebook.language.requests import MatchQuery, SearchRequest, SearchResult

PROPERTIES = {"n": {"type": "integer"}}
SIZES = [10, 400, 30_000, 10, 2_000, 2_000, 10, 9_000, 1_000, 1_000, 60_000, 70_000, 10, 10, 10]
DOCUMENTS = [{"_id": f"d{number:02}", "n": 1, "text": "x" * size} for number, size in enumerate(SIZES)]
LIMIT = 10_000

pytestmark = pytest.mark.usefixtures("search_engine")


def run(home: Path, work: Callable[[Corpus], Any]) -> None:
    async def main() -> None:
        async with open_engines(home) as (engine, documents):
            corpus = Corpus(engine, documents, "things")
            await fill(corpus, DOCUMENTS, PROPERTIES)
            await work(corpus)

    asyncio.run(main())


async def walk(corpus: Corpus, query: str | None, size: int) -> list[SearchResult]:
    pages: list[SearchResult] = []
    after = None
    while not pages or after:
        request = SearchRequest(query, size=size, in_id_order=True, after=after)
        pages.append(await corpus.engine.search(corpus.index, request, max_bytes=LIMIT))
        after = pages[-1].next_page
    return pages


@pytest.mark.parametrize("query", [None, "n:1"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_page_of_a_walk_ends_before_it_has_too_many_bytes(tmp_path: Path, query: str | None, size: int) -> None:
    async def work(corpus: Corpus) -> None:
        pages = await walk(corpus, query, size)
        assert [hit.id for page in pages for hit in page.hits] == [document["_id"] for document in DOCUMENTS]
        assert {page.total for page in pages} == {len(DOCUMENTS)}
        for page in pages:
            assert 0 < len(page.hits) <= size
            assert len(page.hits) == 1 or sum(len(hit.body) for hit in page.hits) <= LIMIT

    run(tmp_path, work)


@pytest.mark.parametrize("query", [None, "n:1", (MatchQuery("1", ("n",)),)])
def test_hits_that_have_too_many_bytes_are_refused(tmp_path: Path, query: Any) -> None:
    async def work(corpus: Corpus) -> None:
        request = SearchRequest(query, size=15)
        with pytest.raises(PayloadTooLarge, match="have more than 10000 bytes"):
            await corpus.engine.search(corpus.index, request, max_bytes=LIMIT)
        assert len((await corpus.engine.search(corpus.index, request, max_bytes=1_000_000)).hits) == 15
        small = await corpus.engine.search(corpus.index, SearchRequest(query, size=2), max_bytes=LIMIT)
        assert small.total == 15

    run(tmp_path, work)
