"""Runs one job: claims it, keeps its lock alive, reports progress, records how it ended, and sends what follows."""

import asyncio
import contextlib
import mmap
import secrets
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Protocol

from sourcebook.context import Context
from sourcebook.errors import (
    Cancelled,
    EngineUnavailable,
    LeaseLost,
    SourcebookError,
    TimeLimitExceeded,
    TransientError,
)
from sourcebook.flow.messages import Message
from sourcebook.flow.stages import STAGES
from sourcebook.hub.jobs.answers import is_wanted
from sourcebook.hub.jobs.commands import end_parts, remove_made, remove_scratch, submit_children
from sourcebook.hub.jobs.lease import keep_lock
from sourcebook.hub.jobs.model import Job, JobError, JobState, Progress
from sourcebook.hub.jobs.recovery import remove_left_scratch
from sourcebook.hub.schedules.rules import next_commands
from sourcebook.logging import bind_log_context, get_logger, hide_secrets, hide_secrets_in
from sourcebook.metrics import DOCUMENTS, JOB_SECONDS
from sourcebook.references import load_reference
from sourcebook.renewal import End
from sourcebook.sdk.process import LISTENER

log = get_logger(__name__)

Handler = Callable[[Context, "JobRun", Any], Awaitable[Message]]
_PROGRESS_SECONDS = 0.3  # progress is written at most this often
_PROGRESS_SHARE = 20  # and takes at most one part of so many of a job's time, however slow the state store is
_HEARTBEAT_SECONDS = 1.0
_MAX_WARNINGS = 100
_MAX_OUTPUT = 8 * 1024  # characters of the beginning, and as many of the end, of what a plugin printed
_DEADLINE = struct.Struct("d")
RETRY_SECONDS = 2.0  # a job that waits for a lock, or for another attempt, is looked at again after this


class Outcome(Enum):
    """What the bus does with a job's message."""

    DONE = auto()
    """Nothing: the job ended, or was not ours to run."""
    LATER = auto()
    """Deliver it again in a few seconds: another job holds the lock, or a transient error asks for another attempt."""
    AT_ONCE = auto()
    """Deliver it again now, to another worker: this one was told to stop."""


class StopSign:
    """Tells all processes of a worker when to hand back their jobs; make it before they are forked."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _DEADLINE.size)

    def set(self, grace: timedelta) -> None:
        """Let jobs run for another `grace`."""
        self._shared[:] = _DEADLINE.pack(time.monotonic() + grace.total_seconds())

    @property
    def is_due(self) -> bool:
        """Whether the sign was set, and the time is over."""
        (deadline,) = _DEADLINE.unpack(self._shared[:])
        return bool(0 < deadline <= time.monotonic())  # one clock for all processes of a machine


class JobRun:
    """What business code knows of the job it works for."""

    def __init__(self, context: Context, job: Job, stop: StopSign | None = None) -> None:
        self.id = job.id
        self.target = job.target
        self.stop = stop
        self.warnings: list[str] = list(job.warnings)
        self._context = context
        self._kind = job.kind
        self._began = time.monotonic()
        self._counted: dict[str, int] = {}
        self._next_write = 0.0
        self._step = ""
        self._printed = self._printed_last = ""
        self._printed_rest = 0  # characters that came after the beginning

    async def progress(self, step: str, done: int, total: int | None = None, unit: str = "") -> None:
        """Report how far the job is; call it as often as you like, it is written a few times a second at most."""
        now = time.monotonic()
        if unit == "documents":
            DOCUMENTS.labels(self._kind, step).inc(max(0, done - self._counted.get(step, 0)))
            self._counted[step] = done
        if step == self._step and done != total and now < self._next_write:
            return
        self._step = step
        progress = Progress(done=done, total=total, unit=unit, step=step)
        await self._context.state.update(Job, self.id, lambda job: job.model_copy(update={"progress": progress}))
        written = time.monotonic()
        self._next_write = written + max(_PROGRESS_SECONDS, _PROGRESS_SHARE * (written - now))

    def warn(self, message: str) -> None:
        """Add a warning to the job's record, once; the first hundred are kept."""
        if message in self.warnings:
            return
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(message)
        log.info("job_warning", message=message)  # who follows the job is shown its record

    def note_output(self, text: str) -> None:
        """Keep what a plugin printed with the job: the beginning and the end."""
        room = _MAX_OUTPUT - len(self._printed)
        self._printed += text[:room]
        self._printed_last = (self._printed_last + text[max(0, room) :])[-_MAX_OUTPUT:]
        self._printed_rest += len(text[max(0, room) :])

    @property
    def output(self) -> str:
        """What plugins printed so far."""
        left_out = self._printed_rest - len(self._printed_last)
        gap = f"\n... {left_out:,} characters left out ...\n" if left_out else ""
        return f"{self._printed}{gap}{self._printed_last}"

    def count(self, state: str) -> None:
        """Count this run and how long it took among those that ended so."""
        JOB_SECONDS.labels(self._kind, state).observe(time.monotonic() - self._began)


