"""The keep rules remove what they say, and never what is in use."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import Conflict
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.sources.model import Plugin, SourceState, Upload
from sourcebook.hub.upkeep import cleanup
from sourcebook.hub.upkeep.cleanup import CleanUpPlan, archive_build, clean_up, plan_clean_up, start_clean_up_if_needed

DAY = 86_400.0


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    async def with_source(context: Context) -> None:
        await context.state.put("a", Plugin(name="a", folder="plugins/a"))
        await scenario(context)

    run_in_context(home, with_source)


async def put_config(context: Context, **keep: Any) -> None:
    config = BuildConfig.model_validate({"name": "c", "doc_type": "thing", "sources": ["a"], "keep": keep})
    await build_commands.put_build_config(context, config)


async def add_build(context: Context, number: int, *, age_days: float = 0, **fields: Any) -> Build:
    name = f"c_{number}"
    async with context.documents.create(f"build~c~{name}") as writer:
        await writer.write([make_record({"_id": "1"})])
        info = await writer.commit()
    values = {"name": name, "config": "c", "doc_type": "thing", "collection": info.name, "count": 1, "uploads": []}
    finished_at = time.time() - age_days * DAY + number / 1000
    made = Build.model_validate({**values, "digest": info.digest, "finished_at": finished_at, **fields})
    await context.state.put(name, made)
    return made


async def add_builds(context: Context, count: int) -> None:
    for number in range(1, count + 1):
        await add_build(context, number)


async def serve(context: Context, current: int, *history: int) -> None:
    for number in (current, *history):
        release = Release(
            name=f"r{number}",
            build=f"c_{number}",
            config="c",
            doc_type="thing",
            collection=f"build~c~c_{number}",
            index=f"i{number}",
            count=1,
        )
        await context.state.put(release.name, release)
    api = Api(name="c", config="c", release=f"r{current}", history=[f"r{number}" for number in history])
    await context.state.put("c", api)


async def stored(context: Context) -> list[str]:
    return [name.removeprefix("build~c~") for name in await context.documents.names()]


def test_builds_beyond_the_number_lose_their_documents_and_keep_their_record(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_builds(context, 5)
        assert not await plan_clean_up(context)  # no rule, nothing goes
        await put_config(context, builds=2)
        await serve(context, 3, 1)
        plan = await plan_clean_up(context)
        assert plan.builds == ["c_2"]
        assert len(await stored(context)) == 5
        assert (await clean_up(context, plan)).builds == ["c_2"]
        assert await stored(context) == ["c_1", "c_3", "c_4", "c_5"]
        assert (await build_answers.get_build(context, "c_2")).archived_at
        assert not await plan_clean_up(context)
        with pytest.raises(Conflict, match="c_2' is archived"):
            await build_commands.start_release(context, "c_2")

    play(tmp_path, scenario)


def test_the_newest_build_outlives_every_age(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        for number, age in ((1, 40), (2, 20), (3, 10)):
            await add_build(context, number, age_days=age)
        await put_config(context, days=5)
        assert (await plan_clean_up(context)).builds == ["c_2", "c_1"]

    play(tmp_path, scenario)


def test_what_a_job_works_with_stays(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_builds(context, 3)
        await put_config(context, builds=1)
        await build_commands.start_release(context, "c_1", "other")
        plan = await plan_clean_up(context)
        assert plan.builds == ["c_2"]
        late = CleanUpPlan(builds=["c_1", "c_2"])
        assert (await clean_up(context, late)).builds == ["c_2"]
        assert await stored(context) == ["c_1", "c_3"]

    play(tmp_path, scenario)


def test_a_build_that_comes_into_use_while_it_is_archived_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = cleanup._mark

    async def scenario(context: Context) -> None:
        await add_builds(context, 2)

        async def release_meanwhile(context: Context, name: str, at: float | None) -> Build:
            await serve(context, 1)
            return await mark(context, name, at)

        monkeypatch.setattr(cleanup, "_mark", release_meanwhile)
        with pytest.raises(Conflict, match="serves build 'c_1'"):
            await archive_build(context, "c_1")
        assert (await build_answers.get_build(context, "c_1")).archived_at is None
        assert await stored(context) == ["c_1", "c_2"]

    play(tmp_path, scenario)


def test_archiving_is_refused_while_served_and_can_be_repeated(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_builds(context, 2)
        await serve(context, 2)
        with pytest.raises(Conflict, match="'c' serves build 'c_2'"):
            await archive_build(context, "c_2")
        first = await archive_build(context, "c_1")
        assert (await archive_build(context, "c_1")).archived_at == first.archived_at
        assert await stored(context) == ["c_2"]

    play(tmp_path, scenario)


def test_a_linked_build_leaves_the_documents_of_its_upload(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        linked = await add_build(context, 1, linked=True)
        await add_build(context, 2)
        await context.state.put("a/a@1", make_upload(1, collection=linked.collection))
        await archive_build(context, "c_1")
        assert await stored(context) == ["c_1", "c_2"]

    play(tmp_path, scenario)


def make_upload(number: int, **fields: Any) -> Upload:
    values = {
        "id": f"a/a@{number}",
        "source": "a",
        "uploader": "a",
        "version": str(number),
        "collection": f"upload~a.a~{number}",
        "count": 1,
        "digest": "0",
        "finished_at": float(number),
    }
    return Upload.model_validate({**values, **fields})


def test_records_of_uploads_go_when_no_stored_build_has_them(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        for number in range(1, 6):
            await context.state.put(f"a/a@{number}", make_upload(number))
        assert not await plan_clean_up(context)  # whose source is not known
        await context.state.put("a", SourceState(name="a", uploads={"a": "a/a@5"}))
        await add_build(context, 1, uploads=["a/a@1"], archived_at=1.0)
        await add_build(context, 2, uploads=["a/a@3"])
        plan = await plan_clean_up(context)
        assert plan.uploads == ["a/a@1", "a/a@2"]
        await clean_up(context, plan)
        assert [item.id for item in await context.state.find(Upload)] == ["a/a@3", "a/a@4", "a/a@5"]

    play(tmp_path, scenario)


def test_finished_jobs_are_forgotten_after_their_time(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        old = time.time() - 31 * DAY
        for name, state, parent in (
            ("done", JobState.SUCCEEDED, None),
            ("parent", JobState.FAILED, None),
            ("child", JobState.RUNNING, "parent"),
            ("waiting", JobState.QUEUED, None),
        ):
            finished_at = old if state in {JobState.SUCCEEDED, JobState.FAILED} else None
            job = Job(id=name, kind="dump", target="a", lock="dump:a", state=state, parent=parent, queued_at=old)
            await context.state.put(name, job.model_copy(update={"finished_at": finished_at}))
        fresh = Job(id="fresh", kind="dump", target="a", lock="dump:a", state=JobState.FAILED, finished_at=time.time())
        await context.state.put("fresh", fresh)
        plan = await plan_clean_up(context)
        assert plan.jobs == ["done"]
        started = await start_clean_up_if_needed(context)
        assert started
        await clean_up(context, plan)
        assert await context.state.get(Job, "done") is None
        assert await start_clean_up_if_needed(context) is None

    play(tmp_path, scenario)


def test_changes_go_with_the_build_that_they_lead_to(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_builds(context, 3)
        for key in ("changes/c_2/c_1", "changes/c_3/c_2"):
            (await context.files.staging(key) / "metadata.json").write_text("{}")
            await context.files.publish(key)
        await archive_build(context, "c_2")
        plan = await plan_clean_up(context)
        assert plan.changes == ["changes/c_2/c_1"]
        await clean_up(context, plan)
        assert await context.files.keys("changes") == ["changes/c_3/c_2"]
        await build_commands.delete_build(context, "c_3")
        assert await context.files.keys("changes") == []

    play(tmp_path, scenario)


def test_staging_that_was_abandoned_goes_and_what_may_be_resumed_stays(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        (await context.files.staging("archive/a/1") / "half").write_text("x")
        assert (await plan_clean_up(context)).staging == []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: later)
            plan = await plan_clean_up(context)
        assert plan.staging == ["archive"]
        assert await clean_up(context, plan) == plan
        assert list((tmp_path / "files" / ".staging").iterdir()) == []

    later = time.time() + 8 * DAY
    play(tmp_path, scenario)
