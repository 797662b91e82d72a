"""Switch an API to a release in one step: the state's record of the API is what readers follow."""

import time

from sourcebook.context import Context
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.names import build_changes_key
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.releases.policy import ReleaseChoice


def build_index_name(api: str, build: str, generation: str) -> str:
    """Return the versioned name of an index; `generation` is the id of the job that makes it.

    >>> build_index_name("genes", "genes_2024", "0k3v9")
    'genes~genes_2024~0k3v9'
    """
    return f"{api}~{build}~{generation}"


def parse_index_name(name: str) -> tuple[str, str, str]:
    """Return API, build and generation of an index."""
    api, build, generation = name.split("~")
    return api, build, generation


async def choose_release_name(context: Context, api: str, build: Build, index: str) -> str:
    """Return the name of the release of this index: the build's, made unique if the build was released before."""
    known = {release.name: release.index for release in await context.state.find(Release)}
    base = build.name if api == build.config else f"{api}.{build.name}"
    name, copy = base, 2
    while known.get(name, index) != index:
        name, copy = f"{base}_r{copy}", copy + 1
    return name


async def make_release(
    context: Context, api: str, index: str, build: Build, choice: ReleaseChoice, *, ignored: dict[str, int]
) -> Release:
    """Return the record of the release of an index; `ignored` counts the documents with values that it could not take."""
    name = await choose_release_name(context, api, build, index)
    # A job that died after its switch finds its own release in the API.
    known = await context.state.get(Release, name)
    if known is not None:
        return known
    base = choice.base
    is_comparable = base is not None and base.config == build.config and base.build != build.name
    return Release(
        name=name,
        build=build.name,
        config=build.config,
        doc_type=build.doc_type,
        collection=build.collection,
        index=index,
        count=build.count,
        mapping=build.mapping,
        ignored=ignored,
        metadata=build.metadata,
        kind=choice.kind,
        reason=choice.reason,
        base=base.name if base is not None else None,
        changes=build_changes_key(build.name, base.build) if base is not None and is_comparable else None,
    )


async def switch_api(context: Context, api_name: str, release: Release) -> Api:
    """Serve a release under an API's name; the one before goes to the front of its history, which is cut to what is kept."""
    await context.state.insert(release.name, release)
    config = await context.state.get(BuildConfig, release.config)
    keep = (config.keep.indices if config and config.keep.indices else context.settings.keep_indices) - 1

    def switch(api: Api) -> Api:
        names = [name for name in (api.release, *api.history) if name and name != release.name]
        history = names[:keep]
        rolled_back = [name for name in api.rolled_back if name in history]
        changes = {"release": release.name, "history": history, "rolled_back": rolled_back, "updated_at": time.time()}
        return api.model_copy(update=changes)

    fresh = Api(name=api_name, config=release.config)
    return await context.state.update(Api, api_name, switch, default=fresh)
