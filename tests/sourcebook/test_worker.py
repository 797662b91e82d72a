"""A job runs once, ends in one state, and survives whatever happens to its worker."""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from support.context import run_in_context
from support.locks import block_until_renewed

from sourcebook import worker
from sourcebook.context import Context
from sourcebook.errors import (
    Busy,
    Conflict,
    DownloadInterrupted,
    EngineUnavailable,
    LeaseLost,
    NotFound,
    ParserError,
    StoreDamaged,
)
from sourcebook.flow.messages import DumpReady, DumpSource, Message, UploadDump
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs import commands as job_commands
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.jobs.queues import read_queues
from sourcebook.hub.schedules.commands import recover_jobs
from sourcebook.worker import JobRun, Outcome, StopSign, execute_job

Handler = Callable[[Context, JobRun, Any], Awaitable[Message]]
READY = DumpReady(source="s", dump="s@1", version="1")


def play(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    handler: Handler,
    scenario: Callable[[Context], Awaitable[None]],
    **settings: Any,
) -> None:
    monkeypatch.setattr(worker, "load_reference", lambda _: handler)

    run_in_context(tmp_path, scenario, **{"lock_ttl": timedelta(seconds=3), **settings})


async def succeed(_context: Context, run: JobRun, _command: Any) -> Message:
    await run.progress("work", 3, 3, "things")
    run.warn("look at this")
    return READY


async def never_end(_context: Context, _run: JobRun, _command: Any) -> Message:
    await asyncio.sleep(60)
    return READY


def test_a_job_ends_with_its_result_progress_and_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert job.state is JobState.QUEUED
        assert await execute_job(context, job.id) is Outcome.DONE
        job = await job_answers.get_job(context, job.id)
        assert job.state is JobState.SUCCEEDED
        assert job.result == READY.model_dump(mode="json")
        assert (job.progress.done, job.progress.unit, job.warnings, job.attempt) == (3, "things", ["look at this"], 1)
        assert job.started_at
        assert job.finished_at
        assert await context.locks.holder(job.lock) is None

    play(tmp_path, monkeypatch, succeed, scenario)


def test_the_next_stage_starts_by_itself_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dump(_context: Context, _run: JobRun, command: Any) -> Message:
        if isinstance(command, UploadDump):
            return READY
        return READY.model_copy(update={"uploaders": ("a", "b")})

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        await worker.run_queued_jobs(context, cast("Any", context.bus))
        job = await job_answers.get_job(context, job.id)
        assert job.children == [f"{job.id}.{UploadDump(source='s', uploader=name).digest}" for name in ("a", "b")]
        found = await job_answers.list_jobs(context, kind="upload")
        assert {(child.target, child.state, child.parent) for child in found} == {
            ("s/b", JobState.SUCCEEDED, job.id),
            ("s/a", JobState.SUCCEEDED, job.id),
        }

    play(tmp_path, monkeypatch, dump, scenario)


def test_a_broker_that_is_away_at_the_end_of_a_job_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dump(context: Context, _run: JobRun, _command: Any) -> Message:
        monkeypatch.setattr(type(context.bus), "send", refuse)
        return READY.model_copy(update={"uploaders": ("a",)})

    async def refuse(*_: Any) -> None:
        raise EngineUnavailable("The broker does not answer.")

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert await execute_job(context, job.id) is Outcome.DONE
        ended = await job_answers.get_job(context, job.id)
        assert (ended.state, ended.attempt, len(ended.children)) == (JobState.SUCCEEDED, 1, 1)
        monkeypatch.undo()
        assert await recover_jobs(context) == ended.children

    play(tmp_path, monkeypatch, dump, scenario)


def test_a_worker_that_dies_while_it_starts_what_follows_leaves_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(BaseException):
        pass

    following = [("a", "b"), ("b",)]  # a job is at "a" already when the dump is repeated

    async def dump(_context: Context, _run: JobRun, _command: Any) -> Message:
        return READY.model_copy(update={"uploaders": following.pop(0)})

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))

        async def die(*_: Any) -> None:
            raise DiedError

        with monkeypatch.context() as patch:
            patch.setattr(type(context.bus), "send", die)
            with pytest.raises(DiedError):
                await execute_job(context, job.id)
        assert [child.target for child in await job_answers.list_jobs(context, kind="upload")] == ["s/a"]
        await execute_job(context, job.id)
        ended = await job_answers.get_job(context, job.id)
        children = [await job_answers.get_job(context, child) for child in ended.children]
        assert sorted(child.target for child in children) == ["s/a", "s/b"]

    play(tmp_path, monkeypatch, dump, scenario)


