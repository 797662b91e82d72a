"""How documents are flattened, and how an index comes to be in one step."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from sourcebook.backends.tantivy.fields import FieldTable
from sourcebook.backends.tantivy.flatten import DocumentFlattener
from sourcebook.backends.tantivy.ids import build_number
from sourcebook.backends.tantivy.index import FORMAT, MANIFEST_FILE
from sourcebook.backends.tantivy.search import TantivySearchEngine
from sourcebook.backends.tantivy.writer import Backlog
from sourcebook.errors import Conflict, EngineUnavailable, InvalidName, StoreDamaged
from sourcebook.hub.documents.record import make_record
from sourcebook.language.requests import SearchRequest

KEYWORD = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}


class EchoDocuments:
    """A document store for tests: has every document, empty."""

    async def get_many(self, _name: str, ids: list[str], **_: Any) -> list[bytes | None]:
        return [b"{}" for _ in ids]


def make_engine(home: Path) -> TantivySearchEngine:
    return TantivySearchEngine(home, EchoDocuments())  # type: ignore[arg-type]


async def fill(engine: TantivySearchEngine, name: str, *ids: str) -> int:
    async with engine.create(name, collection="c", properties={"k": KEYWORD}, settings={}) as writer:
        await writer.add([make_record({"_id": item, "k": item}) for item in ids])
        return await writer.commit()


def flatten(properties: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    flattener = DocumentFlattener(FieldTable(properties))
    found: dict[str, Any] = orjson.loads(flattener.flatten(make_record({"_id": "x", **document})[1], 7)[1])
    assert (found.pop("_id"), found.pop("_rn")) == ("x", 7)
    assert 0 <= found.pop("_random") < 2**32
    return found


def test_a_document_is_flattened_to_the_leaves_of_the_mapping() -> None:
    properties = {
        "k": KEYWORD,
        "n": {"type": "integer"},
        "o": {"properties": {"p": {"properties": {"k": {"type": "keyword"}}}}},
        "w": {"type": "text", "analyzer": "whitespace"},
    }
    document = {
        "k": ["B", "a", "b"],
        "n": [3, 3],
        "o": [{"p": {"k": "X"}}, {"p": [{"k": "Y"}, None]}],
        "w": "A-b c",
        "other": 1,
    }
    assert flatten(properties, document) == {
        "f0": ["a", "b"],
        "h0": "b",
        "f1": 3,
        "f2": ["X", "Y"],
        "h2": "Y",
        "f3": "A-b c",
        "_present": ["f3"],
    }


def test_a_dotted_key_is_read_as_objects() -> None:
    properties = {"a": {"properties": {"b": {"properties": {"c": {"type": "keyword"}}}}}}
    assert flatten(properties, {"a.b.c": 1, "a.x": 2, "z.b": 3, ".": 4}) == {"f0": "1"}
    assert flatten(properties, {"a": {"b.c": [1, [2]]}, "a.b": {"c": 3}}) == {"f0": ["1", "2", "3"], "h0": "3"}


def test_values_are_copied_to_other_fields() -> None:
    properties: dict[str, Any] = {
        "k": {**KEYWORD, "copy_to": ["all", "both"]},
        "t": {"type": "text", "copy_to": "all", "fields": {"raw": {"type": "keyword", "ignore_above": 8}}},
        "n": {"type": "integer", "index": False, "copy_to": "all"},
        "both": {"type": "text"},
    }
    assert flatten(properties, {"k": "A-B", "t": "Some Words", "n": 5, "both": "own"}) == {
        "f0": "a-b",
        "f1": "some words",
        "f4": ["own", "a b"],
        "_ignored": ["t.raw"],
        "_present": ["f4", "f1"],
        "all": ["a b", "5", "some words"],
    }


def test_values_that_cannot_be_indexed_are_noted() -> None:
    properties: dict[str, Any] = {
        "n": {"type": "integer"},
        "b": {"type": "boolean"},
        "k": KEYWORD,
        "o": {"properties": {"p": {"properties": {"k": KEYWORD}}}},
        "w": {"type": "text", "analyzer": "keyword"},
        "off": {"type": "object", "enabled": False},
    }
    long = "x" * 33_000
    assert flatten(properties, {"n": ["x", True, "y"], "b": 2, "k": long, "w": long}) == {
        "_ignored": ["b", "k", "n", "w"],
        "_present": ["f4"],
    }
    # An object where the mapping has a value, and the reverse; nothing is not a value.
    assert flatten(properties, {"n": {"x": 1}, "k": [{"x": 1}, "a"], "o": ["x", {"p": 1}], "w": {"x": "y"}}) == {
        "f2": "a",
        "_ignored": ["k", "n", "o", "o.p", "w"],
    }
    assert flatten(properties, {"n": [], "k": {}, "o": {"p": [None]}, "b": None, "off": 1}) == {}


def test_a_writer_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with make_engine(tmp_path).create(
            "one", collection="c", properties={"k": KEYWORD}, settings={}
        ) as writer:
            await writer.add([make_record({"_id": "a"})])
            assert [path.name[:9] for path in tmp_path.iterdir()] == [".new-one-"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.05])
@pytest.mark.parametrize("has_commit", [False, True])
def test_a_cancelled_writer_leaves_a_whole_index_or_nothing(tmp_path: Path, delay: float, has_commit: bool) -> None:
    records = [make_record({"_id": f"{number:05}", "k": "a"}) for number in range(2000)]

    async def write(engine: TantivySearchEngine) -> None:
        async with engine.create("one", collection="c", properties={"k": KEYWORD}, settings={}) as writer:
            while True:
                await writer.add(records)
                if has_commit:
                    await writer.commit()
                    return

    async def scenario() -> None:
        engine = make_engine(tmp_path)
        task = asyncio.create_task(write(engine))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert [path.name for path in tmp_path.iterdir()] in ([], ["one"])
    if (tmp_path / "one").exists():
        found = asyncio.run(make_engine(tmp_path).search("one", SearchRequest("k:a", size=0)))
        assert found.total == 2000


def test_a_finished_writer_takes_nothing_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path)
        async with engine.create("one", collection="c", properties={"k": KEYWORD}, settings={}) as writer:
            await writer.commit()
            with pytest.raises(Conflict):
                await writer.add([make_record({"_id": "a"})])
            with pytest.raises(Conflict):
                await writer.commit()

    asyncio.run(scenario())


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    async def scenario() -> None:
        for name in (".new-dead-1", ".dropped-dead-2", ".new-alive-3", "kept"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").touch()
        lock = os.open(tmp_path / ".new-alive-3" / ".lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert await fill(make_engine(tmp_path), "one", "a") == 1
        os.close(lock)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".new-alive-3", "kept", "one"]

    asyncio.run(scenario())


def test_two_writers_work_side_by_side_and_the_first_to_commit_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, other = make_engine(tmp_path), make_engine(tmp_path)
        async with engine.create("one", collection="c", properties={"k": KEYWORD}, settings={}) as writer:
            await writer.add([make_record({"_id": "a"}), make_record({"_id": "b"})])
            assert await fill(other, "one", "z") == 1
            assert await writer.commit() == 2
        assert [hit.id for hit in (await engine.search("one", SearchRequest())).hits] == ["z"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]

    asyncio.run(scenario())


def test_a_dropped_index_serves_the_searches_that_have_it_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, other = make_engine(tmp_path), make_engine(tmp_path)
        await fill(engine, "one", *[f"{number:03}" for number in range(500)])
        await engine.search("one", SearchRequest("k:001"))
        index = engine._index("one")
        await other.drop("one")
        assert list(tmp_path.iterdir()) == []
        assert index.ids.get(build_number(499)) == "499"
        query = index.translator.translate_string("k:4*")
        assert index.count_hits(query) == 100

    asyncio.run(scenario())


def test_only_so_many_indices_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook.backends.tantivy.search._MAX_OPEN", 2)

    async def scenario() -> None:
        engine = make_engine(tmp_path)
        for name in ("one", "two", "three"):
            await fill(engine, name, name)
        for name in ("one", "two", "one", "three", "one", "two"):
            assert (await engine.search(name, SearchRequest("*"))).hits[0].id == name
            assert len(engine._open) <= 2
        assert list(engine._open) == ["one", "two"]

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\0b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    engine = make_engine(tmp_path)
    with pytest.raises(InvalidName):
        asyncio.run(engine.count(name))
    with pytest.raises(InvalidName):
        asyncio.run(engine.drop(name))


def test_an_index_of_another_format_is_not_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path)
        await fill(engine, "one", "a")
        manifest = tmp_path / "one" / MANIFEST_FILE
        manifest.write_bytes(manifest.read_bytes().replace(b'"format": %d' % FORMAT, b'"format": 99'))
        with pytest.raises(EngineUnavailable, match=r"format 99.*release apply"):
            await engine.search("one", SearchRequest())

    asyncio.run(scenario())


def test_a_broken_index_is_damaged(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path)
        await fill(engine, "one", "a")
        (tmp_path / "one" / "meta.json").write_text("{")
        with pytest.raises(StoreDamaged, match=r"meta\.json"):
            await engine.search("one", SearchRequest())

    asyncio.run(scenario())


def test_a_closed_engine_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path)
        await fill(engine, "one", "a")
        await engine.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await engine.search("one", SearchRequest())

    asyncio.run(scenario())


def test_a_document_that_the_store_lost_is_an_error(tmp_path: Path) -> None:
    class NoDocuments:
        async def get_many(self, _name: str, ids: list[str], **_: Any) -> list[bytes | None]:
            return [None for _ in ids]

    async def scenario() -> None:
        await fill(make_engine(tmp_path), "one", "a")
        engine = TantivySearchEngine(tmp_path, NoDocuments())  # type: ignore[arg-type]
        with pytest.raises(EngineUnavailable, match="no document 'a'"):
            await engine.search("one", SearchRequest())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("size", "count", "waits"),
    [(1_000_000, 40, 2), (20_000, 2_000, 2), (400, 200_000, 0)],
    ids=["large documents", "middling documents", "small documents"],
)
def test_what_waits_for_the_engine_s_threads_is_bounded_by_bytes(size: int, count: int, waits: int) -> None:
    backlog = Backlog()
    batch = [(b"k", b"x" * size)] * 10
    assert sum(backlog.is_full(batch) for _ in range(count // 10)) == waits
