"""The contract of derived indices, on every engine: equal to an index written at once, beside a base that stays as it is."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.search_engines import skip_on_osmem

from sourcebook.backends import open_documents, open_search
from sourcebook.errors import CannotDerive, NotFound
from sourcebook.hub.documents.record import Digest, make_record
from sourcebook.language.requests import FacetRequest, SearchRequest, SortKey
from sourcebook.ports.documents import DocumentStore
from sourcebook.ports.search import SearchEngine
from sourcebook.settings import Settings

Content = dict[str, dict[str, Any]]

KEYWORD: dict[str, Any] = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
PROPERTIES: dict[str, dict[str, Any]] = {
    "word": {**KEYWORD, "copy_to": "all"},
    "name": {"type": "text", "copy_to": ["all"]},
    "number": {"type": "integer"},
}
WORDS = ("alpha", "beta", "gamma")


@pytest.fixture(autouse=True)
def _use_each_engine(search_engine: str) -> None:
    skip_on_osmem(search_engine, "osmem-server cannot clone an index")


class Engines:
    """A document store and a search engine with some collections and their indices, of equal names."""

    def __init__(self, documents: DocumentStore, search: SearchEngine) -> None:
        self.documents = documents
        self.search = search

    async def store(self, name: str, content: Content) -> str:
        records = sorted(make_record({"_id": key, **fields}) for key, fields in content.items())
        async with self.documents.create(name) as writer:
            await writer.write(records)
            return (await writer.commit()).digest

    async def build(self, name: str, content: Content, properties: dict[str, Any] = PROPERTIES) -> None:
        """Store a collection and index it at once."""
        await self.store(name, content)
        async with self.search.create(name, collection=name, properties=properties, settings={}) as writer:
            async for batch in self.documents.scan(name):
                await writer.add(batch)
            assert await writer.commit() == len(content)

    async def derive(
        self, name: str, base: str, old: Content, new: Content, properties: dict[str, Any] = PROPERTIES
    ) -> None:
        """Store a collection and derive its index, in calls of a few documents each."""
        digest = await self.store(name, new)
        changed = sorted(make_record({"_id": key, **fields}) for key, fields in new.items() if old.get(key) != fields)
        gone = sorted(key for key in old if key not in new)
        async with self.search.derive(name, base=base, collection=name, properties=properties) as patcher:
            for start in range(0, len(changed), 7):
                await patcher.put(changed[start : start + 7])
            await patcher.delete(gone)
            assert await patcher.commit() == len(new)
        info = await self.search.info(name)
        assert info is not None
        assert (info.count, info.digest, info.properties) == (len(new), digest, properties)

    async def ids(self, name: str, query: str | None = None, **options: Any) -> list[str]:
        result = await self.search.search(name, SearchRequest(query=query, **{"size": 1000, **options}))
        assert result.total >= len(result.hits)
        return [hit.id for hit in result.hits]

    async def walk(self, name: str, query: str | None = None) -> list[str]:
        found: list[str] = []
        page = await self.search.search(name, SearchRequest(query=query, size=3, in_id_order=True))
        while True:
            found += [hit.id for hit in page.hits]
            if page.next_page is None:
                return found
            page = await self.search.search(name, SearchRequest(query=query, size=3, after=page.next_page))


@asynccontextmanager
async def open_engines(home: Path) -> AsyncIterator[Engines]:
    chosen = Settings(home=home)
    documents = await open_documents(chosen)
    search = await open_search(chosen, documents)
    try:
        yield Engines(documents, search)
    finally:
        await search.close()
        await documents.close()


def play(home: Path, scenario: Callable[[Engines], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_engines(home) as engines:
            try:
                await scenario(engines)
            finally:
                for name in await engines.search.names():  # a server is there for the next example too
                    await engines.search.drop(name)

    asyncio.run(main())


def make_content(*keys: int, word: str = "alpha") -> Content:
    return {f"id{key:03}": {"word": word, "name": f"some {word}", "number": key % 5} for key in keys}


async def check_equal(engines: Engines, left: str, right: str) -> None:
    """Whatever does not depend on scores is equal in two indices of the same documents."""
    for query in (None, "*", *WORDS, "word:beta OR number:[2 TO 3]", "_exists_:word", "NOT alpha", "name:some"):
        assert await engines.walk(left, query) == await engines.walk(right, query), query
        request = SearchRequest(query=query, size=0, facets=(FacetRequest("word"), FacetRequest("number")))
        one, other = [await engines.search.search(name, request) for name in (left, right)]
        assert (one.total, one.facets) == (other.total, other.facets)
        for key in (SortKey("word"), SortKey("number", descending=True), SortKey("_id", descending=True)):
            found = await engines.ids(left, query, sort=(key,))
            assert found == await engines.ids(right, query, sort=(key,)), (query, key)
    pages = [await engines.ids(left, None, offset=offset, size=4) for offset in range(0, 40, 4)]
    assert [item for page in pages for item in page] == (await engines.walk(right))[:40]


def test_documents_are_added_replaced_and_taken_out(tmp_path: Path) -> None:
    async def scenario(engines: Engines) -> None:
        old = make_content(*range(0, 30, 2))
        new = {**make_content(*range(4, 30, 2)), **make_content(4, 9, 99, word="beta")}
        await engines.build("one", old)
        await engines.derive("two", "one", old, new)
        await engines.build("whole", new)
        await check_equal(engines, "two", "whole")
        assert await engines.ids("two", "beta") == ["id004", "id009", "id099"]
        assert await engines.ids("two", "_id:id000") == []
        assert await engines.walk("one") == sorted(old)
        assert await engines.search.names() == ["one", "two", "whole"]

    play(tmp_path, scenario)


@pytest.mark.timeout(600)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 4))
def test_a_chain_of_derived_indices_equals_an_index_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret

    async def scenario(engines: Engines) -> None:
        content = make_content(*chance.sample(range(60), chance.randint(0, 40)))
        await engines.build("base", content)
        base = "base"
        for step in range(steps):
            new = dict(content)
            for key in chance.sample(range(80), chance.randint(0, 20)):
                if chance.random() < 0.4:
                    new.pop(f"id{key:03}", None)
                else:
                    new.update(make_content(key, word=chance.choice(WORDS)))
            await engines.derive(f"step{step}", base, content, new)
            content, base = new, f"step{step}"
        await engines.build("whole", content)
        await check_equal(engines, base, "whole")

    play(tmp_path_factory.mktemp("chain"), scenario)


def test_many_documents_at_one_place_keep_the_order(tmp_path: Path) -> None:
    async def scenario(engines: Engines) -> None:
        old = make_content(1, 900)
        content = old
        await engines.build("base", old)
        for step, keys in enumerate((range(100, 400), range(50, 450), range(901, 980), (0, *range(880, 990)))):
            new = {**content, **make_content(*keys, word="beta")}
            await engines.derive(f"step{step}", "base" if step == 0 else f"step{step - 1}", content, new)
            assert await engines.walk(f"step{step}") == sorted(new)
            content = new

    play(tmp_path, scenario)


def test_new_fields_are_searched_sorted_and_counted(tmp_path: Path) -> None:
    async def scenario(engines: Engines) -> None:
        old = make_content(*range(20))
        added: dict[str, Any] = {"code": {"type": "keyword"}, "note": {"type": "text"}, "size": {"type": "float"}}
        properties = {"code": added["code"], **PROPERTIES, "more": {"properties": added}}
        new = dict(old)
        for key in (3, 7, 30):
            more = {"code": [f"C{key}", "all"], "note": "quick brown", "size": key / 2}
            new[f"id{key:03}"] = {"word": "alpha", "number": 1, "code": f"X{key}", "more": more}
        await engines.build("one", old)
        await engines.derive("two", "one", old, new, properties)
        assert await engines.ids("two", "more.note:brown") == ["id003", "id007", "id030"]
        assert sorted(await engines.ids("two", "code:X7 OR more.code:C30")) == ["id007", "id030"]
        newest = await engines.ids("two", sort=(SortKey("more.size", descending=True),), size=3)
        assert newest == ["id030", "id007", "id003"]
        request = SearchRequest(query=None, facets=(FacetRequest("more.code"),))
        facet = (await engines.search.search("two", request)).facets["more.code"]
        assert (facet.terms[0].term, facet.terms[0].count) == ("all", 3)
        with_less = {key: fields for key, fields in new.items() if "more" not in fields}
        await engines.derive("three", "two", new, with_less)
        await engines.build("whole", with_less)
        await check_equal(engines, "three", "whole")

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "properties",
    [
        {**PROPERTIES, "number": {"type": "keyword"}},
        {**PROPERTIES, "word": {"type": "keyword"}},
        {**PROPERTIES, "name": {"type": "text"}},
        {**PROPERTIES, "word": {**PROPERTIES["word"], "index": False}},
    ],
    ids=["type", "normalizer", "copy_to", "index"],
)
def test_a_field_that_is_indexed_otherwise_needs_a_full_index(tmp_path: Path, properties: dict[str, Any]) -> None:
    async def scenario(engines: Engines) -> None:
        await engines.build("one", make_content(1, 2))
        with pytest.raises(CannotDerive, match="indexed differently"):
            await engines.derive("two", "one", make_content(1, 2), make_content(1), properties)
        assert await engines.search.names() == ["one"]

    play(tmp_path, scenario)


def test_a_base_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async def scenario(engines: Engines) -> None:
        assert await engines.search.info("one") is None
        with pytest.raises(NotFound):
            await engines.derive("two", "one", {}, make_content(1))

    play(tmp_path, scenario)


def test_what_is_not_committed_leaves_nothing_and_can_be_done_again(tmp_path: Path) -> None:
    async def scenario(engines: Engines) -> None:
        old, new = make_content(*range(10)), make_content(*range(5, 15))
        await engines.build("one", old)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the patcher is left by it
            async with engines.search.derive("two", base="one", collection="two", properties=PROPERTIES) as patcher:
                await patcher.put([make_record({"_id": "id100"})])
                raise ZeroDivisionError
        assert await engines.search.names() == ["one"]
        await engines.derive("two", "one", old, new)
        assert await engines.walk("two") == sorted(new)
        assert await engines.walk("one") == sorted(old)
        await engines.search.drop("one")
        assert await engines.walk("two", "alpha") == sorted(new)

    play(tmp_path, scenario)


def test_an_index_knows_the_digest_of_its_documents(tmp_path: Path) -> None:
    async def scenario(engines: Engines) -> None:
        content = make_content(*range(10))
        await engines.build("one", content)
        digest = Digest()
        digest.add([make_record({"_id": key, **fields})[1] for key, fields in content.items()])
        info = await engines.search.info("one")
        assert info is not None
        assert (info.count, info.digest) == (10, digest.hex())

    play(tmp_path, scenario)
