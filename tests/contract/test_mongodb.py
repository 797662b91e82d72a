"""What MongoDB adds to the contracts: servers that go away, answers that get lost, writers and readers that die, logins."""

import asyncio
import itertools
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from motor.motor_asyncio import AsyncIOMotorCursor
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.engines import MONGO_ENGINES
from support.flaky_proxy import FlakyProxy

from sourcebook.backends import open_documents, open_locks, open_state
from sourcebook.backends.mongo import leases as mongo_leases
from sourcebook.backends.mongo import state as mongo_state
from sourcebook.backends.mongo.documents import MongoDocumentStore
from sourcebook.backends.mongo.scan import MongoScan
from sourcebook.backends.mongo.server import MongoServer
from sourcebook.backends.mongo.state import MongoState
from sourcebook.errors import DocumentError, EngineUnavailable, NotFound, SettingsError
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.hub.jobs.model import Job
from sourcebook.ports.documents import DocumentStore
from sourcebook.settings import Settings

PATIENCE = timedelta(seconds=20)


@pytest.fixture(params=MONGO_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def records(first: int, last: int) -> list[Record]:
    return [make_record({"_id": f"id{number:05}", "text": "x" * 200}) for number in range(first, last)]


async def read_all(store: DocumentStore, name: str, size: int = 100) -> list[Record]:
    return [record async for batch in store.scan(name, size=size) for record in batch]


def run_behind_proxy(
    home: Path, url: str, scenario: Callable[[FlakyProxy, MongoDocumentStore, MongoState], Awaitable[None]]
) -> None:
    async def main() -> None:
        parts = urlsplit(url)
        proxy = FlakyProxy(parts.port or 0)
        await proxy.up()
        near = f"mongodb://127.0.0.1:{proxy.port}{parts.path}"
        settings = Settings(home=home, documents_url=near, state_url=near, engine_patience=PATIENCE)
        store, state = await open_documents(settings), await open_state(settings)
        assert isinstance(store, MongoDocumentStore)
        assert isinstance(state, MongoState)
        try:
            await scenario(proxy, store, state)
        finally:
            await store.close()
            await state.close()
            await proxy.down()

    asyncio.run(main())


def test_a_server_that_is_away_for_a_while_loses_and_doubles_nothing(tmp_path: Path, mongo_url: str) -> None:
    async def scenario(proxy: FlakyProxy, store: MongoDocumentStore, state: MongoState) -> None:
        async with store.create("c") as writer:
            for start in range(0, 2000, 200):
                absence = asyncio.create_task(proxy.away(0.7)) if start in {400, 1600} else None
                await writer.write(records(start, start + 200))
                await state.update(
                    Job,
                    "a",
                    lambda job: job.model_copy(update={"attempt": job.attempt + 1}),
                    default=Job(id="a", kind="dump", target="t", lock="l"),
                )
                if absence is not None:
                    await absence
            info = await writer.commit()
        assert info.count == 2000
        found: list[Record] = []
        async for batch in store.scan("c", size=300):
            if not found:
                absence = asyncio.create_task(proxy.away(0.7))
            found += batch
        assert found == records(0, 2000)
        job = await state.get(Job, "a")
        assert job is not None
        assert job.attempt == 10

    run_behind_proxy(tmp_path, mongo_url, scenario)


def test_a_lost_answer_to_a_write_does_not_repeat_it(tmp_path: Path, mongo_url: str) -> None:
    async def scenario(proxy: FlakyProxy, store: MongoDocumentStore, state: MongoState) -> None:
        async with store.create("c") as writer:
            await writer.write(records(0, 50))
            proxy.lose_answer_to(b"id00060")
            await writer.write(records(50, 100))
            proxy.lose_answer_to(b"digest")
            info = await writer.commit()
        assert info.count == 100
        assert await read_all(store, "c") == records(0, 100)
        job = Job(id="a", kind="dump", target="t", lock="l")
        proxy.lose_answer_to(b"Job/a\0\x10revision")
        assert await state.insert("a", job)
        assert not await state.insert("a", job)
        for attempt in range(1, 4):
            proxy.lose_answer_to(b'"attempt":%d' % attempt)
            await state.update(Job, "a", lambda job: job.model_copy(update={"attempt": job.attempt + 1}))
        found = await state.get(Job, "a")
        assert found is not None
        assert found.attempt == 3
        assert proxy.lost_answers >= 5

    run_behind_proxy(tmp_path, mongo_url, scenario)


def test_a_server_that_stays_away_is_named_without_the_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        url = "mongodb://me:hunter2@127.0.0.1:1/db"
        settings = Settings(home=tmp_path, documents_url=url, state_url=url, engine_patience=timedelta(seconds=0.3))
        store, state = await open_documents(settings), await open_state(settings)
        for call in (store.names(), state.get(Job, "a"), state.insert("a", Job(kind="dump", target="t", lock="l"))):
            with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:1") as caught:
                await call
            assert "hunter2" not in f"{caught.value} {caught.value.details}"
        await store.close()
        await state.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://me:hun/ter2@host/db",
        "mongodb://me:hunter2@ho st:x/db",
        "mongodb://",
        "mongodb://me:hunter2@host/d b.c",
        "mongodb://host/db?tls=perhaps",
    ],
)
def test_a_wrong_url_says_how_it_is_written_and_hides_the_password(tmp_path: Path, url: str) -> None:
    async def scenario() -> None:
        for opener, settings in (
            (open_documents, Settings(home=tmp_path, documents_url=url)),
            (open_state, Settings(home=tmp_path, state_url=url)),
        ):
            with pytest.raises(SettingsError, match="mongodb://user:password@host") as caught:
                await opener(settings)
            assert "ter2" not in str(caught.value)
            assert caught.value.__cause__ is None

    asyncio.run(scenario())


