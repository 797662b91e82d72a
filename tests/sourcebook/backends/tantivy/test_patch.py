"""What can go wrong with a derived tantivy index: a base that someone changed, one that is worn out, a full disk, a kill."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tantivy

from sourcebook.backends.tantivy.fields import SPARE_FIELDS, Kind
from sourcebook.backends.tantivy.search import TantivySearchEngine
from sourcebook.errors import CannotDerive, Conflict, EngineUnavailable, IndexDamaged
from sourcebook.hub.documents.record import canonical_json, make_record
from sourcebook.language.requests import SearchRequest

KEYWORD = {"type": "keyword"}


class KnownDocuments:
    """A document store for tests: has the documents `{"_id": i, "k": i}` of some ids."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    async def get_many(self, _name: str, ids: list[str], **_: Any) -> list[bytes | None]:
        return [canonical_json({"_id": item, "k": item}) if item in self.ids else None for item in ids]


def make_engine(home: Path, *ids: str) -> TantivySearchEngine:
    documents = KnownDocuments()
    documents.ids |= set(ids)
    return TantivySearchEngine(home, documents)  # type: ignore[arg-type]


async def fill(engine: TantivySearchEngine, name: str, *ids: str) -> None:
    async with engine.create(name, collection="c", properties={"k": KEYWORD}, settings={}) as writer:
        await writer.add([make_record({"_id": item, "k": item}) for item in ids])
        await writer.commit()


@asynccontextmanager
async def derive(
    engine: TantivySearchEngine, name: str, base: str, properties: dict[str, Any] | None = None
) -> AsyncIterator[Any]:
    chosen = properties or {"k": KEYWORD}
    async with engine.derive(name, base=base, collection="c", properties=chosen) as patcher:
        yield patcher


def test_an_index_that_someone_wrote_to_is_damaged(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path, "a", "b")
        await fill(engine, "one", "a", "b")
        writer = tantivy.Index.open(str(tmp_path / "one")).writer(15_000_000, 1)
        writer.delete_documents_by_term("_id", "a")
        writer.commit()
        writer.wait_merging_threads()
        with pytest.raises(IndexDamaged, match=r"one was changed .*--mode full"):
            await engine.info("one")
        with pytest.raises(IndexDamaged):
            async with derive(engine, "two", "one"):
                pass
        assert await engine.names() == ["one"]

    asyncio.run(scenario())


def test_an_index_that_is_not_that_of_its_collection_is_damaged(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path, "a", "other")
        await fill(engine, "one", "a", "b")
        async with derive(engine, "two", "one") as patcher:
            with pytest.raises(IndexDamaged):
                await patcher.put([make_record({"_id": "b", "k": "new"})])
        async with derive(engine, "two", "one") as patcher:
            with pytest.raises(IndexDamaged):
                await patcher.delete(["other"])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]

    asyncio.run(scenario())


def test_segments_that_were_removed_make_an_index_damaged(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path, "a")
        await fill(engine, "one", "a")
        for path in (tmp_path / "one").glob("*.term"):
            path.unlink()
        with pytest.raises(IndexDamaged):  # noqa: PT012 - on some systems later than on others
            async with derive(engine, "two", "one") as patcher:
                await patcher.delete(["a"])
                await patcher.commit()

    asyncio.run(scenario())


def test_a_disk_that_is_full_is_said_and_leaves_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario() -> None:
        engine = make_engine(tmp_path, "a", "b")
        await fill(engine, "one", "a", "b")
        monkeypatch.setattr("sourcebook.backends.tantivy.patch.shutil.copyfile", refuse)
        with pytest.raises(EngineUnavailable, match="Is the disk full"):
            async with derive(engine, "two", "one"):
                pass
        monkeypatch.undo()
        monkeypatch.setattr("sourcebook.backends.tantivy.patch.publish_folder", refuse)
        async with derive(engine, "two", "one") as patcher:
            await patcher.delete(["a"])
            with pytest.raises(EngineUnavailable, match="Is the disk full"):
                await patcher.commit()
        assert [path.name for path in tmp_path.iterdir()] == ["one"]
        assert (await engine.search("one", SearchRequest("*", size=0))).total == 2

    asyncio.run(scenario())


