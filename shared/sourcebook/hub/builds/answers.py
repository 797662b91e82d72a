"""What people ask of build configurations and builds."""

from sourcebook.context import Context
from sourcebook.errors import Conflict, MissingUpload, NotFound
from sourcebook.hub.builds.model import Build, BuildConfig


async def get_build_config(context: Context, name: str) -> BuildConfig:
    """Return a build configuration.

    Raises:
        NotFound: nothing has this name.
    """
    config = await context.state.get(BuildConfig, name)
    if config is None:
        known = ", ".join(c.name for c in await context.state.find(BuildConfig)) or "none"
        raise NotFound(f"There is no build configuration {name!r}. There are: {known}.", config=name)
    return config


async def list_build_configs(context: Context) -> list[BuildConfig]:
    """Return all build configurations by name."""
    return await context.state.find(BuildConfig)


async def list_builds(context: Context, config: str | None = None) -> list[Build]:
    """Return builds, newest first."""
    builds = await context.state.find(Build, {"config": config} if config else None)
    return sorted(builds, key=lambda build: build.finished_at, reverse=True)


async def get_build(context: Context, name: str) -> Build:
    """Return a build.

    Raises:
        NotFound: nothing has this name.
    """
    build = await context.state.get(Build, name)
    if build is None:
        raise NotFound(f"There is no build {name!r}. `sourcebook build CONFIG` makes one.", build=name)
    return build


def check_has_documents(build: Build) -> None:
    """Check that a build can be worked with.

    Raises:
        Conflict: it is archived.
    """
    if build.archived_at is not None:
        raise Conflict(
            f"Build {build.name!r} is archived: its documents are gone. Build {build.config!r} again.", build=build.name
        )


async def newest_build(context: Context, config: str) -> Build:
    """Return the newest build of a configuration.

    Raises:
        NotFound: there is no such configuration.
        MissingUpload: it was not built yet.
    """
    await get_build_config(context, config)
    builds = await list_builds(context, config)
    if not builds:
        raise MissingUpload(f"Configuration {config!r} has no build yet: sourcebook build {config}", config=config)
    return builds[0]
