"""A build is indexed beside what is served, verified, and switched to in one step."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import NotFound, StoreDamaged, VerificationFailed
from sourcebook.flow.messages import IndexBuild, IndexReady
from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases.answers import get_api
from sourcebook.hub.releases.commands import rollback
from sourcebook.hub.releases.model import Api, Release
from sourcebook.language.requests import SearchRequest
from sourcebook.worker import JobRun
from sourcebook_indexer.cleanup import drop_unused_indices
from sourcebook_indexer.index import index_build
from sourcebook_indexer.rollover import build_index_name, parse_index_name


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    run_in_context(home, scenario, keep_indices=2, batch_documents=3)


async def add_build(context: Context, name: str, size: int = 10, **changes: Any) -> Build:
    collection = f"build~c~{name}"
    async with context.documents.create(collection) as writer:
        await writer.write([make_record({"_id": f"id{n:03}", "word": name}) for n in range(size)])
        info = await writer.commit()
    fields = {"name": name, "config": "c", "doc_type": "thing", "collection": collection, "uploads": []}
    mapping = {"word": {"type": "keyword"}}
    build = Build.model_validate({**fields, "count": info.count, "digest": info.digest, "mapping": mapping, **changes})
    await context.state.put(name, build)
    return build


async def index(context: Context, build: str, *, api: str = "c", job_id: str = "") -> IndexReady:
    job = Job(id=job_id or f"job{build}", kind="index", target=build, lock=f"index:{api}")
    await context.state.put(job.id, job)
    ready = await index_build(context, JobRun(context, job), IndexBuild(build=build, api=api))
    await context.state.delete(Job, job.id)
    return ready


async def found(context: Context, api: str = "c") -> tuple[int, str]:
    release = await context.state.get(Release, (await get_api(context, api)).release or "")
    assert release
    result = await context.search.search(release.index, SearchRequest(size=1))
    return result.total, release.name


def test_the_api_moves_when_the_index_is_complete_and_keeps_the_last_for_rollback(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        for number in (1, 2, 3):
            await add_build(context, f"c_{number}", size=number * 10)
            ready = await index(context, f"c_{number}")
            assert ready == IndexReady(release=f"c_{number}", api="c", count=number * 10)
            assert await found(context) == (number * 10, f"c_{number}")
        api = await get_api(context, "c")
        assert (api.release, api.history) == ("c_3", ["c_2"])
        assert [parse_index_name(name)[1] for name in await context.search.names()] == ["c_2", "c_3"]
        await rollback(context, "c")
        assert await found(context) == (20, "c_2")

    play(tmp_path, scenario)


def test_after_a_rollback_a_new_release_goes_back_to_what_was_served_before_it(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        for number in (1, 2):
            await add_build(context, f"c_{number}", size=number * 10)
            await index(context, f"c_{number}")
        await rollback(context, "c")
        await add_build(context, "c_3", size=30)
        await index(context, "c_3")
        assert (await rollback(context, "c")).release == "c_1"

    play(tmp_path, scenario)


def test_an_index_that_is_not_complete_is_never_served(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1")
        await index(context, "c_1")
        await add_build(context, "c_2", count=11)
        with pytest.raises(VerificationFailed, match="has 10 documents, build c_2 has 11"):
            await index(context, "c_2")
        assert await found(context) == (10, "c_1")
        with pytest.raises(NotFound):
            await index(context, "c_9")

    play(tmp_path, scenario)


def test_a_job_that_died_after_its_commit_goes_on_from_there(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        build = await add_build(context, "c_1")
        name = build_index_name("c", "c_1", "jobc_1")
        async with context.search.create(
            name, collection=build.collection, properties=build.mapping, settings={}
        ) as writer:
            async for batch in context.documents.scan(build.collection):
                await writer.add(batch)
            await writer.commit()
        await index(context, "c_1")
        assert await context.search.names() == [name]
        assert await found(context) == (10, "c_1")
        await index(context, "c_1")
        assert (await get_api(context, "c")).history == []

    play(tmp_path, scenario)


def test_a_build_that_is_released_again_is_a_new_release(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1")
        await index(context, "c_1", job_id="one")
        await index(context, "c_1", job_id="two")
        api = await get_api(context, "c")
        assert (api.release, api.history) == ("c_1_r2", ["c_1"])
        await index(context, "c_1", api="other", job_id="three")
        assert await found(context, "other") == (10, "other.c_1")

    play(tmp_path, scenario)


def test_leftovers_are_removed_but_not_those_of_active_jobs(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        build = await add_build(context, "c_1")
        for job_id in ("dead", "alive"):
            name = build_index_name("c", "c_1", job_id)
            async with context.search.create(name, collection=build.collection, properties={}, settings={}) as writer:
                await writer.commit()
        await context.state.put("alive", Job(id="alive", kind="index", target="c_1", lock="index:c"))
        assert await drop_unused_indices(context) == ["c~c_1~dead"]
        assert await context.search.names() == ["c~c_1~alive"]
        assert await context.state.find(Api) == []

    play(tmp_path, scenario)


def test_a_damaged_build_is_not_served(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1")
        await index(context, "c_1")
        build = await add_build(context, "c_2")
        path = tmp_path / "documents" / build.collection / "data.mdb"
        path.write_bytes(path.read_bytes().replace(b'"word":"c_2"', b'"word":"c_3"', 1))
        with pytest.raises(StoreDamaged, match="'build~c~c_2' is damaged"):
            await index(context, "c_2")
        assert await found(context) == (10, "c_1")

    play(tmp_path, scenario)
