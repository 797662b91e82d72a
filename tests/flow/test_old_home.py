"""A home that an earlier version made is opened, read and worked on by this one.

`recorded/home-0.1.0.tar.gz` was made by version 0.1.0 with `sourcebook up`: sources `books` (120 documents) and `prices`, built
and released as `library`, then three books edited, built and released again, incrementally. The plugins' folders stood in
`/recorded/plugins`. `recorded/mongodb-0.1.0.jsonl` has the same records, as version 0.1.0 wrote them to MongoDB.
"""

import asyncio
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pymongo import MongoClient
from support.genes import finish
from support.servers_mongo import start_secantus

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.builds.answers import list_builds
from sourcebook.hub.builds.commands import start_build, start_release
from sourcebook.hub.jobs.answers import get_job, list_jobs
from sourcebook.hub.releases.answers import get_api, get_release
from sourcebook.hub.releases.commands import rollback
from sourcebook.hub.schedules.commands import recover_jobs, run_schedules
from sourcebook.hub.sources.answers import list_sources
from sourcebook.hub.sources.commands import start_dump
from sourcebook.hub.upkeep.verify import start_verify
from sourcebook.settings import Settings
from sourcebook_api.query.routes import QueryApp

RECORDED = Path(__file__).parent / "recorded"
FIRST, SECOND = "library_202611291225", "library_202611291225_2"


@pytest.fixture
def old_home(tmp_path: Path) -> Path:
    with tarfile.open(RECORDED / "home-0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    with closing(sqlite3.connect(tmp_path / "home" / "catalog.sqlite")) as records, records:
        records.execute("UPDATE records SET body = replace(body, '/recorded', ?)", (str(tmp_path),))
    return tmp_path


@pytest.fixture(params=["sqlite", "mongodb"])
def state_url(request: pytest.FixtureRequest, old_home: Path) -> Iterator[str]:
    """Where the records are that the old version wrote; with MongoDB, the file is gone."""
    if request.param == "sqlite":
        yield "sqlite:"
        return
    (old_home / "home" / "catalog.sqlite").unlink()
    url, process = start_secantus(old_home)
    try:
        with MongoClient[dict[str, Any]](url) as client:
            for line in (RECORDED / "mongodb-0.1.0.jsonl").read_text().replace("/recorded", str(old_home)).splitlines():
                written = orjson.loads(line)
                client["hub"][written["collection"]].insert_one(written["document"])
        yield f"{url.rstrip('/')}/hub"
    finally:
        process.terminate()
        process.wait(30)


class Library:
    """The query API over what an old version left."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(QueryApp(lambda: context, "library")), base_url="http://127.0.0.1:8000"
        )

    async def ask(self, path: str) -> tuple[int, Any]:
        answer = await self.client.get(path)
        return answer.status_code, answer.json()

    async def count(self, query: str) -> int:
        status, body = await self.ask(f"/query?q={query}")
        assert status == 200, body
        return int(body["total"])

    async def beat(self) -> list[str]:
        """Do what beat does every few seconds, and the jobs that it started."""
        started = [*await run_schedules(self.context), *await recover_jobs(self.context)]
        for job_id in started:
            await finish(self.context, await get_job(self.context, job_id))
        return started


def test_a_home_of_version_0_1_0_opens_and_goes_on(old_home: Path, state_url: str) -> None:
    async def main() -> None:
        settings = Settings(home=old_home / "home", state_url=state_url, locks_url="sqlite:")
        async with open_context(settings, ANONYMOUS, bus=open_inline_bus()) as context:
            library = Library(context)
            await check_what_is_there(library)
            await check_that_the_index_is_renewed(library)
            await check_that_it_goes_on(library, old_home / "plugins" / "books" / "books.csv")
            await check_that_a_rollback_renews_as_well(Library(context))

    asyncio.run(main())


async def check_what_is_there(library: Library) -> None:
    context = library.context
    assert [source.name for source in await list_sources(context)] == ["books", "prices"]
    assert len(await list_jobs(context)) == 10
    assert [build.name for build in await list_builds(context, "library")] == [SECOND, FIRST]
    assert (await get_api(context, "library")).release == SECOND
    assert (await get_release(context, SECOND)).kind == "incremental"
    status, document = await library.ask("/book/b009")
    assert (status, document["book"]["title"]) == (200, "Title of book 9")
    assert (await library.ask("/metadata"))[1]["stats"]["total"] == 120


async def check_that_the_index_is_renewed(library: Library) -> None:
    status, body = await library.ask("/query?q=book.genre:fiction")
    assert (status, body["code"]) == (503, "index_outdated")
    assert "a new one is being made" in body["details"]
    assert len(await library.beat()) == 1
    assert await library.count("book.genre:fiction") == 40
    assert await library.count("book.title:other") == 3
    assert (await library.ask("/status"))[0] == 200
    assert await library.beat() == []
    verified = await finish(library.context, await start_verify(library.context))
    assert len([text for text in verified.warnings if f"release {FIRST}" in text and "not verified" in text]) == 1
    api = await get_api(library.context, "library")
    assert (api.release, api.history) == (SECOND, [FIRST])


async def check_that_it_goes_on(library: Library, data: Path) -> None:
    context = library.context
    data.write_text(data.read_text().replace("Title of book 9,", "Title never seen,"))
    await finish(context, await start_dump(context, "books", force=True))
    build = await finish(context, await start_build(context, "library"))
    assert build.result
    assert build.result["count"] == 120
    await finish(context, await start_release(context, build.result["build"]))
    release = await get_release(context, (await get_api(context, "library")).release or "")
    assert "is indexed differently than before" in release.reason  # mappings are inferred otherwise today
    (body,) = await context.documents.get_many(release.collection, ["b009"])
    assert orjson.loads(body or b"")["book"]["title"] == "Title never seen"


async def check_that_a_rollback_renews_as_well(library: Library) -> None:
    await rollback(library.context, "library", FIRST)
    assert (await library.ask("/query?q=book.title:other"))[0] == 503
    assert len(await library.beat()) == 1
    assert await library.count("book.title:other") == 0
    assert await library.count("book.genre:fiction") == 40
