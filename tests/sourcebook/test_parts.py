"""A job in parts: whoever is free does them, one worker alone does all, and they end with their job, whatever happens to it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from support.context import run_in_context

from sourcebook import parts, worker
from sourcebook.context import Context
from sourcebook.errors import Cancelled, DownloadInterrupted, EngineUnavailable, NotFound
from sourcebook.flow.messages import BuildDocuments, BuildReady, MergeRange, Message, RangeMerged
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs import commands as job_commands
from sourcebook.hub.jobs.model import Job, JobError, JobState
from sourcebook.hub.names import build_part_collection_name, build_part_files_key
from sourcebook.hub.schedules.commands import recover_jobs
from sourcebook.parts import run_parts
from sourcebook.worker import JobRun, Outcome, StopSign, execute_job

Handler = Callable[[Context, JobRun, MergeRange], Awaitable[None]]
READY = BuildReady(build="b", count=0, dropped={})
MERGED = RangeMerged(count=0, dropped={}, dropped_examples={})
PARTS = 4


class Split:
    """A job of four parts; `do` is what a part does, `numbers` which parts were begun, `plan` what the job's parts are to do."""

    def __init__(self, do: Handler) -> None:
        self.do = do
        self.numbers: list[int] = []
        self.plan = "a"
        self.after: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, context: Context, run: JobRun, command: Any) -> Message:
        if isinstance(command, MergeRange):
            self.numbers.append(command.number)
            await self.do(context, run, command)
            return MERGED
        commands = [
            MergeRange(job=run.id, number=number, config="c", inputs=(), start=self.plan, stop=None)
            for number in range(1, PARTS + 1)
        ]
        parts = await run_parts(context, run, commands, step="merge", total=PARTS * 10)
        assert [part.command["number"] for part in parts] == [1, 2, 3, 4]
        if self.after is not None:
            await self.after()
        return READY


async def work(context: Context, run: JobRun, command: MergeRange) -> None:
    """Leave a collection and a staged file."""
    await run.progress("merge", 10, None, "documents")
    async with context.documents.create(build_part_collection_name(run.id)) as writer:
        await writer.write([make_record({"_id": str(command.number)})])
        await writer.commit()
    key = build_part_files_key(run.id)
    if not await context.files.exists(key):
        (await context.files.staging(key) / "run").write_text("x")
        if command.number % 2:
            await context.files.publish(key)


async def never_end(_context: Context, _run: JobRun, _command: MergeRange) -> None:
    await asyncio.sleep(60)


def play(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    split: Split,
    scenario: Callable[[Context], Awaitable[None]],
    **options: Any,
) -> None:
    """Run the scenario; afterwards nothing may be left of any part."""
    monkeypatch.setattr(worker, "load_reference", lambda _: split)

    async def main(context: Context) -> None:
        await scenario(context)
        assert await context.documents.names() == []
        assert await context.files.keys("parts") == []

    run_in_context(tmp_path, main, **{"lock_ttl": timedelta(seconds=1), **options})
    assert [path for path in (tmp_path / "files" / ".staging").rglob("*") if path.is_file()] == []


async def start(context: Context) -> Job:
    return await job_commands.submit(context, BuildDocuments(config="c", build="b"))


async def parts_of(context: Context, job: Job) -> list[Job]:
    return await context.state.find(Job, {"parent": job.id})


async def run_queue(context: Context) -> None:
    await worker.run_queued_jobs(context, cast("Any", context.bus))


async def check_end(context: Context, job: Job, state: JobState = JobState.SUCCEEDED) -> Job:
    """Check how the job ended, and that all its parts have ended; return it."""
    ended = await job_answers.get_job(context, job.id)
    assert ended.state is state, ended.error
    assert not ended.parts_open
    assert ended.children == []
    assert all(part.is_finished for part in await parts_of(context, job))
    return ended


