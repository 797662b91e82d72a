"""Has a job done in parts, by whichever workers are free, and by this one where none is.

A part is a job of its own: a record with a lock, a message that wakes workers, attempts, an end. Its id is made from the job's
and from what is to be done, so that a job that begins again finds what its parts have done before. Parts end with their job.
"""

import asyncio
from collections.abc import Callable, Sequence

from sourcebook.context import Context
from sourcebook.errors import Cancelled, EngineUnavailable, JobFailed, TransientError, rebuild_error
from sourcebook.flow.messages import PartCommand
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.commands import end_parts, make_job, send
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.logging import get_logger
from sourcebook.worker import RETRY_SECONDS, JobRun, Outcome, StopSign, execute_job

log = get_logger(__name__)

_LOOK_SECONDS = 0.3


async def run_parts(
    context: Context,
    run: JobRun,
    commands: Sequence[PartCommand],
    *,
    step: str,
    total: int | None = None,
    is_last: Callable[[Job], bool] = lambda _: False,
) -> list[Job]:
    """Have the parts of a job done; return their records, all of them succeeded, in the order of the commands.

    What they make stays until the job has ended. The progress of the job is that of its parts together.

    Args:
        context: the engines.
        run: the job.
        commands: what the parts are to do.
        step: what the job's progress calls this.
        total: documents of all parts.
        is_last: whether what a part made leaves nothing to do for those behind it, which are not waited for.

    Raises:
        SourcebookError: a part failed, and those before it did not; it is the error of that part.
        Cancelled: someone cancelled a part.
    """
    ids = await _submit_parts(context, run.id, commands)
    mine: _PartRun | None = None
    try:
        while True:
            found = {part.id: part for part in await context.state.find(Job, {"parent": run.id})}
            parts = [found.get(part_id) or await get_job(context, part_id) for part_id in ids]
            await run.progress(step, sum(part.progress.done for part in parts), total, "documents")
            if ended := _find_end(parts, is_last):
                return ended
            if mine is not None and mine.has_ended():
                mine = None
            if mine is None and (free := await _find_free(context, parts)):
                mine = _PartRun(context, free.id, run.stop)
            await (mine.wait() if mine else asyncio.sleep(_LOOK_SECONDS))
    finally:
        if mine is not None:
            await mine.give_up()


async def _submit_parts(context: Context, job_id: str, commands: Sequence[PartCommand]) -> list[str]:
    parts = [make_job(context, command, job_id=command.part, parent=job_id) for command in commands]
    ids = [part.id for part in parts]
    await context.state.update(Job, job_id, lambda job: job.model_copy(update={"parts_open": True}))
    await end_parts(context, job_id, keep=ids)  # of an earlier attempt, which had something else to do
    for part in parts:
        await _submit_part(context, part)
    return ids


async def _submit_part(context: Context, part: Job) -> None:
    known = await context.state.get(Job, part.id)
    if known is not None and known.state is JobState.SUCCEEDED:
        return
    if known is not None and known.is_finished:  # in an earlier attempt of the job: this is another one
        await context.state.delete(Job, part.id)
    await context.state.insert(part.id, part)
    try:
        await send(context, part)
    except EngineUnavailable as error:  # this worker does what no other hears of
        log.warning("part_not_sent", part=part.id, error=error.message)


def _find_end(parts: list[Job], is_last: Callable[[Job], bool]) -> list[Job]:
    """Return the parts if enough of them have succeeded. The first failure in their order counts, not the first in time."""
    for part in parts:
        if part.state is JobState.CANCELLED:
            raise Cancelled(f"Part {part.id} was cancelled.", job=part.id)
    for number, part in enumerate(parts, start=1):
        _raise_if_failed(part)
        if part.state is not JobState.SUCCEEDED:
            return []
        if is_last(part):
            return parts[:number]
    return parts


def _raise_if_failed(part: Job) -> None:
    if part.state is not JobState.FAILED or part.error is None:
        return
    details = {"job": part.id} | part.error.details
    if part.error.traceback:
        details["traceback"] = part.error.traceback
    error = rebuild_error(part.error.code, part.error.message, details)
    if isinstance(error, TransientError):  # the part has had all attempts that there are
        raise JobFailed(f"Part {part.id} failed: {error.message}", **details)
    raise error


async def _find_free(context: Context, parts: Sequence[Job]) -> Job | None:
    """Return a part that nobody has: it is queued, or its worker died."""
    for part in parts:
        if part.state is JobState.QUEUED:
            return part
        if part.state is JobState.RUNNING and await context.locks.holder(part.lock) is None:
            return part
    return None


class _PartRun:
    """A part that this worker does itself."""

    def __init__(self, context: Context, part_id: str, stop: StopSign | None) -> None:
        self._context = context
        self._part_id = part_id
        self._is_at_work = True
        # A task of its own: that someone cancels the part, or that its lock is lost, is none of the job's business.
        self._task = asyncio.create_task(self._execute(stop))

    async def _execute(self, stop: StopSign | None) -> None:
        outcome = await execute_job(self._context, self._part_id, stop)
        self._is_at_work = False
        if outcome is not Outcome.DONE:
            await asyncio.sleep(RETRY_SECONDS)

    async def wait(self) -> None:
        """Wait a little."""
        await asyncio.wait({self._task}, timeout=_LOOK_SECONDS)

    def has_ended(self) -> bool:
        """Whether this worker is done with it, however it ended; raises what the engines raised."""
        if not self._task.done():
            return False
        self._task.result()
        return True

    async def give_up(self) -> None:
        """Leave the part to others. It is not to blame, so the attempt does not count."""
        was_at_work = self._is_at_work and not self._task.done()
        self._task.cancel()
        await asyncio.wait({self._task})
        if not was_at_work:
            return

        def take_back(job: Job) -> Job:
            return job if job.is_finished else job.model_copy(update={"attempt": max(0, job.attempt - 1)})

        await self._context.state.update(Job, self._part_id, take_back)
