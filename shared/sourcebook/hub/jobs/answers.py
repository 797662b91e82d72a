"""What people and workers ask of jobs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, NotFound
from sourcebook.flow.stages import STAGES, is_part
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job, JobState
from sourcebook.logging import get_logger

log = get_logger(__name__)
_WATCH_SECONDS = 0.2
_ARCHIVE = "archive"  # the kind of job that takes a build away


async def get_job(context: Context, job_id: str) -> Job:
    """Return a job.

    Raises:
        NotFound: there is no such job.
    """
    job = await context.state.get(Job, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id!r}.", job=job_id)
    return job


async def list_jobs(context: Context, *, limit: int = 50, after: str | None = None, **where: str | None) -> list[Job]:
    """Return jobs, newest first, or those older than the job `after`; `where` may give state, kind, target, parent.

    Raises:
        InvalidRequest: the state or the kind does not exist.
    """
    wanted: dict[str, Any] = {key: value for key, value in where.items() if value}
    allowed = {"state": [state.value for state in JobState], "kind": list(STAGES)}
    for key, values in allowed.items():
        if key in wanted and wanted[key] not in values:
            raise InvalidRequest(
                f"{key} {wanted[key]!r} does not exist; known are {', '.join(values)}.", allowed=values
            )
    return await context.state.find(Job, wanted, newest_first=True, after=after, limit=limit)


async def list_active_jobs(context: Context) -> list[Job]:
    """Return the jobs that are queued or running, newest first."""
    return await context.state.find(Job, {"state": tuple(ACTIVE_STATES)}, newest_first=True)


async def find_user(context: Context, build: str) -> Job | None:
    """Return an active job that needs a build, or None; one that archives it does not."""
    for job in await context.state.find(Job, {"state": tuple(ACTIVE_STATES)}):
        if job.kind != _ARCHIVE and build in (job.target, *job.command.values()):
            return job
    return None


async def is_wanted(context: Context, job_id: str) -> bool:
    """Whether a job should go on: it is neither finished nor cancelled, and neither is the job that it is a part of."""
    job = await context.state.get(Job, job_id)
    if job is None or job.cancel_requested or job.is_finished:
        return False
    return not is_part(job.kind) or job.parent is None or await is_wanted(context, job.parent)


async def watch_job(context: Context, job_id: str) -> AsyncIterator[Job]:
    """Yield a job now and whenever it changes, until it is finished."""
    last = None
    while last is None or not last.is_finished:
        job = await get_job(context, job_id)
        if job != last:
            last = job
            yield job
        else:
            await asyncio.sleep(_WATCH_SECONDS)