def test_an_error_of_a_plugin_is_shown_with_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_context: Context, _run: JobRun, _command: Any) -> Message:
        raise ParserError("parser.py raised at document 1001", traceback="line 7 in parse", document=1001)

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        await execute_job(context, job.id)
        job = await job_answers.get_job(context, job.id)
        assert job.state is JobState.FAILED
        assert job.error
        assert (job.error.code, job.error.traceback, job.error.details) == (
            "parser",
            "line 7 in parse",
            {"document": 1001},
        )

    play(tmp_path, monkeypatch, fail, scenario)


def test_an_unforeseen_error_ends_the_job_without_showing_internals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_context: Context, _run: JobRun, _command: Any) -> Message:
        raise RuntimeError("secret internals")

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert await execute_job(context, job.id) is Outcome.DONE
        job = await job_answers.get_job(context, job.id)
        assert job.state is JobState.FAILED
        assert "secret internals" not in job.model_dump_json()

    play(tmp_path, monkeypatch, crash, scenario)


def test_a_transient_error_is_tried_again_and_given_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flicker(_context: Context, _run: JobRun, _command: Any) -> Message:
        raise DownloadInterrupted("connection reset by http://u:hunter2@host/")

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert await execute_job(context, job.id) is Outcome.LATER
        assert (await job_answers.get_job(context, job.id)).state is JobState.RUNNING
        assert await execute_job(context, job.id) is Outcome.DONE
        job = await job_answers.get_job(context, job.id)
        assert (job.state, job.attempt) == (JobState.FAILED, 2)
        assert "hunter2" not in job.model_dump_json()

    play(tmp_path, monkeypatch, flicker, scenario, job_attempts=2)


def test_a_message_that_arrives_twice_runs_the_job_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def count(_context: Context, run: JobRun, _command: Any) -> Message:
        calls.append(run.id)
        await asyncio.sleep(0.1)
        return READY

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        outcomes = await asyncio.gather(*(execute_job(context, job.id) for _ in range(3)))
        assert outcomes == [Outcome.DONE] * 3
        assert await execute_job(context, job.id) is Outcome.DONE
        assert await execute_job(context, "unknown") is Outcome.DONE
        assert calls == [job.id]

    play(tmp_path, monkeypatch, count, scenario)


def test_a_second_command_for_the_same_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        tries = await asyncio.gather(
            *(job_commands.submit(context, DumpSource(source="s")) for _ in range(5)), return_exceptions=True
        )
        assert [type(item) for item in tries].count(Job) == 1
        assert [type(item) for item in tries].count(Busy) == 4
        await job_commands.submit(context, DumpSource(source="other"))

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_job_waits_while_another_holds_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        await context.locks.acquire(job.lock, "another/job", timedelta(seconds=30))
        assert await execute_job(context, job.id) is Outcome.LATER
        assert (await job_answers.get_job(context, job.id)).state is JobState.QUEUED
        await context.locks.release(job.lock, "another/job")
        assert await execute_job(context, job.id) is Outcome.DONE
        assert (await job_answers.get_job(context, job.id)).state is JobState.SUCCEEDED

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_queued_job_is_cancelled_at_once_and_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert (await job_commands.cancel_job(context, job.id)).state is JobState.CANCELLED
        await execute_job(context, job.id)
        assert (await job_answers.get_job(context, job.id)).attempt == 0
        with pytest.raises(Conflict):
            await job_commands.cancel_job(context, job.id)
        with pytest.raises(NotFound):
            await job_commands.cancel_job(context, "x")

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_running_job_is_cancelled_within_seconds_though_it_reports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        running = asyncio.create_task(execute_job(context, job.id))
        await asyncio.sleep(0.2)
        assert (await job_commands.cancel_job(context, job.id)).state is JobState.RUNNING
        assert await asyncio.wait_for(running, 10) is Outcome.DONE
        assert (await job_answers.get_job(context, job.id)).state is JobState.CANCELLED

    play(tmp_path, monkeypatch, never_end, scenario)


def test_a_job_beyond_its_time_limit_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        await execute_job(context, job.id)
        job = await job_answers.get_job(context, job.id)
        assert job.state is JobState.FAILED
        assert job.error
        assert job.error.code == "time_limit"

    play(tmp_path, monkeypatch, never_end, scenario, job_time_limit=timedelta(seconds=0.2))


