"""MongoDB finds what the stores ask for in an index: every filter that they send is explained by a server."""

import asyncio
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

from sourcebook.backends import open_documents, open_state
from sourcebook.backends.mongo import server as mongo_server
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.ports.documents import DocumentStore
from sourcebook.ports.state import INDEXES
from sourcebook.settings import Settings

# SecantusDB alone of the servers of the tests explains its plans; that MongoDB's planner takes the same index is its trade.
ENGINE = "secantus"
Asked = tuple[str, dict[str, Any], dict[str, int]]


class Recorder(CommandListener):
    """Notes the collection, the filter and the order of everything that is sent."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def started(self, event: Any) -> None:
        command = event.command
        match event.command_name:
            case "find":
                self.asked.append((command["find"], dict(command["filter"]), dict(command.get("sort", {}))))
            case "update" | "delete":
                for item in command[f"{event.command_name}s"]:
                    self.asked.append((command[event.command_name], dict(item["q"]), {}))
            case "findAndModify":
                self.asked.append((command["findAndModify"], dict(command["query"]), {}))
            case "aggregate":
                for step in command["pipeline"]:
                    self.asked.append((command["aggregate"], dict(step.get("$match", {})), {}))

    def succeeded(self, event: Any) -> None:
        """Nothing is asked for then."""

    def failed(self, event: Any) -> None:
        """Nothing is asked for then."""


@pytest.fixture
def engine() -> str:
    return ENGINE


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    client = functools.partial(AsyncIOMotorClient, event_listeners=[found])
    monkeypatch.setattr(mongo_server, "AsyncIOMotorClient", client)
    return found


def stages(plan: Any) -> Iterator[str]:
    if isinstance(plan, dict):
        if "stage" in plan:
            yield plan["stage"]
        for value in plan.values():
            yield from stages(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from stages(value)


def find_slow(url: str, recorder: Recorder) -> list[tuple[Asked, list[str]]]:
    """Return what was asked for that a server would read a whole collection for."""
    slow = []
    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        known = set(database.list_collection_names())
        assert recorder.asked
        for asked in recorder.asked:
            name, wanted, order = asked
            if name not in known or (not wanted and not order):  # gone, or small and read whole on purpose
                continue
            # Every collection has an index of `_id`, which SecantusDB does not show in its plans.
            if isinstance(wanted.get("_id"), str) or {*wanted, *order} <= {"_id"}:
                continue
            answer = database.command("explain", {"find": name, "filter": wanted, "sort": order})
            found = list(stages(answer["queryPlanner"]["winningPlan"]))
            if "COLLSCAN" in found:
                slow.append((asked, found))
    return slow


async def use_documents(store: DocumentStore) -> None:
    records = [make_record({"_id": f"id{number:05}", "text": "x"}) for number in range(300)]
    for name, part in (("a", records[:150]), ("b", records[150:])):
        async with store.create(name) as writer:
            await writer.write(part)
            await writer.commit()
    await store.join("c", ["a", "b"])
    await store.sample_keys("c", 10)
    async with store.derive("d", "c") as patcher:
        await patcher.put(records[:3])
        await patcher.delete([records[7][0]])
        await patcher.commit()
    every_bounds: tuple[dict[str, Any], ...] = ({}, {"start": b"id00100"}, {"start": b"id00100", "stop": b"id00200"})
    for bounds in every_bounds:
        assert [page async for page in store.scan("d", size=40, **bounds)]
    assert await store.get_many("d", ["id00001", "nosuch", "id00299"])
    assert await store.info("d")
    await store.drop("b")


def test_documents_are_found_by_indexes(tmp_path: Path, mongo_url: str, recorder: Recorder) -> None:
    async def main() -> None:
        store = await open_documents(Settings(home=tmp_path, documents_url=mongo_url))
        await use_documents(store)
        await store.close()

    asyncio.run(main())
    assert find_slow(mongo_url, recorder) == []


def test_records_are_found_by_indexes(tmp_path: Path, mongo_url: str, recorder: Recorder) -> None:
    async def main() -> None:
        state = await open_state(Settings(home=tmp_path, state_url=mongo_url))
        for number in range(3):
            await state.put(f"j{number}", Job(id=f"j{number}", kind="dump", target="t", lock="l"))
        await state.update(Job, "j1", lambda job: job.move_to(JobState.RUNNING))
        for kind, indexes in INDEXES.items():
            for fields in indexes:
                await state.find(kind, dict.fromkeys(fields, "queued"))
                await state.count(kind, {fields[0]: ("queued", "running")})
            await state.find(kind, newest_first=True, limit=20)
            await state.find(kind, newest_first=True, after="j1", limit=20)
            await state.changes(kind, 0)
            await state.position(kind)
        await state.delete(Job, "j2")
        await state.close()

    asyncio.run(main())
    assert find_slow(mongo_url, recorder) == []
