"""Indices that an earlier version wrote: what an API serves from one is indexed again, by a job and without a person.

Until the new index is there, documents are answered by id, and searches with the reason why they are not.
"""

from sourcebook.context import Context
from sourcebook.errors import Busy, EngineUnavailable
from sourcebook.flow.messages import IndexBuild
from sourcebook.hub.access.model import SYSTEM
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases.model import Api, Release
from sourcebook.logging import get_logger

log = get_logger(__name__)

REASON = "an earlier version wrote the index"


async def find_outdated(context: Context, api: Api) -> Release | None:
    """Return the release that an API serves if an earlier version wrote its index."""
    release = await context.state.get(Release, api.release) if api.release else None
    return release if release is not None and await context.search.is_outdated(release.index) else None


async def renew_indices(context: Context) -> list[str]:
    """Start a job for each API that serves an outdated index, once; return the ids of the jobs.

    A job that failed or was cancelled is not started again before its API moves.
    """
    started = []
    for api in await context.state.find(Api):
        try:
            job = await start_renewal(context.asked_by(SYSTEM), api)
        except EngineUnavailable as problem:
            log.warning("renewal_waits", api=api.name, error=problem.message)
            continue
        if job is not None:
            log.warning("index_outdated", api=api.name, release=api.release, job=job.id)
            started.append(job.id)
    return started


async def start_renewal(context: Context, api: Api) -> Job | None:
    """Start to index again what an API serves if its index is outdated and nobody is at it, or failed at it.

    Raises:
        EngineUnavailable: the broker or the search engine does not answer.
    """
    release = await find_outdated(context, api)
    if release is None:
        return None
    for job in await context.state.find(Job, {"target": release.build}):
        if job.command.get("renews") == release.name and job.queued_at > api.updated_at:
            return None
    command = IndexBuild(build=release.build, api=api.name, reason=REASON, renews=release.name)
    try:
        return await submit(context, command)
    except Busy:
        return None
