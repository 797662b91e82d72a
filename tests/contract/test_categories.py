"""A column of categories on every engine: found by its words, counted and sorted by the whole value."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.search_corpus import Corpus, fill, open_engines

from sourcebook.errors import QuerySyntaxError
from sourcebook.language.requests import FacetRequest, SortKey

CATEGORY: dict[str, Any] = {"type": "text", "fields": {"keyword": {"type": "keyword"}}}
PROPERTIES: dict[str, Any] = {
    "disease": CATEGORY,
    "o": {"properties": {"kind": CATEGORY}},
    "prose": {"type": "text"},
    "n": {"type": "integer"},
}
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "1", "disease": "breast cancer", "o": {"kind": "a b"}, "n": 1},
    {"_id": "2", "disease": "asthma", "o": [{"kind": "a b"}, {"kind": "c d"}], "n": 1},
    {"_id": "3", "disease": ["lung cancer", "breast cancer"], "n": 2},
    {"_id": "4", "prose": "many words", "n": 2},
]


@pytest.mark.usefixtures("search_engine")
def test_a_category_is_found_by_its_words_and_counted_and_sorted_whole(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            corpus = Corpus(engine, documents, "things")
            await fill(corpus, DOCUMENTS, PROPERTIES)
            assert await corpus.ids("disease:cancer", sort=(SortKey("_id"),)) == ["1", "3"]
            assert await corpus.ids('disease.keyword:"lung cancer"') == ["3"]
            inner = FacetRequest("n", inner=(FacetRequest("disease"),))
            facets = (await corpus.find(None, facets=(FacetRequest("disease"), FacetRequest("o.kind"), inner))).facets
            told = {name: [(term.term, term.count) for term in facet.terms] for name, facet in (facets or {}).items()}
            assert told["disease"] == [("breast cancer", 2), ("asthma", 1), ("lung cancer", 1)]
            assert told["o.kind"] == [("a b", 2), ("c d", 1)]
            assert facets is not None
            assert (facets["disease"].missing, facets["o.kind"].missing) == (1, 2)
            assert [term.term for term in facets["n"].terms[1].inner["disease"].terms] == [
                "breast cancer",
                "lung cancer",
            ]
            assert await corpus.ids(None, sort=(SortKey("disease"),)) == ["2", "1", "3", "4"]
            assert await corpus.ids(None, sort=(SortKey("disease", descending=True),)) == ["3", "1", "2", "4"]
            for options in ({"facets": (FacetRequest("prose"),)}, {"sort": (SortKey("prose"),)}):
                with pytest.raises(QuerySyntaxError, match="is a text"):
                    await corpus.find(None, **options)

    asyncio.run(work())
