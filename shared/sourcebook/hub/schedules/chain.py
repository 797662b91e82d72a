"""What a build configuration does by itself: build when a source has a new upload, release new builds, publish releases.

Nothing here listens to events: each time it is called, it compares what there is with what was dealt with, so that a crash
at any point loses nothing.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from sourcebook.context import Context
from sourcebook.errors import Busy, EngineUnavailable, SourcebookError
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
from sourcebook.logging import get_logger, hide_secrets

log = get_logger(__name__)

_LOADING = ("dump", "upload")


class _Step(NamedTuple):
    """What to start, and what is dealt with once that was started, or has failed for good."""

    start: Callable[[], Awaitable[list[Job]]]
    done: dict[str, Any]


async def follow_chains(context: Context) -> list[str]:
    """Start the next jobs of every build configuration that has some; return their ids."""
    started: list[str] = []
    for config in await context.state.find(BuildConfig):
        state = await context.state.get(ChainState, config.name) or ChainState(config=config.name)
        steps = [
            await _next_build(context, config, state) if config.on_new_upload else None,
            await _next_release(context, config, state) if config.release != "off" else None,
            await _next_publication(context, config, state) if config.publish is not None else None,
        ]
        for step in steps:
            if step is not None:
                started += await _take(context, config, step)
    return started


async def _take(context: Context, config: BuildConfig, step: _Step) -> list[str]:
    jobs: list[Job] = []
    error = None
    try:
        jobs = await step.start()
    except Busy:
        return []  # the next look comes in a few seconds
    except EngineUnavailable as problem:
        log.warning("chain_waits", config=config.name, error=problem.message)
        return []
    except SourcebookError as problem:
        error = hide_secrets(problem.message)
        log.warning("chain_failed", config=config.name, error=error)
    await _note(context, config, **step.done, last_error=error)
    return [job.id for job in jobs]


async def _note(context: Context, config: BuildConfig, **changes: Any) -> None:
    fresh = ChainState(config=config.name)
    await context.state.update(ChainState, config.name, lambda state: state.model_copy(update=changes), default=fresh)


async def _next_build(context: Context, config: BuildConfig, state: ChainState) -> _Step | None:
    """Build when a source has a new upload, once all that is being loaded for it is there."""
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

    return _Step(start, {"uploads": ids})


async def _next_release(context: Context, config: BuildConfig, state: ChainState) -> _Step | None:
    """Release the newest build to every API of the configuration, if it is newer than what was dealt with."""
    position = await context.state.position(Build)
    if position == state.seen_builds:
        return None
    builds = [build for build in await list_builds(context, config.name) if build.archived_at is None]
    if not builds or builds[0].finished_at <= state.released_until:
        await _note(context, config, seen_builds=position)
        return None
    newest = builds[0]
    if await find_user(context, newest.name):
        return None
    released = {release.name for release in await context.state.find(Release, {"build": newest.name})}
    apis = await context.state.find(Api, {"config": config.name}) or [Api(name=config.name, config=config.name)]
    waiting = [api.name for api in apis if released.isdisjoint((api.release, *api.history))]
    mode: ReleaseMode = config.release if config.release != "off" else "auto"

    async def start() -> list[Job]:
        return [await start_release(context, newest.name, api, mode=mode) for api in waiting]

    return _Step(start, {"released_until": newest.finished_at})


async def _next_publication(context: Context, config: BuildConfig, state: ChainState) -> _Step | None:
    """Publish the newest release that an API of the configuration serves, if it is newer than what was dealt with."""
    served = [api.release for api in await context.state.find(Api, {"config": config.name}) if api.release]
    releases = [await context.state.get(Release, name) for name in served]
    waiting = [item for item in releases if item is not None and item.released_at > state.published_until]
    if not waiting:
        return None
    newest = max(waiting, key=lambda release: release.released_at)

    async def start() -> list[Job]:
        return [await start_publish(context, newest.build)]

    return _Step(start, {"published_until": newest.released_at})
