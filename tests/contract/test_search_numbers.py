"""Numbers are found, counted and sorted to their last digit, on every engine, in written and in derived indices."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from support.search_corpus import Corpus, fill, open_engines
from support.search_engines import skip_on_osmem

from sourcebook.hub.documents.record import make_record
from sourcebook.language.requests import FacetRequest, SortKey

PROPERTIES: dict[str, dict[str, Any]] = {"f": {"type": "float"}, "n": {"type": "long"}}
FRACTIONS = [0.42291764838969603, -0.42291764838969603, 5e-324, 2.2250738585072014e-308, 1e308, -1e308, 0.1 + 0.2, 1.0]
WHOLE = [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 0]


def make_documents() -> list[dict[str, Any]]:
    rng = random.Random(3)  # noqa: S311 - no secret
    fractions = FRACTIONS + [rng.random() / 3 for _ in range(100)]
    return [{"_id": f"f{at:03}", "f": value} for at, value in enumerate(fractions)] + [
        {"_id": f"n{at}", "n": value} for at, value in enumerate(WHOLE)
    ]


async def check_numbers(corpus: Corpus, documents: list[dict[str, Any]]) -> None:
    for field in ("f", "n"):
        known = [document for document in documents if field in document]
        values = sorted(document[field] for document in known)
        for document in known:
            value = document[field]
            assert await corpus.ids(f'{field}:"{value!r}"') == [document["_id"]]
            assert (await corpus.find(f"{field}:{{{value!r} TO *]")).total == sum(other > value for other in values)
            assert (await corpus.find(f"{field}:[* TO {value!r}}}")).total == sum(other < value for other in values)
        facet = (await corpus.find(None, facets=(FacetRequest(field),), facet_size=1000)).facets[field]
        assert sorted(term.term for term in facet.terms) == values
        ordered = sorted(known, key=lambda document: document[field])
        found = await corpus.ids(f"_exists_:{field}", sort=(SortKey(field),))
        assert found == [document["_id"] for document in ordered]


@pytest.fixture(autouse=True)
def _use_exact_engines(search_engine: str) -> None:
    skip_on_osmem(search_engine, "osmem-server rounds whole numbers to 53 bits, and cannot clone an index")


def test_numbers_keep_every_digit_in_an_index_that_is_written_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            corpus = Corpus(engine, documents, "one")
            await fill(corpus, make_documents(), PROPERTIES, batch=50)
            await check_numbers(corpus, make_documents())

    asyncio.run(scenario())


def test_numbers_keep_every_digit_in_an_index_that_is_derived(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            await fill(Corpus(engine, documents, "one", "old"), [{"_id": "f000", "f": 1.0}], PROPERTIES)
            records = sorted(make_record(document) for document in make_documents())
            async with documents.create("new") as collection:
                await collection.write(records)
                await collection.commit()
            async with engine.derive("two", base="one", collection="new", properties=PROPERTIES) as patcher:
                await patcher.put(records)
                await patcher.commit()
            await check_numbers(Corpus(engine, documents, "two", "new"), make_documents())

    asyncio.run(scenario())
