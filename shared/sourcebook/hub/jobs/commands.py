"""Start, send and cancel jobs. The records are the truth; messages only point at them."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Collection

from sourcebook.context import Context
from sourcebook.errors import Busy, Conflict, EngineUnavailable
from sourcebook.flow.messages import Message
from sourcebook.flow.stages import is_part, stage_of
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job, JobError, JobState, new_job_id
from sourcebook.hub.names import build_part_collection_name, build_part_files_key
from sourcebook.logging import get_logger

log = get_logger(__name__)


def make_job(context: Context, command: Message, *, job_id: str | None = None, parent: str | None = None) -> Job:
    """Return the record of a new job: what the command wants, asked for by the caller of the context.

    All jobs are made here, so that none is without a caller.
    """
    stage = stage_of(command)
    return Job(
        id=job_id or new_job_id(),
        kind=stage.name,
        target=stage.target(command),
        lock=stage.lock(command),
        command=command.model_dump(mode="json"),
        caller=context.caller,
        parent=parent,
    )


async def submit(context: Context, command: Message, *, job_id: str | None = None) -> Job:
    """Create the job of a command and put it on its queue; where a job has the id `job_id` already, return that one.

    Raises:
        Busy: another job for the same source or build is queued or running.
        EngineUnavailable: the broker does not answer; the job is not created.
    """
    if job_id and (known := await context.state.get(Job, job_id)):
        return known
    await context.bus.ping()
    job = make_job(context, command, job_id=job_id)
    lock = job.lock
    # The short lock makes "look, then create" one step for all processes.
    while not await context.locks.acquire(f"submit:{lock}", job.id, context.settings.lock_ttl):
        await asyncio.sleep(0.05)
    try:
        active = await context.state.find(Job, {"lock": lock, "state": tuple(ACTIVE_STATES)}, limit=1)
        if active:
            raise Busy(
                f"Job {active[0].id} ({active[0].kind} {active[0].target}) is {active[0].state}. Wait for it or cancel it: "
                f"sourcebook jobs cancel {active[0].id}",
                job=active[0].id,
            )
        await context.state.insert(job.id, job)
    finally:
        await context.locks.release(f"submit:{lock}", job.id)
    return await send(context, job)


async def submit_children(context: Context, parent: Job, commands: list[Message]) -> list[str]:
    """Create and send the jobs that follow a job by themselves; return their ids.

    The ids are made from the parent's and from what the children are to do, so a parent that ran twice has its children once,
    and all of them, though it may find less to start the second time. They wait for their lock.
    """
    before = await context.state.find(Job, {"parent": parent.id})
    ids = [job.id for job in before if not is_part(job.kind)]
    for command in commands:
        job = make_job(context, command, job_id=f"{parent.id}.{command.digest}", parent=parent.id)
        if await context.state.insert(job.id, job):
            # The parent's work is done and must not be repeated because the broker is away: beat sends what was not sent.
            try:
                await send(context, job)
            except EngineUnavailable as error:
                log.warning("job_not_sent", job=job.id, error=error.message)
            ids.append(job.id)
    return ids


async def send(context: Context, job: Job) -> Job:
    """Note when, and put a job on its queue.

    In this order, because a worker may have the job the moment it is on its queue: nobody else is to write its record then.
    (FerretDB has lost a worker's write to one that began before it.)

    Raises:
        EngineUnavailable: the broker does not answer.
    """

    def sent_at(when: float | None) -> Callable[[Job], Job]:
        return lambda known: known.model_copy(update={"sent_at": when})

    job = await context.state.update(Job, job.id, sent_at(time.time()))
    try:
        await context.bus.send(job.kind, job.id)
    except EngineUnavailable:
        await context.state.update(Job, job.id, sent_at(None))
        raise
    return job


async def cancel_job(context: Context, job_id: str) -> Job:
    """Cancel a job: at once while it is queued, or when its worker is gone; within seconds while it runs.

    Raises:
        NotFound: there is no such job.
        Conflict: it has finished already.
    """

    def cancel(job: Job) -> Job:
        if job.is_finished:
            raise Conflict(f"Job {job.id} is {job.state} already.", job=job.id, state=job.state)
        if job.state is JobState.QUEUED:
            return job.move_to(JobState.CANCELLED, cancel_requested=True)
        return job.model_copy(update={"cancel_requested": True})

    await get_job(context, job_id)
    job = await context.state.update(Job, job_id, cancel)
    if job.state is JobState.RUNNING and await context.locks.holder(job.lock) is None:
        return await finish_lost(context, job, JobState.CANCELLED, "it was cancelled, and its worker is gone")
    return job


async def end_parts(context: Context, job_id: str, *, keep: Collection[str] = ()) -> None:
    """End the parts of a job, except those to `keep`, and remove what they made.

    A part that a worker has at hand ends within seconds, and its worker removes what it made. One whose worker died
    meanwhile is met by the next call: beat makes one until nothing is left.
    """
    parts = [job for job in await context.state.find(Job, {"parent": job_id}) if is_part(job.kind)]
    ended = [await _end_part(context, part) for part in parts if part.id not in keep]
    if all(ended) and not keep:
        await context.state.update(Job, job_id, lambda job: job.model_copy(update={"parts_open": False}))


async def _end_part(context: Context, part: Job) -> bool:
    """Return whether a part has ended."""
    is_held = await context.locks.holder(part.lock) is not None

    def end(known: Job) -> Job:
        if known.is_finished:
            return known
        if known.state is JobState.RUNNING and is_held:
            return known.model_copy(update={"cancel_requested": True})
        return known.move_to(JobState.CANCELLED, cancel_requested=True)

    part = await context.state.update(Job, part.id, end)
    if part.is_finished:
        await remove_made(context, part.id)
    return part.is_finished


async def remove_made(context: Context, part_id: str) -> None:
    """Remove what a part made for its job, complete or not."""
    await context.documents.drop(build_part_collection_name(part_id))
    await context.files.discard(build_part_files_key(part_id))
    await context.files.delete(build_part_files_key(part_id))


async def remove_scratch(context: Context, job_id: str) -> None:
    """Remove the temporary files that a job has on this machine."""
    await asyncio.to_thread(shutil.rmtree, context.settings.home / "scratch" / job_id, ignore_errors=True)


async def finish_lost(context: Context, job: Job, state: JobState, why: str) -> Job:
    await remove_scratch(context, job.id)
    error = JobError(code="worker_lost", message=f"Job {job.id} ({job.kind} {job.target}) ended: {why}.")
    ended = await context.state.update(Job, job.id, lambda j: j if j.is_finished else j.move_to(state, error=error))
    await end_parts_if_possible(context, ended)
    return ended


async def end_parts_if_possible(context: Context, job: Job) -> None:
    """End the parts of a job that has ended; while a store is away, that is left to the next call."""
    if job.parts_open:
        with contextlib.suppress(EngineUnavailable):
            await end_parts(context, job.id)