def test_one_worker_alone_does_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(work)

    async def scenario(context: Context) -> None:
        job = await start(context)
        assert await execute_job(context, job.id) is Outcome.DONE
        ended = await check_end(context, job)
        assert (ended.progress.done, ended.progress.total, ended.progress.step) == (40, 40, "merge")
        parts = await parts_of(context, job)
        assert [(part.kind, part.target, part.state, part.attempt) for part in parts] == [
            ("merge", "c", JobState.SUCCEEDED, 1)
        ] * PARTS
        assert split.numbers == [1, 2, 3, 4]
        await run_queue(context)  # the messages that woke nobody else
        assert split.numbers == [1, 2, 3, 4]

    play(tmp_path, monkeypatch, split, scenario)


def test_workers_that_are_free_take_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []

    async def meet(context: Context, run: JobRun, command: MergeRange) -> None:
        at_once.append(command.number)
        async with asyncio.timeout(20):
            while len(at_once) < PARTS:  # no part ends before all four are at work
                await asyncio.sleep(0.01)
        await work(context, run, command)

    async def scenario(context: Context) -> None:
        job = await start(context)
        queue = cast("Any", context.bus).queue

        async def serve() -> None:
            while True:
                _, job_id = await queue.get()
                await execute_job(context, job_id)

        workers = [asyncio.create_task(serve()) for _ in range(PARTS)]
        async for _ in job_answers.watch_job(context, job.id):
            pass
        for task in workers:
            task.cancel()
        await asyncio.wait(workers)
        await check_end(context, job)
        assert sorted(at_once) == [1, 2, 3, 4]

    play(tmp_path, monkeypatch, Split(meet), scenario)


def test_a_part_that_fails_fails_the_job_with_its_error_and_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 3:
            raise NotFound("No such thing.", collection="x", traceback="line 7")
        await work(context, run, command)

    async def scenario(context: Context) -> None:
        job = await start(context)
        await execute_job(context, job.id)
        ended = await check_end(context, job, JobState.FAILED)
        assert ended.error
        assert (ended.error.code, ended.error.message, ended.error.traceback) == (
            "not_found",
            "No such thing.",
            "line 7",
        )
        states = [part.state.value for part in await parts_of(context, job)]
        assert states == ["succeeded", "succeeded", "failed", "cancelled"]
        await run_queue(context)

    play(tmp_path, monkeypatch, Split(fail), scenario)


def test_the_first_failure_in_order_counts_and_a_cancelled_part_at_once() -> None:
    def part(state: JobState) -> Job:
        error = JobError(code="not_found", message=f"Part {state} is missing.")
        return Job(kind="merge", target="a", lock="merge:a", state=state, error=error)

    running, done, failed, cancelled = (
        part(JobState(state)) for state in ("running", "succeeded", "failed", "cancelled")
    )
    assert parts._find_end([running, failed], lambda _: False) == []
    assert parts._find_end([done, running, failed], lambda _: False) == []
    assert parts._find_end([done, running], lambda _: True) == [done]
    with pytest.raises(NotFound):
        parts._find_end([done, failed, running], lambda _: False)
    with pytest.raises(Cancelled):
        parts._find_end([running, cancelled], lambda _: False)


