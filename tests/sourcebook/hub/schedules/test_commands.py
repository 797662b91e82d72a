"""What is due is started once, whoever changes what while beat runs."""

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.schedules import clock
from sourcebook.hub.schedules.commands import list_schedules, run_schedules
from sourcebook.hub.schedules.model import ScheduleState
from sourcebook.hub.sources import commands as source_commands

DAY = 86_400.0
NOW = time.time()


def write_manifest(folder: Path, **dumper: object) -> Path:
    folder.mkdir(exist_ok=True)
    manifest = {
        "dumper": {"data_url": "data.ndjson", **dumper},
        "uploader": {"parser": "parser:load_data"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def play(tmp_path: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    async def with_plugin(context: Context) -> None:
        await source_commands.add_plugin(context, write_manifest(tmp_path / "fruit"))
        await scenario(context)

    run_in_context(tmp_path / "home", with_plugin)


async def finish_jobs(context: Context) -> None:
    for job in await context.state.find(Job):
        if not job.is_finished:
            await context.state.put(job.id, job.move_to(JobState.RUNNING).move_to(JobState.SUCCEEDED))


def test_a_manifest_with_a_schedule_downloads_by_itself_and_an_edit_needs_no_restart(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        assert await run_schedules(context, now=NOW) == []
        write_manifest(tmp_path / "fruit", schedule="@daily")
        assert await run_schedules(context, now=NOW) == []
        (job_id,) = await run_schedules(context, now=NOW + DAY)
        job = await job_answers.get_job(context, job_id)
        assert (job.kind, job.target) == ("dump", "fruit")
        assert await run_schedules(context, now=NOW + DAY + 1) == []
        state = await context.state.get(ScheduleState, "dump:fruit")
        assert state
        assert (state.last_job, state.last_error) == (job_id, None)
        write_manifest(tmp_path / "fruit", schedule="@daily", disabled=True)
        assert await run_schedules(context, now=NOW + 3 * DAY) == []
        assert await context.state.get(ScheduleState, "dump:fruit") is None

    play(tmp_path, scenario)


def test_what_was_due_several_times_while_nothing_ran_is_started_once(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        write_manifest(tmp_path / "fruit", schedule="0 * * * * 30")
        await run_schedules(context, now=NOW)
        assert len(await run_schedules(context, now=NOW + 30 * DAY)) == 1
        await finish_jobs(context)
        assert await run_schedules(context, now=NOW + 30 * DAY + 1) == []

    play(tmp_path, scenario)


def test_a_beat_that_dies_after_it_started_a_job_starts_no_second_one(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        write_manifest(tmp_path / "fruit", schedule="@daily")
        await run_schedules(context, now=NOW)
        before = await context.state.get(ScheduleState, "dump:fruit")
        assert before
        first = await run_schedules(context, now=NOW + DAY)
        await finish_jobs(context)
        await context.state.put(before.key, before)
        assert await run_schedules(context, now=NOW + DAY + 2) == first
        assert len(await context.state.find(Job)) == 1

    play(tmp_path, scenario)


def test_a_job_that_runs_already_is_enough(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        write_manifest(tmp_path / "fruit", schedule="@daily")
        await run_schedules(context, now=NOW)
        await source_commands.start_dump(context, "fruit")
        assert await run_schedules(context, now=NOW + DAY) == []
        await finish_jobs(context)
        assert await run_schedules(context, now=NOW + DAY + 1) == []
        assert len(await run_schedules(context, now=NOW + 2 * DAY + 1)) == 1

    play(tmp_path, scenario)


def test_a_schedule_waits_for_the_broker_and_remembers_other_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise EngineUnavailable("The broker does not answer.")

    async def scenario(context: Context) -> None:
        config = BuildConfig(name="c", doc_type="thing", sources=["fruit"], schedule="@daily")
        await build_commands.put_build_config(context, config)
        await run_schedules(context, now=NOW)
        with monkeypatch.context() as patch:
            patch.setattr(type(context.bus), "ping", refuse)
            assert await run_schedules(context, now=NOW + DAY) == []
        (job_id,) = await run_schedules(context, now=NOW + DAY + 60)
        assert (await job_answers.get_job(context, job_id)).kind == "build"
        await finish_jobs(context)

        async def fail(*_: object, **_named: object) -> Job:
            return await source_commands.start_dump(context, "nothing")

        monkeypatch.setattr(clock, "start_build", fail)
        assert await run_schedules(context, now=NOW + 3 * DAY) == []
        (view,) = [item for item in await list_schedules(context) if item.kind == "build"]
        assert "There is no source 'nothing'" in (view.last_error or "")
        assert view.due_at > NOW + 3 * DAY

    play(tmp_path, scenario)


def test_schedules_are_listed_before_beat_has_seen_them(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        write_manifest(tmp_path / "fruit", schedule="@hourly")
        found = {view.kind: view for view in await list_schedules(context)}
        assert set(found) == {"clean", "verify", "dump"}
        assert 0 < found["dump"].due_at - time.time() <= 3600
        (tmp_path / "fruit" / "manifest.json").write_text("{")
        assert {view.kind for view in await list_schedules(context)} == {"clean", "verify"}

    play(tmp_path, scenario)
