"""Verify: find what is stored of uploads, builds and releases, and read it all to say what is damaged."""

from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.errors import NotFound
from sourcebook.flow.messages import VerifyStored
from sourcebook.hub.builds.model import Build
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.sources.model import SourceState, Upload


class Stored(NamedTuple):
    """A collection or an index, and what it is to people."""

    shown: str
    name: str
    names: tuple[str, ...]
    """The names by which people ask for it."""
    documents: int
    is_index: bool = False


async def start_verify(context: Context, name: str | None = None, *, job_id: str | None = None) -> Job:
    """Start to read everything that is stored, or what a source, an upload, a build or an API has.

    Raises:
        NotFound: nothing of this name is stored.
        Busy: that is under way.
    """
    if name is not None:
        await find_stored(context, name)
    return await submit(context, VerifyStored(name=name), job_id=job_id)


async def find_stored(context: Context, name: str | None = None) -> list[Stored]:
    """Return what is stored, each collection and index once.

    Raises:
        NotFound: nothing of this name is stored.
    """
    found = [*await _find_uploads(context), *await _find_builds(context), *await _find_indices(context)]
    wanted = [item for item in found if name is None or name in item.names]
    if name is not None and not wanted:
        raise NotFound(f"Nothing is stored under {name!r}: name a source, an upload, a build or an API.", name=name)
    return list({item.name: item for item in reversed(wanted)}.values())[::-1]


async def _find_uploads(context: Context) -> list[Stored]:
    found = []
    for state in await context.state.find(SourceState):
        for upload_id in state.uploads.values():
            upload = await context.state.get(Upload, upload_id)
            if upload is not None:
                shown = build_upload_name(upload.source, upload.uploader)
                names = (upload.source, shown, upload.id)
                found.append(Stored(f"upload {shown}", upload.collection, names, upload.count))
    return found


async def _find_builds(context: Context) -> list[Stored]:
    builds = await context.state.find(Build)
    return [
        Stored(f"build {build.name}", build.collection, (build.name, build.config), build.count)
        for build in builds
        if build.archived_at is None
    ]


async def _find_indices(context: Context) -> list[Stored]:
    """Return what the APIs serve or keep for rollback."""
    found = []
    for api in await context.state.find(Api):
        for name in [item for item in (api.release, *api.history) if item]:
            release = await context.state.get(Release, name)
            if release is not None:
                names = (api.name, release.name, release.build)
                found.append(
                    Stored(
                        f"index of release {name} (API {api.name})", release.index, names, release.count, is_index=True
                    )
                )
                found.append(Stored(f"documents of release {name}", release.collection, names, release.count))
    return found