def test_a_transient_error_costs_the_part_an_attempt_and_not_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sourcebook.parts.RETRY_SECONDS", 0.01)
    failures = 1

    async def flicker(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 2 and split.numbers.count(2) <= failures:
            raise DownloadInterrupted("connection reset")
        await work(context, run, command)

    split = Split(flicker)

    async def scenario(context: Context) -> None:
        nonlocal failures
        job = await start(context)
        await execute_job(context, job.id)
        assert (await check_end(context, job)).attempt == 1
        assert [part.attempt for part in await parts_of(context, job)] == [1, 2, 1, 1]
        failures = 99
        again = await start(context)
        await execute_job(context, again.id)
        ended = await check_end(context, again, JobState.FAILED)
        assert ended.error
        assert (ended.error.code, ended.attempt) == ("job_failed", 1)
        assert "connection reset" in ended.error.message

    play(tmp_path, monkeypatch, split, scenario)


@pytest.mark.parametrize("whom", ["the job", "a part"])
def test_cancelling_ends_the_job_and_all_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whom: str) -> None:
    async def scenario(context: Context) -> None:
        job = await start(context)
        running = asyncio.create_task(execute_job(context, job.id))
        while not split.numbers:
            await asyncio.sleep(0.01)
        (first, *_) = await parts_of(context, job)
        elsewhere = asyncio.create_task(execute_job(context, (await parts_of(context, job))[1].id))
        await asyncio.sleep(0.1)
        await job_commands.cancel_job(context, job.id if whom == "the job" else first.id)
        await asyncio.wait_for(running, 15)
        assert await asyncio.wait_for(elsewhere, 15) is Outcome.DONE
        await recover_jobs(context)
        await check_end(context, job, JobState.CANCELLED)
        assert {part.state for part in await parts_of(context, job)} == {JobState.CANCELLED}
        assert split.numbers == [1, 2]

    split = Split(never_end)
    play(tmp_path, monkeypatch, split, scenario)


def test_the_time_limit_of_the_job_ends_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        job = await start(context)
        await execute_job(context, job.id)
        ended = await check_end(context, job, JobState.FAILED)
        assert ended.error
        assert ended.error.code == "time_limit"

    play(tmp_path, monkeypatch, Split(never_end), scenario, job_time_limit=timedelta(seconds=0.5))


