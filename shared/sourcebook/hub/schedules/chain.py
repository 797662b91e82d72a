"""What a build configuration has to do next: build when a source has a new upload, release new builds, publish releases.

Each function compares what there is with what was dealt with, so that a crash at any point loses nothing.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from sourcebook.context import Context
from sourcebook.hub.builds.answers import list_builds
from sourcebook.hub.builds.commands import start_build, start_release
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.builds.news import current_uploads, find_news
from sourcebook.hub.jobs.answers import find_user
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job
from sourcebook.hub.publishing.commands import start_publish
from sourcebook.hub.releases.model import Api, Release, ReleaseMode
from sourcebook.hub.schedules.model import ChainState
from sourcebook.hub.sources.model import SourceState

_LOADING = ("dump", "upload")


class Step(NamedTuple):
    """What to start, and what is dealt with once that was started, or has failed for good."""

    start: Callable[[], Awaitable[list[Job]]]
    done: dict[str, Any]


async def note_chain(context: Context, config: str, **changes: Any) -> None:
    """Write down how far a build configuration went."""
    fresh = ChainState(config=config)
    await context.state.update(ChainState, config, lambda state: state.model_copy(update=changes), default=fresh)


async def find_next_build(context: Context, config: BuildConfig, state: ChainState) -> Step | None:
    """Build when a source has a new upload, once all that is being loaded for it is there."""
    if not config.on_new_upload:
        return None
    uploads = current_uploads(config, await context.state.find(SourceState))
    ids = sorted(uploads.values())
    if not ids or ids == state.uploads:
        return None
    sources = {name.partition("/")[0] for name in uploads}
    for job in await context.state.find(Job, {"state": tuple(ACTIVE_STATES)}):
        if job.kind in _LOADING and job.target.partition("/")[0] in sources:
            return None
    (news,) = await find_news(context, config.name)

    async def start() -> list[Job]:
        return [await start_build(context, config.name)] if news.newer else []

    return Step(start, {"uploads": ids})


async def find_next_release(context: Context, config: BuildConfig, state: ChainState) -> Step | None:
    """Release the newest build to every API of the configuration, if it is newer than what was dealt with."""
    if config.release == "off":
        return None
    position = await context.state.position(Build)
    if position == state.seen_builds:
        return None
    builds = [build for build in await list_builds(context, config.name) if build.archived_at is None]
    if not builds or builds[0].finished_at <= state.released_until:
        await note_chain(context, config.name, seen_builds=position)
        return None
    newest = builds[0]
    if await find_user(context, newest.name):
        return None
    released = {release.name for release in await context.state.find(Release, {"build": newest.name})}
    apis = await context.state.find(Api, {"config": config.name}) or [Api(name=config.name, config=config.name)]
    waiting = [api.name for api in apis if released.isdisjoint((api.release, *api.history))]
    mode: ReleaseMode = config.release

    async def start() -> list[Job]:
        return [await start_release(context, newest.name, api, mode=mode) for api in waiting]

    return Step(start, {"released_until": newest.finished_at})


async def find_next_publication(context: Context, config: BuildConfig, state: ChainState) -> Step | None:
    """Publish the newest release that an API of the configuration serves, if it is newer than what was dealt with."""
    if config.publish is None:
        return None
    served = [api.release for api in await context.state.find(Api, {"config": config.name}) if api.release]
    releases = [await context.state.get(Release, name) for name in served]
    waiting = [item for item in releases if item is not None and item.released_at > state.published_until]
    if not waiting:
        return None
    newest = max(waiting, key=lambda release: release.released_at)

    async def start() -> list[Job]:
        return [await start_publish(context, newest.build)]

    return Step(start, {"published_until": newest.released_at})
