"""What is read from a document store is what was written, or an error that says which collection is damaged; on every engine."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bson.binary import Binary
from pymongo import MongoClient

from sourcebook.backends import open_documents
from sourcebook.errors import NotFound, StoreDamaged
from sourcebook.hub.documents.record import Record, make_record, record_body
from sourcebook.ports.documents import DocumentStore
from sourcebook.settings import Settings

Scenario = Callable[[DocumentStore], Awaitable[None]]
pytestmark = pytest.mark.usefixtures("documents_engine")
only_on_lmdb = pytest.mark.parametrize("documents_engine", ["lmdb"], indirect=True)


def run(home: Path, scenario: Scenario) -> None:
    async def main() -> None:
        store = await open_documents(Settings(home=home))
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def record(document_id: str) -> Record:
    return make_record({"_id": document_id, "value": f"what {document_id} says"})


async def fill(store: DocumentStore, name: str, *ids: str) -> None:
    async with store.create(name) as writer:
        await writer.write(sorted(record(item) for item in ids))
        await writer.commit()


def damage(home: Path, name: str, document_id: str) -> None:
    """Change a letter of a stored document, as a disk that forgets does."""
    body = record_body(record(document_id))
    rotten = body.replace(b"says", b"sayt")
    url = os.environ.get("SOURCEBOOK_DOCUMENTS_URL")
    if url is None:
        path = home / "documents" / name / "data.mdb"
        data = path.read_bytes()
        assert data.count(body) == 1
        path.write_bytes(data.replace(body, rotten))
        return
    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        row = database["documents.collections"].find_one({"_id": name})
        assert row is not None
        changed = database[row["collection"]].update_one({"_id": document_id}, {"$set": {"json": Binary(rotten)}})
        assert changed.modified_count == 1


def test_a_document_that_changed_on_the_disk_is_an_error_and_not_an_answer(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", "a", "b")
        await fill(store, "other", "a", "b")
        damage(tmp_path, "c", "b")
        assert await store.get_many("c", ["a"]) == [record_body(record("a"))]
        for ids in (["b"], ["a", "b"], ["b"] * 100):
            with pytest.raises(StoreDamaged, match="'c' is damaged: the document 'b'"):
                await store.get_many("c", ids)
        assert None not in await store.get_many("other", ["a", "b"])

    run(tmp_path, scenario)


def test_a_damaged_collection_is_noticed_when_it_is_read_whole(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", "a", "b")
        await store.check("c")
        damage(tmp_path, "c", "b")
        with pytest.raises(StoreDamaged, match="'c' is damaged"):
            await _read_whole(store, "c")

    run(tmp_path, scenario)


async def _read_whole(store: DocumentStore, name: str) -> None:
    """Read a collection as builds and indexers do."""
    await store.check(name)
    async for _ in store.scan(name):
        pass


def test_verify_names_the_documents_that_are_damaged(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", "a", "b", "c")
        assert await store.verify("c") == []
        damage(tmp_path, "c", "b")
        problems = await store.verify("c")
        assert [problem for problem in problems if "'b'" in problem]
        assert not [problem for problem in problems if "'a'" in problem]

    run(tmp_path, scenario)


def test_what_is_not_there_cannot_be_checked(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        for ask in (store.check, store.verify):
            with pytest.raises(NotFound, match="'gone'"):
                await ask("gone")

    run(tmp_path, scenario)


@only_on_lmdb
@pytest.mark.parametrize("kept", [0, 1, 4096, 8192, 0.5, -1])
def test_a_file_that_was_cut_is_not_even_opened(tmp_path: Path, kept: float) -> None:
    async def scenario(store: DocumentStore) -> None:
        many = [f"id{number:05}" for number in range(2000)]
        await fill(store, "c", *many)
        await fill(store, "other", "a")
        path = tmp_path / "documents" / "c" / "data.mdb"
        size = path.stat().st_size
        os.truncate(path, int(kept) if kept >= 1 else int(size * kept) if kept >= 0 else size - 1)
        with pytest.raises(StoreDamaged, match="'c' is damaged"):
            await store.get_many("c", ["id00000"])
        with pytest.raises(StoreDamaged, match="bytes instead of"):
            await _read_whole(store, "c")
        with pytest.raises(StoreDamaged, match="'c' is damaged"):
            async for _ in store.scan("c"):
                pass
        assert await store.verify("c") != []
        assert await store.get_many("other", ["a"]) != [None]

    run(tmp_path, scenario)


@only_on_lmdb
def test_a_file_that_is_no_lmdb_file_any_more_is_damage(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", "a")
        path = tmp_path / "documents" / "c" / "data.mdb"
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(StoreDamaged, match="'c' is damaged"):
            await store.get_many("c", ["a"])
        assert len(await store.verify("c")) > 1

    run(tmp_path, scenario)


@only_on_lmdb
@pytest.mark.parametrize("name", ["info.json", "segments.json"])
def test_a_record_that_cannot_be_read_is_damage(tmp_path: Path, name: str) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "one", "a")
        await fill(store, "two", "b")
        await store.join("c", ["one", "two"])
        (tmp_path / "documents" / "c" / name).write_text("{")
        with pytest.raises(StoreDamaged, match=f"'c' is damaged: {name}"):
            await store.get_many("c", ["a"])

    run(tmp_path, scenario)


@only_on_lmdb
def test_damage_does_not_live_on_in_a_copy(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "base", "a", "b")
        async with store.derive("good", "base") as patcher:
            await patcher.put([record("c")])
            await patcher.commit()
        assert await store.verify("good") == []
        damage(tmp_path, "base", "b")
        with pytest.raises(StoreDamaged, match="'base' is damaged"):
            async with store.derive("bad", "base"):
                pass
        assert await store.names() == ["base", "good"]

    run(tmp_path, scenario)


@only_on_lmdb
def test_joined_collections_know_the_checksums_of_their_parts(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "one", "a")
        await fill(store, "none")
        await fill(store, "two", "b")
        await store.join("joined", ["one", "none", "two"])
        assert await store.verify("joined") == []
        assert await store.get_many("joined", ["a", "b"]) == [record_body(record(item)) for item in "ab"]
        path = tmp_path / "documents" / "joined" / "1.mdb"
        path.write_bytes(path.read_bytes().replace(b"says", b"sayt"))
        assert any("1.mdb" in problem for problem in await store.verify("joined"))

    run(tmp_path, scenario)


@only_on_lmdb
def test_collections_of_earlier_versions_are_read_and_verified(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", "a", "b")
        info = await store.info("c")
        assert info is not None
        old = info.model_dump_json(include={"name", "count", "digest", "size"})
        (tmp_path / "documents" / "c" / "info.json").write_text(old)
        assert await store.get_many("c", ["a"]) != [None]
        assert await store.verify("c") == []
        async with store.derive("d", "c") as patcher:
            await patcher.put([record("e")])
            await patcher.commit()
        assert "checksum" not in (tmp_path / "documents" / "d" / "info.json").read_text()
        damage(tmp_path, "c", "b")
        assert any("'b'" in problem for problem in await store.verify("c"))

    run(tmp_path, scenario)