class _TakenOverError(Exception):
    """The lock expired while we worked (a machine that slept, say) and another worker has the job: leave its record alone."""


class _HandedBackError(Exception):
    """The worker must stop: give the lock back, so that another begins the job again."""


async def execute_job(context: Context, job_id: str, stop: StopSign | None = None) -> Outcome:
    """Run a job if it is ours to run, until `stop` is due. Delivering an id twice, or at once to two workers, does no harm."""
    job = await context.state.get(Job, job_id)
    if job is None or job.is_finished:
        return Outcome.DONE
    owner = f"{job.id}/{secrets.token_hex(8)}"
    if not await context.locks.acquire(job.lock, owner, context.settings.lock_ttl):
        holder = await context.locks.holder(job.lock) or ""
        return Outcome.DONE if holder.partition("/")[0] == job.id else Outcome.LATER
    try:
        job = await context.state.update(Job, job_id, _claim)
        if job.is_finished:
            return Outcome.DONE
        with bind_log_context(job=job.id, kind=job.kind, target=job.target, caller=str(job.caller)):
            # What it starts in its turn is asked for by the same caller.
            return await _run_claimed(context.asked_by(job.caller), job, owner, stop)
    finally:
        await context.locks.release(job.lock, owner)


def _claim(job: Job) -> Job:
    if job.is_finished:
        return job
    if job.cancel_requested:
        return job.move_to(JobState.CANCELLED)
    return job.move_to(JobState.RUNNING, attempt=job.attempt + 1)


async def _run_claimed(context: Context, job: Job, owner: str, stop: StopSign | None) -> Outcome:
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(remove_scratch, context, job.id)
        try:
            return await _run_to_end(context, job, owner, stop)
        except _TakenOverError:
            log.warning("job_taken_over")
            stack.pop_all()  # the temporary files are the new owner's, as the record is
            return Outcome.DONE


async def _run_to_end(context: Context, job: Job, owner: str, stop: StopSign | None) -> Outcome:
    run = JobRun(context, job, stop)
    log.info("job_started", attempt=job.attempt)
    try:
        message = await _run_handler(context, job, run, owner=owner, stop=stop)
        children = await submit_children(context, job, next_commands(message))
        await _finish(context, run, JobState.SUCCEEDED, result=message.model_dump(mode="json"), children=children)
    except _TakenOverError:
        raise
    except _HandedBackError:
        await _hand_back(context, run)
        return Outcome.AT_ONCE
    except Cancelled as error:
        await _finish(context, run, JobState.CANCELLED, error=_describe(error))
    except TransientError as error:
        if job.attempt < context.settings.job_attempts:
            run.warn(f"Attempt {job.attempt} failed and is repeated: {hide_secrets(error.message)}")
            await context.state.update(Job, job.id, lambda j: j.model_copy(update={"warnings": run.warnings}))
            run.count("repeated")
            return Outcome.LATER
        await _finish(context, run, JobState.FAILED, error=_describe(error))
    except SourcebookError as error:
        await _finish(context, run, JobState.FAILED, error=_describe(error))
    # A worker outlives every job: what nobody foresaw ends this job only, and its traceback goes to the log.
    except Exception:
        log.exception("job_crashed")
        what = f"Something unexpected went wrong in job {job.id}; the worker's log has the traceback under this id."
        await _finish(context, run, JobState.FAILED, error=JobError(code="internal", message=what))
    return Outcome.DONE


async def _run_handler(context: Context, job: Job, run: JobRun, *, owner: str, stop: StopSign | None) -> Message:
    stage = STAGES[job.kind]
    handler: Handler = load_reference(stage.handler)
    command = stage.command.model_validate(job.command)
    LISTENER.set(run.note_output)
    async with _watched(context, job, owner, stop):
        try:
            async with asyncio.timeout(context.settings.job_time_limit.total_seconds()):
                message = await handler(context, run, command)
        except TimeoutError as error:
            limit = context.settings.job_time_limit
            raise TimeLimitExceeded(
                f"Job {job.id} was ended after {limit}. SOURCEBOOK_JOB_TIME_LIMIT raises the limit.", job=job.id
            ) from error
    if not await context.locks.renew(job.lock, owner, context.settings.lock_ttl):
        raise _TakenOverError
    return message