def test_a_part_whose_worker_died_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work_slowly(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 1 and not stolen:
            (_, second, *_) = await context.state.find(Job, {"parent": command.job})
            await context.locks.acquire(second.lock, f"{second.id}/dead", timedelta(seconds=1))
            await context.state.update(Job, second.id, lambda job: job.move_to(JobState.RUNNING, attempt=1))
            stolen.append(second.id)
        await work(context, run, command)

    stolen: list[str] = []

    async def scenario(context: Context) -> None:
        job = await start(context)
        await execute_job(context, job.id)
        await check_end(context, job)
        assert [part.attempt for part in await parts_of(context, job)] == [1, 2, 1, 1]

    play(tmp_path, monkeypatch, Split(work_slowly), scenario)


async def die_in_the_middle(context: Context, job: Job, split: Split, number: int) -> None:
    """Do the job until part `number` is at work, then leave everything as kill -9 does."""
    running = asyncio.create_task(execute_job(context, job.id))
    while number not in split.numbers:
        await asyncio.sleep(0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sourcebook.parts._PartRun.give_up", lambda self: asyncio.wait({cancelled(self._task)}))
        running.cancel()
        await asyncio.wait({running})


def cancelled(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    task.cancel()
    return task


def test_a_job_whose_worker_died_goes_on_with_what_its_parts_have_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop_at_three(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 3 and split.numbers.count(3) == 1:
            await asyncio.sleep(60)
        await work(context, run, command)

    split = Split(stop_at_three)

    async def scenario(context: Context) -> None:
        job = await start(context)
        await die_in_the_middle(context, job, split, 3)
        assert len(await context.documents.names()) == 2
        await execute_job(context, job.id)
        assert (await check_end(context, job)).attempt == 2
        assert split.numbers == [1, 2, 3, 3, 4]
        assert [part.attempt for part in await parts_of(context, job)] == [1, 1, 2, 1]

    play(tmp_path, monkeypatch, split, scenario)


def test_a_job_that_begins_again_with_another_plan_ends_its_former_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop_at_three(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 3 and command.start == "a":
            await asyncio.sleep(60)
        await work(context, run, command)

    split = Split(stop_at_three)

    async def scenario(context: Context) -> None:
        job = await start(context)
        await die_in_the_middle(context, job, split, 3)
        split.plan = "b"
        await execute_job(context, job.id)
        await check_end(context, job)
        states = [(part.command["start"], part.state.value) for part in await parts_of(context, job)]
        assert sorted(states) == [("a", "cancelled")] * 2 + [("a", "succeeded")] * 2 + [("b", "succeeded")] * 4

    play(tmp_path, monkeypatch, split, scenario)


def test_a_job_that_is_given_up_takes_its_parts_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop_at_three(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 3:
            await asyncio.sleep(60)
        await work(context, run, command)

    split = Split(stop_at_three)

    async def scenario(context: Context) -> None:
        job = await start(context)
        await die_in_the_middle(context, job, split, 3)
        await recover_jobs(context)
        ended = await check_end(context, job, JobState.FAILED)
        assert ended.error
        assert ended.error.code == "worker_lost"

    play(tmp_path, monkeypatch, split, scenario, job_attempts=1)


def test_beat_removes_what_could_not_be_removed_when_the_job_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(context: Context) -> None:
        async def refuse(*_: Any) -> None:
            raise EngineUnavailable("The store does not answer.")

        async def take_the_store_away() -> None:
            patch.setattr(type(context.documents), "drop", refuse)

        split.after = take_the_store_away
        job = await start(context)
        with pytest.MonkeyPatch.context() as patch:
            await execute_job(context, job.id)
            lost = await job_commands.submit(context, BuildDocuments(config="other", build="b"))
            await context.state.update(Job, lost.id, lambda found: found.model_copy(update={"sent_at": 0}))
            assert await recover_jobs(context) == [lost.id, job.id]  # nothing else waits for the store
            await job_commands.cancel_job(context, lost.id)
        ended = await job_answers.get_job(context, job.id)
        assert (ended.state, ended.parts_open, ended.warnings) == (JobState.SUCCEEDED, True, [])
        assert len(await context.documents.names()) == PARTS
        await recover_jobs(context)
        await check_end(context, job)

    split = Split(work)
    play(tmp_path, monkeypatch, split, scenario)


def test_a_part_that_ends_after_its_job_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def outlive(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 2:
            await context.state.update(Job, command.job, lambda job: job.move_to(JobState.FAILED))
        await work(context, run, command)

    async def scenario(context: Context) -> None:
        job = await start(context)
        await execute_job(context, job.id)
        await recover_jobs(context)
        await check_end(context, job, JobState.FAILED)

    play(tmp_path, monkeypatch, Split(outlive), scenario)


def test_a_worker_that_must_stop_hands_back_its_part_and_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop_at_two(context: Context, run: JobRun, command: MergeRange) -> None:
        if command.number == 2 and split.numbers.count(2) == 1:
            stop.set(timedelta(seconds=0))
            await asyncio.sleep(60)
        await work(context, run, command)

    split, stop = Split(stop_at_two), StopSign()

    async def scenario(context: Context) -> None:
        job = await start(context)
        assert await asyncio.wait_for(execute_job(context, job.id, stop), 15) is Outcome.AT_ONCE
        assert len(await context.documents.names()) == 1  # what is done stays done
        assert [part.attempt for part in await parts_of(context, job)] == [1, 0, 0, 0]
        await execute_job(context, job.id)
        assert (await check_end(context, job)).attempt == 1
        assert [part.attempt for part in await parts_of(context, job)] == [1, 1, 1, 1]

    play(tmp_path, monkeypatch, split, scenario)


def test_a_broker_that_is_away_only_leaves_the_parts_to_this_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(context: Context) -> None:
        async def refuse(*_: Any) -> None:
            raise EngineUnavailable("The broker does not answer.")

        job = await start(context)
        monkeypatch.setattr(type(context.bus), "send", refuse)
        await execute_job(context, job.id)
        await check_end(context, job)

    play(tmp_path, monkeypatch, Split(work), scenario)
