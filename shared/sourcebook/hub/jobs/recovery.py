"""Jobs whose worker or message was lost: found, and sent again or ended."""

import asyncio
import os
import time

from sourcebook.context import Context
from sourcebook.flow.stages import STAGES
from sourcebook.hub.jobs.commands import end_parts_if_possible, finish_lost, remove_scratch, send
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.logging import get_logger

log = get_logger(__name__)

_RESEND_SECONDS = 30.0


async def recover_running(context: Context) -> list[str]:
    """Send again the running jobs that lost their worker: nobody holds their lock. End those that failed too often.

    Return the ids of both. Sending twice does no harm: a job is claimed by its lock. A kind of job that this version does not
    know is left alone.
    """
    return [
        job.id
        for job in await context.state.find(Job, {"state": JobState.RUNNING})
        if job.kind in STAGES and await context.locks.holder(job.lock) is None and await _recover(context, job)
    ]


async def resend_queued(context: Context) -> list[str]:
    """Send again the queued jobs that may have lost their message; return their ids.

    A job that waits may also wait behind others: it is sent again after it waited 30 seconds, and then each time that it waited
    twice as long.
    """
    sent = []
    for job in await context.state.find(Job, {"state": JobState.QUEUED}):
        if job.kind in STAGES and _is_overdue(context, job, _seconds_waited(job)):
            await send(context, job)
            sent.append(job.id)
    return sent


async def end_open_parts(context: Context) -> list[str]:
    """End the parts of jobs that have ended; return the ids of those jobs."""
    ended = [job for job in await context.state.find(Job, {"parts_open": True}) if job.is_finished]
    for job in ended:
        await end_parts_if_possible(context, job)
    return [job.id for job in ended]


async def remove_left_scratch(context: Context) -> list[str]:
    """Remove what jobs have left in the scratch folder of this machine; return their ids.

    A worker that is killed cannot remove what it wrote; when another machine ends its job, only this one can.
    """
    folder = context.settings.home / "scratch"
    removed = []
    for job_id in await asyncio.to_thread(os.listdir, folder) if folder.is_dir() else ():
        job = await context.state.get(Job, job_id)
        if job is None or job.is_finished:
            await remove_scratch(context, job_id)
            removed.append(job_id)
    return removed


async def _recover(context: Context, job: Job) -> bool:
    if job.cancel_requested:
        await finish_lost(context, job, JobState.CANCELLED, "the job was cancelled and its worker is gone")
    elif job.attempt >= context.settings.job_attempts:
        await finish_lost(context, job, JobState.FAILED, f"its worker died {job.attempt} times; see the worker's log")
    elif _is_overdue(context, job):
        log.warning("job_resent", job=job.id, caller=str(job.caller), attempt=job.attempt)
        await send(context, job)
    else:
        return False
    return True


def _seconds_waited(job: Job) -> float:
    """How long a job had waited when it was last sent."""
    return 0.0 if job.sent_at is None else job.sent_at - job.queued_at


def _is_overdue(context: Context, job: Job, patience: float = 0.0) -> bool:
    least = min(_RESEND_SECONDS, context.settings.lock_ttl.total_seconds())
    return job.sent_at is None or time.time() - job.sent_at > max(least, patience)