def test_a_wrong_scheme_lists_those_there_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(SettingsError, match=r"'mongo'; known are lmdb:, mongodb:, mongodb\+srv:"):
            await open_documents(Settings(home=tmp_path, documents_url="mongo://host/db"))
        with pytest.raises(SettingsError, match="SOURCEBOOK_LOCKS_URL has the scheme 'http'"):
            await open_locks(Settings(home=tmp_path, locks_url="http://host"))

    asyncio.run(scenario())


def test_a_missing_extra_is_an_error_that_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_reference: str) -> None:
        raise ModuleNotFoundError("No module named 'motor'", name="motor.motor_asyncio")

    monkeypatch.setattr("sourcebook.backends.load_reference", missing)
    with pytest.raises(SettingsError, match=r"pip install 'sourcebook\[mongo\]'"):
        asyncio.run(open_documents(Settings(home=tmp_path, documents_url="mongodb://host")))


def test_what_a_dead_writer_left_is_removed_and_a_living_one_is_let_be(tmp_path: Path, mongo_url: str) -> None:
    async def scenario() -> None:
        settings = Settings(home=tmp_path, documents_url=mongo_url)
        dying, living = await open_documents(settings), await open_documents(settings)
        with MongoClient[dict[str, Any]](mongo_url) as client:
            database = client.get_default_database()

            def data() -> list[str]:
                return [name for name in database.list_collection_names() if name.startswith("documents.data.")]

            abandoned = dying.create("dead")  # never left, as if the process had been killed
            await (await abandoned.__aenter__()).write(records(0, 5))
            async with living.create("alive") as writer:
                await writer.write(records(0, 5))
                async with living.create("first"):
                    assert len(data()) == 2
                gone = {"collection": {"$regex": r"\.dead\."}}
                database["documents.leases"].update_one(gone, {"$set": {"until": 0.0}})
                async with living.create("second"):
                    assert len(data()) == 1
                await writer.commit()
            assert await living.names() == ["alive"]
            assert await read_all(living, "alive") == records(0, 5)
        await dying.close()
        await living.close()

    asyncio.run(scenario())


def test_a_reader_in_another_process_keeps_a_dropped_collection_until_it_is_done(
    tmp_path: Path, mongo_url: str
) -> None:
    async def scenario() -> None:
        settings = Settings(home=tmp_path, documents_url=mongo_url)
        one, other = await open_documents(settings), await open_documents(settings)
        async with one.create("c") as writer:
            await writer.write(records(0, 30))
            await writer.commit()
        assert await other.get_many("c", ["id00001"]) != [None]
        found = []
        async for batch in other.scan("c", size=10):
            found += batch
            await one.drop("c")
            async with one.create("x"):
                pass
        assert found == records(0, 30)
        with pytest.raises(NotFound):
            await read_all(other, "c")
        async with one.create("x"):
            pass
        with pytest.raises(NotFound):
            await other.get_many("c", ["id00001"])
        with MongoClient[dict[str, Any]](mongo_url) as client:
            names = client.get_default_database().list_collection_names()
            assert not [name for name in names if name.startswith("documents.data.")]
        await one.close()
        await other.close()

    asyncio.run(scenario())