def test_a_file_system_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    async def scenario() -> None:
        engine = make_engine(tmp_path, "a", "b")
        await fill(engine, "one", "a", "b")
        monkeypatch.setattr("sourcebook.backends.tantivy.patch.os.link", refuse)
        async with derive(engine, "two", "one") as patcher:
            await patcher.delete(["a"])
            assert await patcher.commit() == 1
        assert (await engine.search("two", SearchRequest("k:b", size=0))).total == 1

    asyncio.run(scenario())


def test_an_index_that_was_patched_too_often_is_written_anew(tmp_path: Path) -> None:
    ids = [f"{number:05}" for number in range(2000)]

    async def scenario() -> None:
        engine = make_engine(tmp_path, *ids)
        await fill(engine, "one", *ids)
        async with derive(engine, "two", "one") as patcher:
            await patcher.put([make_record({"_id": item, "k": item, "n": 1}) for item in ids if int(item) % 4])
            await patcher.commit()
        with pytest.raises(CannotDerive, match=r"1,[45]\d\d documents that were replaced"):
            async with derive(engine, "three", "two"):
                pass

    asyncio.run(scenario())


def test_new_fields_beyond_the_spare_ones_need_a_full_index(tmp_path: Path) -> None:
    several = len(SPARE_FIELDS[Kind.KEYWORD])

    async def scenario() -> None:
        engine = make_engine(tmp_path, "a")
        await fill(engine, "one", "a")
        enough = {"k": KEYWORD, **{f"new{number}": KEYWORD for number in range(several)}}
        async with derive(engine, "two", "one", enough) as patcher:
            await patcher.commit()
        async with derive(engine, "less", "two") as patcher:  # a field that was taken is not taken again
            await patcher.commit()
        for base in ("two", "less"):
            with pytest.raises(CannotDerive, match="'more' is new"):
                async with derive(engine, "three", base, {"k": KEYWORD, "more": KEYWORD}):
                    pass
        with pytest.raises(CannotDerive, match="'whole' is new"):
            async with derive(engine, "three", "one", {"k": KEYWORD, "whole": {"type": "text", "analyzer": "keyword"}}):
                pass

    asyncio.run(scenario())


def test_a_patcher_takes_an_id_once_and_nothing_after_its_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path, "a")
        await fill(engine, "one", "a")
        async with derive(engine, "two", "one") as patcher:
            await patcher.put([make_record({"_id": "b"})])
            with pytest.raises(ValueError, match="twice"):
                await patcher.delete(["b"])
            assert await patcher.commit() == 2
            with pytest.raises(Conflict):
                await patcher.put([make_record({"_id": "c"})])

    asyncio.run(scenario())


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_patch import derive, make_engine, make_record

async def main():
    async with derive(make_engine(Path(sys.argv[1]), "a", "b"), "two", "one") as patcher:
        await patcher.put([make_record({"_id": f"c{n}"}) for n in range(500)])
        await patcher.delete(["a"])
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_killed_process_leaves_the_base_and_nothing_that_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = make_engine(tmp_path, "a", "b")
        await fill(engine, "one", "a", "b")
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
        ended = await asyncio.to_thread(subprocess.run, command, check=False, env=os.environ)
        assert ended.returncode == -signal.SIGKILL
        assert await engine.names() == ["one"]
        assert len(list(tmp_path.iterdir())) == 2
        assert (await engine.search("one", SearchRequest("k:a", size=0))).total == 1
        async with derive(engine, "two", "one") as patcher:
            await patcher.delete(["a"])
            assert await patcher.commit() == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]

    asyncio.run(scenario())
