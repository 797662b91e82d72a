"""What an API serves from an index of an earlier version is indexed again, once, and under the name it has."""

from pathlib import Path

import pytest
from support.context import run_in_context
from support.genes import finish
from support.old_indices import make_outdated

from sourcebook.backends.tantivy.index import MANIFEST_FILE
from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, IndexOutdated
from sourcebook.hub.builds.commands import start_release
from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.commands import cancel_job
from sourcebook.hub.releases.answers import get_api, get_release
from sourcebook.hub.releases.commands import rollback, set_note
from sourcebook.hub.releases.renewal import renew_indices
from sourcebook.hub.schedules.commands import recover_jobs
from sourcebook.language.requests import SearchRequest


async def release(context: Context, name: str, size: int = 3) -> None:
    """Build and release documents as the API `c`."""
    collection = f"build~c~{name}"
    async with context.documents.create(collection) as writer:
        await writer.write([make_record({"_id": f"id{n}", "word": name}) for n in range(size)])
        info = await writer.commit()
    build = Build(
        name=name,
        config="c",
        doc_type="thing",
        collection=collection,
        uploads=[],
        count=info.count,
        digest=info.digest,
        mapping={"word": {"type": "keyword"}},
    )
    await context.state.put(name, build)
    await finish(context, await start_release(context, name, mode="full"))


async def serve_outdated(context: Context) -> str:
    """Release c_1 and then c_2, whose index becomes an old one; return its name."""
    await release(context, "c_1", 3)
    await release(context, "c_2", 5)
    index = (await get_release(context, "c_2")).index
    make_outdated(context.settings.home, index)
    return index


def test_the_release_that_is_served_has_a_new_index_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        old = await serve_outdated(context)
        await set_note(context, "c_2", "checked by hand")
        before, api = await get_release(context, "c_2"), await get_api(context, "c")
        (job_id,) = await recover_jobs(context)
        assert await recover_jobs(context) == []  # it is started once
        await finish(context, await get_job(context, job_id))
        after = await get_release(context, "c_2")
        assert after.model_copy(update={"index": old}) == before
        assert await get_api(context, "c") == api
        assert (await context.search.search(after.index, SearchRequest())).total == 5
        assert old not in await context.search.names()
        assert await recover_jobs(context) == []

    run_in_context(tmp_path, scenario)


def test_a_job_that_did_not_succeed_is_not_started_again_before_the_api_moves(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await serve_outdated(context)
        (job_id,) = await renew_indices(context)
        await cancel_job(context, job_id)
        assert await renew_indices(context) == []
        await rollback(context, "c")
        assert await renew_indices(context) == []  # the index of c_1 is of today
        await rollback(context, "c", "c_2")
        assert len(await renew_indices(context)) == 1

    run_in_context(tmp_path, scenario)


def test_an_api_that_moved_meanwhile_is_not_moved_back(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await serve_outdated(context)
        (job_id,) = await renew_indices(context)
        await rollback(context, "c")
        await finish(context, await get_job(context, job_id))
        assert (await get_api(context, "c")).release == "c_1"
        assert not await context.search.is_outdated((await get_release(context, "c_2")).index)

    run_in_context(tmp_path, scenario)


def test_a_new_build_is_released_in_full_over_an_outdated_index(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await serve_outdated(context)
        await release(context, "c_3", 7)
        api = await get_api(context, "c")
        assert (api.release, api.history) == ("c_3", ["c_2", "c_1"])
        assert await renew_indices(context) == []

    run_in_context(tmp_path, scenario)


def test_an_index_of_a_newer_version_is_left_alone_and_named(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        index = await serve_outdated(context)
        with pytest.raises(IndexOutdated, match="an earlier version"):
            await context.search.info(index)
        make_outdated(context.settings.home, index, by=-1)
        assert await renew_indices(context) == []
        with pytest.raises(EngineUnavailable, match="a newer version"):
            await context.search.info(index)

    run_in_context(tmp_path, scenario)


def test_an_index_that_cannot_be_read_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        index = await serve_outdated(context)
        (tmp_path / "search" / index / MANIFEST_FILE).write_bytes(b"{")
        assert await recover_jobs(context) == []

    run_in_context(tmp_path, scenario)
