"""MongoDB goes away in the middle of a whole upload and of a whole build: both wait, go on, and every document is there once."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from support.flaky_proxy import FlakyProxy
from support.servers_mongo import running, start_secantus
from support.stack import SlowPlugin

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.documents.record import read_document
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.sources import commands as source_commands
from sourcebook.settings import Settings
from sourcebook.worker import run_queued_jobs

DOCUMENTS = 4000
BATCH = 100
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(start_secantus(tmp_path_factory.mktemp("secantus"))) as url:
        yield url


@pytest.fixture
def plugin(tmp_path: Path) -> SlowPlugin:
    return SlowPlugin(tmp_path / "things", DOCUMENTS)


class Outage:
    """Takes the server away once a new collection is half full, and says how full it was."""

    def __init__(self, url: str, proxy: FlakyProxy, seconds: float) -> None:
        self._database: Any = MongoClient(url).get_default_database()
        self._proxy = proxy
        self._seconds = seconds

    def _count(self, known: set[str]) -> int:
        new = {name for name in self._database.list_collection_names() if name.startswith("documents.data.")} - known
        return sum(self._database[name].count_documents({}) for name in new)

    def _known(self) -> set[str]:
        return set(self._database.list_collection_names())

    async def during(self, work: Awaitable[Job]) -> tuple[Job, int]:
        known = await asyncio.to_thread(self._known)
        task = asyncio.ensure_future(work)
        while not task.done() and await asyncio.to_thread(self._count, known) < BATCH:
            await asyncio.sleep(0)
        await self._proxy.away(self._seconds)
        written = await asyncio.to_thread(self._count, known)
        assert not task.done()
        return await task, written

    def close(self) -> None:
        self._database.client.close()


async def run_job(context: Context, start: Callable[[], Awaitable[Job]]) -> Job:
    job = await start()
    await run_queued_jobs(context, cast("Any", context.bus))
    return await job_answers.get_job(context, job.id)


async def upload_and_build(context: Context, outage: Outage, plugin: SlowPlugin) -> None:
    await source_commands.add_plugin(context, plugin.folder)
    dump = await run_job(context, lambda: source_commands.start_dump(context, "things", then_upload=False))
    assert dump.state is JobState.SUCCEEDED

    async def start_upload() -> Job:
        return (await source_commands.start_upload(context, "things"))[0]

    config = await build_commands.put_build_config(
        context, BuildConfig(name="all", doc_type="thing", sources=["things"])
    )
    for start in (start_upload, lambda: build_commands.start_build(context, config.name)):
        job, written = await outage.during(run_job(context, start))
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1), job.error
        assert 0 < written < DOCUMENTS
    expected = [json.loads(line) for line in (plugin.folder / "data.ndjson").read_text().splitlines()]
    names = await context.documents.names()
    assert len(names) == 2
    for name in names:
        found = [read_document(record) async for batch in context.documents.scan(name) for record in batch]
        assert found == expected


@pytest.mark.parametrize("seconds", [1.0, pytest.param(20.0, marks=pytest.mark.slow)])
def test_mongodb_is_away_in_the_middle_of_an_upload_and_of_a_build(
    tmp_path: Path, server: str, plugin: SlowPlugin, seconds: float
) -> None:
    async def main() -> None:
        url = f"{server}away_{int(seconds)}"
        proxy = FlakyProxy(urlsplit(url).port or 0)
        await proxy.up()
        near = f"mongodb://127.0.0.1:{proxy.port}{urlsplit(url).path}"
        engines = {"documents_url": near, "state_url": near, "locks_url": "sqlite:"}
        settings = Settings(home=tmp_path / "home", batch_documents=BATCH, **engines)  # type: ignore[arg-type]
        outage = Outage(url, proxy, seconds)
        async with open_context(settings, ANONYMOUS, bus=open_inline_bus()) as context:
            await upload_and_build(context, outage, plugin)
        outage.close()
        await proxy.down()

    asyncio.run(main())