def test_a_lease_is_renewed_though_the_event_loop_stands_still(
    tmp_path: Path, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_leases, "_RENEW_SECONDS", 0.05)

    async def scenario() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        with MongoClient[dict[str, Any]](mongo_url) as client:
            leases = client.get_default_database()["documents.leases"]
            async with store.create("c"):
                (first,) = leases.find({})
                while [lease["until"] for lease in leases.find({})] == [first["until"]]:
                    pass
            assert list(leases.find({})) == []
        await store.close()

    asyncio.run(scenario())


def test_what_keeps_a_lease_from_being_renewed_ends_who_holds_it(
    tmp_path: Path, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def refuse(_: MongoServer) -> MongoServer:
        refused.set()
        raise SettingsError("MongoDB refuses the login.")

    monkeypatch.setattr(mongo_leases, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(MongoServer, "reopen", refuse)

    async def scenario() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        with pytest.raises(SettingsError, match="refuses the login"):  # noqa: PT012
            async with store.create("c"):
                await asyncio.to_thread(refused.wait)
                await asyncio.to_thread(store._leases._renewal._thread.join)  # type: ignore[attr-defined]
        monkeypatch.undo()
        async with store.create("c") as writer:
            await writer.write(records(0, 1))
            await writer.commit()
        await store.close()

    asyncio.run(scenario())


def test_a_reader_that_was_taken_for_dead_says_so(
    tmp_path: Path, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        async with store.create("c") as writer:
            await writer.write(records(0, 30))
            await writer.commit()
        monkeypatch.setattr(mongo_leases, "_LEASE_SECONDS", -1.0)
        with pytest.raises(EngineUnavailable, match="was removed while it was read"):  # noqa: PT012
            async for _ in store.scan("c", size=10):
                await store.drop("c")
        await store.close()

    asyncio.run(scenario())


def test_a_cursor_that_the_server_forgot_is_opened_again_behind_the_last_page(tmp_path: Path, mongo_url: str) -> None:
    async def scenario() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        assert isinstance(store, MongoDocumentStore)
        async with store.create("c") as writer:
            await writer.write(records(0, 95))
            await writer.commit()
        ((physical, _),) = await store._find_segments("c")
        found, forgotten = [], set()
        scan = MongoScan(store._server, physical, start=b"id00005", stop=b"id00090", size=10)
        async for page in scan.pages():
            found += page
            if scan._cursor is not None and scan._cursor.cursor_id:
                forgotten.add(scan._cursor.cursor_id)
                await store._server.database.command("killCursors", physical, cursors=[scan._cursor.cursor_id])
        assert found == records(5, 90)
        assert len(forgotten) > 1
        await store.close()

    asyncio.run(scenario())


def test_a_cursor_that_the_server_ended_early_is_opened_again(
    tmp_path: Path, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FerretDB answers so when a cursor is killed while it reads for it; here it is made to happen at the third page."""
    to_list, pages = AsyncIOMotorCursor.to_list, itertools.count(1)

    def end_early(cursor: AsyncIOMotorCursor[Any], length: int | None) -> Awaitable[list[Any]]:
        async def rows() -> list[Any]:
            found = await to_list(cursor, length)
            return found[:4] if next(pages) == 3 else found

        return rows()

    async def scenario() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        async with store.create("c") as writer:
            await writer.write(records(0, 95))
            await writer.commit()
        monkeypatch.setattr(AsyncIOMotorCursor, "to_list", end_early)
        found = [
            record async for page in store.scan("c", start=b"id00005", stop=b"id00090", size=10) for record in page
        ]
        assert found == records(5, 90)
        await store.close()

    asyncio.run(scenario())


def test_a_collection_that_lost_documents_is_not_committed(tmp_path: Path, mongo_url: str) -> None:
    async def scenario() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        with pytest.raises(EngineUnavailable, match="has 2 of 3 documents"):  # noqa: PT012
            async with store.create("c") as writer:
                await writer.write(records(0, 3))
                await writer.collection.delete_one({})  # type: ignore[attr-defined] # reaches inside
                await writer.commit()
        assert await store.names() == []
        await store.close()

    asyncio.run(scenario())


def test_a_document_that_is_too_large_is_an_error_of_the_document(tmp_path: Path, mongo_url: str) -> None:
    async def scenario() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        with pytest.raises(DocumentError, match="16 MB"):
            async with store.create("c") as writer:
                await writer.write([make_record({"_id": "a", "text": "x" * 17_000_000})])
        largest = make_record({"_id": "ü" * 256, "text": "x" * 16_774_600})
        async with store.create("c") as writer:
            await writer.write([largest])
            await writer.commit()
        assert await read_all(store, "c") == [largest]
        await store.close()

    asyncio.run(scenario())


def test_changes_wait_for_a_writer_that_is_on_its_way_and_not_for_a_dead_one(
    tmp_path: Path, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        settings = Settings(home=tmp_path, state_url=mongo_url)
        one, other = await open_state(settings), await open_state(settings)
        assert isinstance(one, MongoState)
        job = Job(id="a", kind="dump", target="t", lock="l")
        await one.put("a", job)
        slow = await one._announce("slow")
        await other.put("b", job)
        position, seen = await other.changes(Job, 0)
        assert (position < slow, len(seen)) == (True, 1)
        assert await other.position(Job) == position
        monkeypatch.setattr(mongo_state, "_ANNOUNCED_SECONDS", 0.05)
        await asyncio.sleep(0.1)
        newest, seen = await other.changes(Job, position)
        assert (newest > slow, len(seen)) == (True, 1)
        # The writer was only slow: it notices, and its record comes with a position that readers have not passed.
        monkeypatch.setattr(mongo_state, "_ANNOUNCED_SECONDS", 15.0)

        async def write(position: int, token: str) -> bool:
            fields = mongo_state._fields(job, position, token)
            await one._records.insert_one({"_id": "Job/c", "revision": 1, **fields})
            await one._withdraw(token)  # what a reader does who takes it for dead
            return True

        assert await one._write("Job/c", write)
        _, seen = await other.changes(Job, newest)
        assert len(seen) == 1
        await one.close()
        await other.close()

    asyncio.run(scenario())


def test_no_log_line_has_a_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        url = "mongodb://me:hunter2@127.0.0.1:1/db?tlsCertificateKeyFilePassword=hunter2"
        settings = Settings(
            home=tmp_path,
            documents_url=url.partition("?")[0],
            locks_url="redis://:hunter2@127.0.0.1:1/0",
            engine_patience=timedelta(seconds=0.3),
        )
        for opened in (await open_documents(settings), await open_locks(settings)):
            call = opened.names() if hasattr(opened, "names") else opened.holder("x")
            with pytest.raises(EngineUnavailable):
                await call
            await opened.close()

    with caplog.at_level(logging.DEBUG, logger="sourcebook"):
        asyncio.run(scenario())
    printed = capsys.readouterr()
    assert "mongodb_away" in caplog.text + printed.out + printed.err
    assert "hunter2" not in caplog.text + printed.out + printed.err


def test_a_server_that_hangs_is_given_up_after_the_patience(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
            url = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/db"
            patience = timedelta(seconds=0.4)
            store = await open_documents(Settings(home=tmp_path, documents_url=url, engine_patience=patience))
            started = time.monotonic()
            with pytest.raises(EngineUnavailable):
                await store.names()
            assert time.monotonic() - started < 5
            await store.close()

    asyncio.run(scenario())


def test_a_wrong_password_is_told_at_once_and_hidden(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise OperationFailure("Authentication failed.", 18)

    async def forbid() -> None:
        raise OperationFailure("not authorized on db to execute command { find: 'x' }", 13)

    async def scenario() -> None:
        url = "mongodb://me:hunter2@127.0.0.1:1/db"
        store = await open_documents(Settings(home=tmp_path, documents_url=url))
        assert isinstance(store, MongoDocumentStore)
        for call, advice in ((refuse, "check user, password and authSource"), (forbid, "the role readWrite")):
            with pytest.raises(SettingsError, match=advice) as caught:
                await store._server.run(call)
            assert "hunter2" not in str(caught.value)
        await store.close()

    asyncio.run(scenario())
