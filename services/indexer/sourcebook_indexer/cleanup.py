"""Remove indices that no API serves or keeps for rollback."""

from sourcebook.context import Context
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job
from sourcebook.hub.releases.model import Api, Release
from sourcebook_indexer.rollover import parse_index_name


async def drop_unused_indices(context: Context) -> list[str]:
    """Drop the releases that fell out of every API's history, and indices whose job ended before its API was switched."""
    kept = {name for api in await context.state.find(Api) for name in (api.release, *api.history)}
    used = set()
    for release in await context.state.find(Release):
        if release.name in kept:
            used.add(release.index)
    active = {
        job.id for job in await context.state.find(Job, {"kind": ("index", "apply"), "state": tuple(ACTIVE_STATES)})
    }
    dropped = []
    for release in await context.state.find(Release):
        if release.name not in kept and parse_index_name(release.index)[2] not in active:
            await context.state.delete(Release, release.name)
    for index in await context.search.names():
        if index not in used and parse_index_name(index)[2] not in active:
            await context.search.drop(index)
            dropped.append(index)
    return dropped