def test_a_worker_that_lost_its_lock_leaves_the_record_to_the_new_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(context: Context, run: JobRun, _command: Any) -> Message:
        owner = await context.locks.holder("dump:s")
        await context.locks.release("dump:s", owner or "")
        await context.locks.acquire("dump:s", f"{run.id}/new owner", timedelta(seconds=30))
        context.scratch_folder(run.id).joinpath("run.1").write_text("of the new owner")
        return READY

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert await execute_job(context, job.id) is Outcome.DONE
        assert (await job_answers.get_job(context, job.id)).state is JobState.RUNNING
        assert await context.locks.holder(job.lock) == f"{job.id}/new owner"
        assert context.scratch_folder(job.id).joinpath("run.1").exists()

    play(tmp_path, monkeypatch, lose, scenario)


def test_a_job_whose_worker_died_is_sent_again_and_finally_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        context.bus.queue.get_nowait()  # type: ignore[attr-defined] # the message is gone with its worker
        await die_while_running(context, job.id)
        assert await recover_jobs(context) == [job.id]
        assert await recover_jobs(context) == []
        await worker.run_queued_jobs(context, cast("Any", context.bus))
        assert (await job_answers.get_job(context, job.id)).state is JobState.SUCCEEDED
        again = await job_commands.submit(context, DumpSource(source="s"))
        for _ in range(context.settings.job_attempts):
            await die_while_running(context, again.id)
        await recover_jobs(context)
        ended = await job_answers.get_job(context, again.id)
        assert ended.state is JobState.FAILED
        assert ended.error
        assert "died 3 times" in ended.error.message

    play(tmp_path, monkeypatch, succeed, scenario)


async def die_while_running(context: Context, job_id: str) -> None:
    def claim(job: Job) -> Job:
        return job.move_to(JobState.RUNNING, attempt=job.attempt + 1, sent_at=time.time() - 100)

    await context.state.update(Job, job_id, claim)


def test_a_queued_job_whose_message_was_lost_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        context.bus.queue.get_nowait()  # type: ignore[attr-defined]
        assert await recover_jobs(context) == []
        await context.state.update(Job, job.id, lambda j: j.model_copy(update={"sent_at": time.time() - 100}))
        assert await recover_jobs(context) == [job.id]
        await worker.run_queued_jobs(context, cast("Any", context.bus))
        assert (await job_answers.get_job(context, job.id)).state is JobState.SUCCEEDED

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_lost_message_is_sent_again_though_its_queue_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        busy = await job_commands.submit(context, DumpSource(source="busy"))
        await context.state.update(Job, busy.id, lambda job: job.move_to(JobState.RUNNING))
        await context.locks.acquire(busy.lock, f"{busy.id}/worker", timedelta(seconds=60))
        lost = await job_commands.submit(context, DumpSource(source="lost"))
        await age(context, lost.id, queued=100, sent=100)
        assert await recover_jobs(context) == [lost.id]

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_job_that_waits_behind_others_is_sent_again_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        await age(context, job.id, queued=1900, sent=900)
        assert await recover_jobs(context) == []
        await age(context, job.id, queued=1900, sent=1000)
        assert await recover_jobs(context) == [job.id]

    play(tmp_path, monkeypatch, succeed, scenario)


async def age(context: Context, job_id: str, *, queued: float, sent: float) -> None:
    times = {"queued_at": time.time() - queued, "sent_at": time.time() - sent}
    await context.state.update(Job, job_id, lambda job: job.model_copy(update=times))


def test_a_kind_of_job_that_this_version_does_not_know_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(context: Context) -> None:
        for state in (JobState.QUEUED, JobState.RUNNING):
            unknown = Job(id=f"new-{state}", kind="from_the_future", target="t", lock=f"new:{state}", state=state)
            await context.state.put(unknown.id, unknown)
        lost = await job_commands.submit(context, DumpSource(source="s"))
        await age(context, lost.id, queued=100, sent=100)
        assert await recover_jobs(context) == [lost.id]
        loads = await read_queues(context)
        assert (loads["dump"].active, sum(load.active for load in loads.values())) == (1, 1)
        assert await job_answers.is_wanted(context, "new-running")

    play(tmp_path, monkeypatch, succeed, scenario)