@contextlib.asynccontextmanager
async def _watched(context: Context, job: Job, owner: str, stop: StopSign | None) -> AsyncIterator[None]:
    """Keep the lock while the body runs; end the body when someone asks for it, the lock is lost or `stop` is due."""
    try:
        async with keep_lock(context, job.lock, owner) as end:
            watcher = asyncio.create_task(_watch(context, job, stop, end))
            try:
                yield
            finally:
                watcher.cancel()
                await asyncio.wait({watcher})  # it works with engines that may be closed next
    except LeaseLost as error:
        if error.details.get("lock") != job.lock:  # a lock that the body needs beside that of the job
            raise
        raise _TakenOverError from error


async def _watch(context: Context, job: Job, stop: StopSign | None, end: End) -> None:
    """Look again and again what has become of a job, and end it when it must end."""
    try:
        while (reason := await _find_reason_to_end(context, job, stop)) is None:
            await asyncio.sleep(min(_HEARTBEAT_SECONDS, context.settings.lock_ttl.total_seconds() / 3))
    # Nobody could cancel or stop a job whose watcher is gone: what nobody foresaw ends the job.
    except Exception as error:
        log.warning("watcher_ended", job=job.id, exc_info=True)
        reason = error
    end(reason)


async def _find_reason_to_end(context: Context, job: Job, stop: StopSign | None) -> Exception | None:
    # While the state store is away, the body waits for it as well: it decides whether the job fails.
    with contextlib.suppress(EngineUnavailable, TimeoutError):
        async with asyncio.timeout(context.settings.lock_ttl.total_seconds() / 3):
            go_on = await is_wanted(context, job.id)
        if not go_on:
            return Cancelled(f"Job {job.id} was cancelled.", job=job.id)
    return _HandedBackError() if stop is not None and stop.is_due else None


async def _hand_back(context: Context, run: JobRun) -> None:
    # The job is not to blame, so the attempt does not count.
    run.warn("The worker was stopped; another begins the job again.")
    changes = {"warnings": run.warnings}
    await context.state.update(
        Job, run.id, lambda job: job.model_copy(update={**changes, "attempt": max(0, job.attempt - 1)})
    )
    run.count("handed_back")


async def _finish(context: Context, run: JobRun, state: JobState, **changes: Any) -> None:
    def finish(job: Job) -> Job:
        return job if job.is_finished else job.move_to(state, warnings=run.warnings, output=run.output, **changes)

    await remove_scratch(context, run.id)  # first: who sees that a job has ended finds nothing left of it
    job = await context.state.update(Job, run.id, finish)
    run.count(job.state.value)
    log.info("job_ended", state=job.state.value, error=job.error.message if job.error else None)
    # The job is over whatever the engines say: what they cannot remove now, beat removes.
    with contextlib.suppress(EngineUnavailable):
        if job.parts_open:
            await end_parts(context, job.id)
        if STAGES[job.kind].is_part and not await _is_needed(context, job):
            await remove_made(context, job.id)
        await remove_left_scratch(context)


async def _is_needed(context: Context, part: Job) -> bool:
    """Whether the job of a part will take what the part made."""
    return part.state is JobState.SUCCEEDED and part.parent is not None and await is_wanted(context, part.parent)


def _describe(error: SourcebookError) -> JobError:
    details = {key: hide_secrets_in(value) for key, value in error.details.items() if key != "traceback"}
    traceback = hide_secrets_in(error.details.get("traceback"))
    return JobError(code=error.code, message=hide_secrets(error.message), details=details, traceback=traceback)


async def run_queued_jobs(context: Context, bus: "InlineQueue") -> None:
    """Run the jobs that wait in an inline bus, and those they start, one after the other, in this process."""
    while not bus.queue.empty():
        stage, job_id = bus.queue.get_nowait()
        if await execute_job(context, job_id) is Outcome.LATER:
            await asyncio.sleep(RETRY_SECONDS)
            await bus.send(stage, job_id)


class InlineQueue(Protocol):
    """What `run_queued_jobs` needs of the inline bus."""

    queue: "asyncio.Queue[tuple[str, str]]"

    async def send(self, stage: str, job_id: str) -> None:
        """Put a job at the end of the queue."""
        ...
