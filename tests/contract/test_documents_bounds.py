"""What a document store gives at a time is bounded by documents and by bytes, and so is what it holds open; on every engine."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from sourcebook.backends import open_documents
from sourcebook.backends.lmdb import documents as documents_lmdb
from sourcebook.backends.mongo.writer import KeySample
from sourcebook.errors import NotFound
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.ports.documents import DocumentStore, get_from_each
from sourcebook.settings import Settings

Scenario = Callable[[DocumentStore], Awaitable[None]]
pytestmark = pytest.mark.usefixtures("documents_engine")
only_on_lmdb = pytest.mark.parametrize("documents_engine", ["lmdb"], indirect=True)
LARGE = 100_000


def run(home: Path, scenario: Scenario) -> None:
    async def main() -> None:
        store = await open_documents(Settings(home=home))
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def document(document_id: str, size: int) -> Record:
    return make_record({"_id": document_id, "text": "x" * size})


async def fill(store: DocumentStore, name: str, records: list[Record]) -> None:
    async with store.create(name) as writer:
        await writer.write(records)
        await writer.commit()


def measure(batch: list[Record]) -> int:
    return sum(len(value) for _, value in batch)


def test_a_batch_of_large_documents_is_bounded_by_bytes(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        records = [document(f"id{number:03}", LARGE) for number in range(40)]
        await fill(store, "c", records)
        batches = [batch async for batch in store.scan("c", size=1000, max_bytes=5 * LARGE)]
        assert [record for batch in batches for record in batch] == records
        assert max(map(measure, batches)) <= 6 * LARGE
        assert len(batches) < 20  # and they are not smaller than they have to be
        alone = [batch async for batch in store.scan("c", size=1000, max_bytes=1)]
        assert [len(batch) for batch in alone] == [1] * 40
        counted = [batch async for batch in store.scan("c", size=3, max_bytes=5 * LARGE)]
        assert {len(batch) for batch in counted} == {3, 1}

    run(tmp_path, scenario)


def test_documents_that_grow_suddenly_do_not_come_all_at_once(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        records = [document(f"id{number:03}", 10 if number < 100 else LARGE) for number in range(200)]
        await fill(store, "c", records)
        batches = [batch async for batch in store.scan("c", size=1000, max_bytes=LARGE)]
        assert [record for batch in batches for record in batch] == records
        assert max(map(measure, batches)) <= 40 * LARGE
        found = [record async for b in store.scan("c", start=b"id050", stop=b"id150", max_bytes=LARGE) for record in b]
        assert found == records[50:150]

    run(tmp_path, scenario)


def test_small_documents_come_in_batches_of_the_size_that_is_asked_for(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", [document(f"id{number:03}", 10) for number in range(100)])
        assert [len(batch) async for batch in store.scan("c", size=30)] == [30, 30, 30, 10]
        assert [len(batch) async for batch in store.scan("c", size=50)] == [50, 50]

    run(tmp_path, scenario)


def test_joined_collections_are_read_in_bounded_batches_too(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        records = [document(f"id{number:03}", LARGE if number % 2 else 10) for number in range(60)]
        await fill(store, "one", records[:7])
        await fill(store, "two", records[7:])
        await store.join("c", ["one", "two"])
        batches = [batch async for batch in store.scan("c", size=25, max_bytes=3 * LARGE)]
        assert [record for batch in batches for record in batch] == records

    run(tmp_path, scenario)


def test_get_many_ends_where_the_bytes_do(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        records = [document(f"id{number:03}", LARGE) for number in range(30)]
        await fill(store, "c", records)
        ids = ["missing", *(f"id{number:03}" for number in range(30))]
        whole = await store.get_many("c", ids)
        rest, found = ids, []
        while rest:
            bodies = await store.get_many("c", rest, max_bytes=4 * LARGE)
            assert 1 <= len(bodies) <= 6
            found += bodies
            rest = rest[len(bodies) :]
        assert found == whole
        assert await store.get_many("c", [], max_bytes=1) == []
        assert await store.get_many("c", ids[1:], max_bytes=1) == whole[1:2]

    run(tmp_path, scenario)


def test_several_collections_are_asked_for_as_many_ids_as_fit_together(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = [f"id{number:03}" for number in range(20)]
        await fill(store, "small", [document(item, 10) for item in ids])
        await fill(store, "large", [document(item, LARGE) for item in ids])
        found = await get_from_each(store, ["small", "large"], ids, max_bytes=10 * LARGE)
        count = len(found[0])
        assert 1 <= count <= 6
        assert found == [await store.get_many(name, ids[:count]) for name in ("small", "large")]
        assert await get_from_each(store, [], ids) == []

    run(tmp_path, scenario)


@only_on_lmdb
def test_more_scans_at_once_than_files_are_held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_lmdb, "_HELD_SCANS", 2)
    monkeypatch.setattr(documents_lmdb, "_OPEN_COLLECTIONS", 2)

    async def scenario(store: DocumentStore) -> None:
        names = [f"c{number}" for number in range(8)]
        for name in names:
            await fill(store, name, [document(f"{name}{number}", 10) for number in range(4)])
        scans = [store.scan(name, size=1) for name in names]
        for step in range(4):
            for name, scan in zip(names, scans, strict=True):
                assert (await anext(scan))[0][0] == f"{name}{step}".encode()
            mapped = Path("/proc/self/maps").read_text()
            assert sum(f"/{name}/data.mdb" in mapped for name in names) <= 5
            if step == 1:
                await store.drop("c0")  # held: it is read to its end
                await store.drop("c7")
                await fill(store, "c7", [document(f"c7{number}", 20) for number in range(4)])
                with pytest.raises(NotFound, match="'c7'"):
                    await anext(scans.pop())
                names.pop()

    run(tmp_path, scenario)


def test_sampled_keys_of_a_large_collection_are_about_evenly_spaced(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = [f"id{number:05}" for number in range(3000)]
        await fill(store, "c", [document(item, 1) for item in ids])
        keys = [key.decode() for key in await store.sample_keys("c", 300)]
        places = [ids.index(key) for key in keys]
        assert 9 <= len(places) <= 12
        assert all(200 <= after - before <= 400 for before, after in pairwise(places))
        await store.drop("c")
        await fill(store, "c", [document("a", 1)])
        assert await store.sample_keys("c", 300) == []

    run(tmp_path, scenario)


@only_on_lmdb
def test_a_sample_of_keys_stays_small() -> None:
    sample = KeySample()
    for start in range(0, 1_000_000, 999):
        sample.add([b"%07d" % number for number in range(start, min(start + 999, 1_000_000))])
    assert len(sample.ids) <= 4096
    assert sample.ids == [f"{number:07d}" for number in range(0, 1_000_000, sample.step)]