def test_nobody_writes_the_record_of_a_job_once_it_is_on_its_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(context: Context) -> None:
        seen: list[Job] = []

        async def look(_stage: str, job_id: str) -> None:
            seen.append(await job_answers.get_job(context, job_id))

        monkeypatch.setattr(context.bus, "send", look)
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert seen == [job] == [await job_answers.get_job(context, job.id)]
        assert job.sent_at

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_job_that_the_broker_did_not_take_is_sent_with_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_stage: str, _job_id: str) -> None:
        raise EngineUnavailable("The broker does not answer.")

    async def scenario(context: Context) -> None:
        with monkeypatch.context() as away:
            away.setattr(context.bus, "send", refuse)
            with pytest.raises(EngineUnavailable):
                await job_commands.submit(context, DumpSource(source="s"))
        (job,) = await job_answers.list_jobs(context)
        assert await recover_jobs(context) == [job.id]
        await worker.run_queued_jobs(context, cast("Any", context.bus))
        assert (await job_answers.get_job(context, job.id)).state is JobState.SUCCEEDED

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_cancelled_job_whose_worker_died_ends_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        await die_while_running(context, job.id)
        context.scratch_folder(job.id).joinpath("run.1").write_text("left by the worker")
        ended = await job_commands.cancel_job(context, job.id)
        assert ended.state is JobState.CANCELLED
        assert ended.error
        assert ended.error.code == "worker_lost"
        assert not (context.settings.home / "scratch" / job.id).exists()
        assert await recover_jobs(context) == []

    play(tmp_path, monkeypatch, succeed, scenario)


def test_who_sees_that_a_job_ended_finds_no_temporary_files_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(context: Context, run: JobRun, _command: Any) -> Message:
        context.scratch_folder(run.id).joinpath("run.1").write_text("temporary")
        return READY

    left: list[str] = []

    async def scenario(context: Context) -> None:
        update = type(context.state).update

        async def watch(self: Any, kind: Any, key: str, change: Callable[[Any], Any]) -> Any:
            changed = await update(self, kind, key, change)
            if isinstance(changed, Job) and changed.is_finished:
                left.extend(path.name for path in (tmp_path / "scratch").iterdir())
            return changed

        monkeypatch.setattr(type(context.state), "update", watch)
        job = await job_commands.submit(context, DumpSource(source="s"))
        await execute_job(context, job.id)
        assert (await job_answers.get_job(context, job.id)).state is JobState.SUCCEEDED
        assert left == []

    play(tmp_path, monkeypatch, write, scenario)


@pytest.mark.parametrize("who", ["beat", "worker"])
def test_what_a_killed_worker_left_of_a_job_that_ended_elsewhere_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    async def scenario(context: Context) -> None:
        ended, running, again = [await job_commands.submit(context, DumpSource(source=name)) for name in "ert"]
        await die_while_running(context, running.id)
        await execute_job(context, ended.id)  # on another machine
        for job_id in (ended.id, running.id, "forgotten"):
            context.scratch_folder(job_id).joinpath("run.1").write_text("temporary")
        if who == "beat":
            await recover_jobs(context)
        else:
            await execute_job(context, again.id)
        assert [path.name for path in (tmp_path / "scratch").iterdir()] == [running.id]

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_worker_that_must_stop_hands_its_job_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        stop = StopSign()
        running = asyncio.create_task(execute_job(context, job.id, stop))
        await asyncio.sleep(0.2)
        stop.set(timedelta(seconds=0))
        assert await asyncio.wait_for(running, 10) is Outcome.AT_ONCE
        left = await job_answers.get_job(context, job.id)
        assert (left.state, left.attempt) == (JobState.RUNNING, 0)  # being stopped is not a failed attempt
        assert "stopped" in left.warnings[0]
        assert await context.locks.holder(job.lock) is None
        monkeypatch.setattr(worker, "load_reference", lambda _: succeed)
        assert await execute_job(context, job.id, StopSign()) is Outcome.DONE
        ended = await job_answers.get_job(context, job.id)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)

    play(tmp_path, monkeypatch, never_end, scenario)


def test_a_job_that_ends_in_time_is_not_handed_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        stop = StopSign()
        stop.set(timedelta(seconds=60))
        assert await execute_job(context, job.id, stop) is Outcome.DONE
        assert (await job_answers.get_job(context, job.id)).state is JobState.SUCCEEDED

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_stop_sign_reaches_processes_that_were_forked_before_it_was_set() -> None:
    stop = StopSign()
    child = os.fork()
    if child == 0:
        deadline = time.monotonic() + 10
        while not stop.is_due and time.monotonic() < deadline:
            time.sleep(0.01)
        os._exit(0 if stop.is_due else 1)
    assert not stop.is_due
    stop.set(timedelta(seconds=0))
    assert os.waitpid(child, 0)[1] == 0


