"""Store and delete build configurations; start builds and releases; delete builds."""

import fnmatch
import time

from sourcebook.context import Context
from sourcebook.errors import Conflict, NotFound
from sourcebook.flow.messages import ApplyChanges, BuildDocuments, IndexBuild
from sourcebook.hub.builds.answers import check_has_documents, get_build, get_build_config
from sourcebook.hub.builds.model import Build, BuildConfig, BuildMode
from sourcebook.hub.jobs.answers import find_user
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.names import check_name
from sourcebook.hub.releases.model import Api, Release, ReleaseMode
from sourcebook.hub.releases.policy import choose_release_mode
from sourcebook.hub.schedules.model import ChainState
from sourcebook.hub.sources.model import Plugin
from sourcebook.logging import hide_secrets


async def put_build_config(context: Context, config: BuildConfig) -> BuildConfig:
    """Create or replace a build configuration.

    Raises:
        InvalidName: its name cannot name a build.
        NotFound: it names a source that is not registered.
    """
    check_name("build configuration", config.name)
    known = [plugin.name for plugin in await context.state.find(Plugin)]
    for item in config.sources:
        if not fnmatch.filter(known, item.partition("/")[0]):
            raise NotFound(
                f"Build configuration {config.name!r}: no registered source matches {item!r}. "
                f"Registered are: {', '.join(known) or 'none'}.",
                source=item,
            )
    before = await context.state.get(BuildConfig, config.name)
    await _begin_chain(context, before, config.name)
    if before and before.publish and config.publish == hide_secrets(before.publish):
        config = config.model_copy(update={"publish": before.publish})  # put back as it was shown
    await context.state.put(config.name, config)
    return config


async def _begin_chain(context: Context, before: BuildConfig | None, name: str) -> None:
    """Let what was made before a configuration asked for automatic releases or publishing be."""
    now = time.time()
    fresh = ChainState(config=name, released_until=now, published_until=now)

    def begin(state: ChainState) -> ChainState:
        changes = {}
        if before is None or before.release == "off":
            changes["released_until"] = now
        if before is None or before.publish is None:
            changes["published_until"] = now
        return state.model_copy(update=changes)

    await context.state.update(ChainState, name, begin, default=fresh)


async def delete_build_config(context: Context, name: str) -> None:
    """Remove a build configuration; its builds stay.

    Raises:
        NotFound: nothing has this name.
    """
    await get_build_config(context, name)
    await context.state.delete(BuildConfig, name)
    await context.state.delete(ChainState, name)


async def start_build(
    context: Context, config_name: str, *, mode: BuildMode = "auto", job_id: str | None = None
) -> Job:
    """Start a build; the name of the build is in the job's command.

    Args:
        context: the engines.
        config_name: the build configuration.
        mode: "full" merges everything; "incremental" only what changed since the build before, and fails where it cannot; "auto"
            takes what is cheaper.
        job_id: of a job that a schedule starts, so that starting it twice starts one.

    Raises:
        NotFound: there is no such configuration.
        Busy: a build of it is active.
    """
    config = await get_build_config(context, config_name)
    version = time.strftime(config.build_version, time.gmtime())
    name = check_name("build", f"{config.name}_{version}")
    taken = {build.name for build in await context.state.find(Build, {"config": config.name})}
    copy = 2
    while name in taken:
        name, copy = f"{config.name}_{version}_{copy}", copy + 1
    return await submit(context, BuildDocuments(config=config.name, build=name, mode=mode), job_id=job_id)


async def delete_build(context: Context, name: str) -> None:
    """Remove a build and its documents.

    Raises:
        NotFound: nothing has this name.
        Conflict: an API serves it or keeps it for rollback, or it is being indexed.
    """
    build = await get_build(context, name)
    releases = [release.name for release in await context.state.find(Release, {"build": name})]
    for api in await context.state.find(Api):
        if any(release in (api.release, *api.history) for release in releases):
            raise Conflict(
                f"API {api.name!r} serves build {name!r}, or keeps it for rollback.", build=name, api=api.name
            )
    if job := await find_user(context, name):
        raise Conflict(f"Job {job.id} ({job.kind}) works with build {name!r}.", build=name, job=job.id)
    await context.state.delete(Build, name)
    if not build.linked:
        await context.documents.drop(build.collection)
    for key in await context.files.keys(f"changes/{name}"):
        await context.files.delete(key)


async def start_release(
    context: Context, build_name: str, api: str | None = None, *, mode: ReleaseMode = "auto"
) -> Job:
    """Start to index a build, whole or by its changes; once verified, `api` (default: the configuration's name) serves it.

    Raises:
        NotFound: there is no such build.
        Busy: a release of this API is active.
        CannotDerive: `mode` is "incremental", and that is not possible.
    """
    build = await get_build(context, build_name)
    name = check_name("API", api or build.config)
    check_has_documents(build)
    choice = await choose_release_mode(context, build, name, mode)
    if choice.kind == "full" or mode == "full":
        return await submit(context, IndexBuild(build=build.name, api=name, reason=choice.reason))
    return await submit(context, ApplyChanges(build=build.name, api=name, mode=mode))
