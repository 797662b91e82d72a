"""Builds: start, list, remove, release."""

from fastapi import APIRouter, Response

from sourcebook.hub.builds.answers import get_build, list_builds
from sourcebook.hub.builds.commands import delete_build, start_build, start_release
from sourcebook.hub.builds.model import Build, BuildMode
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases.model import ReleaseMode
from sourcebook.hub.upkeep.cleanup import start_archive
from sourcebook_api.dependencies import Body, Engines, accept_job

router = APIRouter(prefix="/builds", tags=["builds"])


class NewBuild(Body):
    """The configuration to build; `mode` "incremental" fails where not everything that changed is known."""

    config: str
    mode: BuildMode = "auto"


class NewRelease(Body):
    """Where to serve the build (default: the API named as its configuration), and whether to index it whole or by its changes."""

    api: str | None = None
    mode: ReleaseMode = "auto"


@router.get("")
async def list_all(context: Engines, config: str | None = None) -> list[Build]:
    """List builds, newest first."""
    return await list_builds(context, config)


@router.post("", status_code=202)
async def start(context: Engines, build: NewBuild, response: Response) -> Job:
    """Merge the uploads of a configuration."""
    return accept_job(response, await start_build(context, build.config, mode=build.mode))


@router.get("/{name}")
async def get(context: Engines, name: str) -> Build:
    """Return a build."""
    return await get_build(context, name)


@router.delete("/{name}", status_code=204)
async def delete(context: Engines, name: str) -> None:
    """Remove a build that no API serves or keeps for rollback."""
    await delete_build(context, name)


@router.post("/{name}/archive", status_code=202)
async def archive(context: Engines, name: str, response: Response) -> Job:
    """Remove the documents of a build that no API serves or keeps for rollback; its record stays."""
    return accept_job(response, await start_archive(context, name))


@router.post("/{name}/release", status_code=202)
async def release(context: Engines, name: str, response: Response, target: NewRelease | None = None) -> Job:
    """Index a build (whole, or by its changes: that is chosen, or said by `mode`), verify it, and serve it."""
    chosen = target or NewRelease()
    return accept_job(response, await start_release(context, name, chosen.api, mode=chosen.mode))