def test_jobs_and_documents_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def index(_context: Context, run: JobRun, _command: Any) -> Message:
        for done in (0, 2, 5):
            await run.progress("index", done, 5, "documents")
        await run.progress("bytes", 1000, None, "bytes")
        return READY

    async def scenario(context: Context) -> None:
        before = reading("sourcebook_documents_total", stage="dump", step="index")
        ended = reading("sourcebook_job_seconds_count", kind="dump", state="succeeded")
        job = await job_commands.submit(context, DumpSource(source="s"))
        await execute_job(context, job.id)
        assert reading("sourcebook_documents_total", stage="dump", step="index") == before + 5
        assert reading("sourcebook_documents_total", stage="dump", step="bytes") == 0
        assert reading("sourcebook_job_seconds_count", kind="dump", state="succeeded") == ended + 1

    play(tmp_path, monkeypatch, index, scenario)


def reading(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_state_store_that_is_away_for_a_while_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def work_while_the_state_store_is_away(context: Context, _run: JobRun, _command: Any) -> Message:
        async def fail(*_: Any) -> None:
            asked.append(time.monotonic())
            raise EngineUnavailable("The state store does not answer.")

        with monkeypatch.context() as patch:
            patch.setattr(context.state, "get", fail)
            await asyncio.sleep(1.2)  # longer than the lock lives without being renewed
        return READY

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert await execute_job(context, job.id) is Outcome.DONE
        assert (await job_answers.get_job(context, job.id)).state is JobState.SUCCEEDED
        assert len(asked) > 1

    play(tmp_path, monkeypatch, work_while_the_state_store_is_away, scenario, lock_ttl=timedelta(seconds=1))


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 101), (0.5, 4)])
def test_progress_takes_a_small_share_of_the_time_however_slow_the_state_store_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        run, update, written = JobRun(context, job), context.state.update, list[int]()

        async def update_slowly(*args: Any, **options: Any) -> Any:
            changed = await update(*args, **options)
            written.append(changed.progress.done)
            clock[0] += seconds
            return changed

        monkeypatch.setattr(context.state, "update", update_slowly)
        for done in range(300):  # thirty seconds of work
            await run.progress("work", done, 300, "things")
            clock[0] += 0.1
        assert 2 <= len(written) <= most
        await run.progress("work", 300, 300, "things")
        await run.progress("next", 0, 300, "things")
        assert written[-2:] == [300, 0]  # the end and the beginning of a step are always told

    play(tmp_path, monkeypatch, succeed, scenario)


def test_a_job_that_computes_on_the_event_loop_keeps_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ttl = timedelta(seconds=1)

    async def compute(_context: Context, _run: JobRun, _command: Any) -> Message:
        block_until_renewed(tmp_path, "dump:s", ttl)
        return READY

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert await execute_job(context, job.id) is Outcome.DONE
        ended = await job_answers.get_job(context, job.id)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)

    play(tmp_path, monkeypatch, compute, scenario, lock_ttl=ttl)


def test_a_job_whose_watcher_fails_ends_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could cancel it any more, or hand it back."""

    async def scenario(context: Context) -> None:
        async def fail(*_: Any) -> bool:
            raise StoreDamaged("The state store is damaged.")

        job = await job_commands.submit(context, DumpSource(source="s"))
        monkeypatch.setattr(worker, "is_wanted", fail)
        assert await asyncio.wait_for(execute_job(context, job.id), 30) is Outcome.DONE
        ended = await job_answers.get_job(context, job.id)
        assert ended.error
        assert (ended.state, ended.error.code) == (JobState.FAILED, "store_damaged")

    play(tmp_path, monkeypatch, never_end, scenario)


def test_a_job_that_loses_a_lock_beside_its_own_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(_context: Context, _run: JobRun, _command: Any) -> Message:
        raise LeaseLost("The lock is somebody else's.", lock="files:changes")

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        assert await execute_job(context, job.id) is Outcome.LATER

    play(tmp_path, monkeypatch, lose, scenario)


def test_a_job_leaves_nothing_at_work_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines may be closed next."""

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        await execute_job(context, job.id)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert "renewal" not in {thread.name for thread in threading.enumerate()}

    play(tmp_path, monkeypatch, succeed, scenario)
