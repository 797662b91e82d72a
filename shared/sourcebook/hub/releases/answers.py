"""What people ask of releases and APIs: which there are, and what changed."""

import asyncio
from itertools import islice
from typing import Any

from pydantic import BaseModel

from sourcebook.context import Context
from sourcebook.errors import NotFound
from sourcebook.hub.changes.folder import ChangesFolder, open_changes, read_changes
from sourcebook.hub.changes.model import Change, ChangeCounts, ChangeKind, SourceChange, SourceVersion
from sourcebook.hub.releases.model import Api, Release, ReleaseKind
from sourcebook.hub.releases.notes import ReleaseNotes


async def get_api(context: Context, name: str) -> Api:
    """Return an API.

    Raises:
        NotFound: nothing has this name.
    """
    api = await context.state.get(Api, name)
    if api is None:
        known = ", ".join(a.name for a in await context.state.find(Api)) or "none"
        raise NotFound(f"There is no API {name!r}. There are: {known}.", api=name)
    return api


async def list_apis(context: Context) -> list[Api]:
    """Return all APIs by name."""
    return await context.state.find(Api)


MAX_PAGE = 1000


class ReleaseView(BaseModel):
    """A release in a list, without its mapping and metadata. `apis` serve it, `kept_by` can be rolled back to it."""

    name: str
    config: str
    build: str
    kind: ReleaseKind
    reason: str
    base: str | None
    count: int
    released_at: float
    note: str
    apis: list[str]
    kept_by: list[str]


class ChangesPage(BaseModel):
    """Some of the documents that changed, in the order of their ids; `total` counts all (of the kind that was asked for)."""

    release: str
    total: int
    page: int
    size: int
    changes: list[Change]


async def list_releases(context: Context, *, api: str | None = None, config: str | None = None) -> list[ReleaseView]:
    """Return releases, newest first."""
    apis = await context.state.find(Api)
    found = await context.state.find(Release, {"config": config} if config else None)
    views = [_view(release, apis) for release in found]
    wanted = [view for view in views if api is None or api in view.apis or api in view.kept_by]
    return sorted(wanted, key=lambda view: view.released_at, reverse=True)


def _view(release: Release, apis: list[Api]) -> ReleaseView:
    fields: dict[str, Any] = release.model_dump(include=set(ReleaseView.model_fields))
    serving = [api.name for api in apis if api.release == release.name]
    return ReleaseView(**fields, apis=serving, kept_by=[api.name for api in apis if release.name in api.history])


async def get_release(context: Context, name: str) -> Release:
    """Return a release.

    Raises:
        NotFound: nothing has this name.
    """
    release = await context.state.get(Release, name)
    if release is None:
        known = ", ".join(item.name for item in await context.state.find(Release)) or "none"
        raise NotFound(f"There is no release {name!r}. There are: {known}.", release=name)
    return release


async def read_notes(context: Context, name: str) -> ReleaseNotes:
    """Return the notes of a release, compared with the release before if that was ever done.

    Raises:
        NotFound: there is no such release.
        DamagedChanges: what changed cannot be read.
    """
    release = await get_release(context, name)
    notes = ReleaseNotes(
        release=release.name,
        config=release.config,
        build=release.build,
        kind=release.kind,
        reason=release.reason,
        released_at=release.released_at,
        count=release.count,
        note=release.note,
        ignored=release.ignored,
        unmapped={path: told["values"] for path, told in release.metadata.get("_unmapped", {}).items()},
        sources={source: SourceChange(new=version) for source, version in _source_versions(release).items()},
    )
    folder = await _find_changes(context, release)
    if folder is None:
        return notes
    found = folder.metadata
    compared = {
        "previous": found.old.build,
        "previous_count": found.old.count,
        "sources": found.sources,
        "documents": found.counts,
        "mapping": found.mapping,
        "root_keys": found.root_keys,
    }
    return notes.model_copy(update=compared)


async def read_changed_documents(
    context: Context, name: str, *, kind: ChangeKind | None = None, page: int = 1, size: int = 100
) -> ChangesPage:
    """Return a page of the documents that differ from the release before, in the order of their ids.

    Raises:
        NotFound: there is no such release, or it was never compared with the one before.
        DamagedChanges: what changed cannot be read.
    """
    release = await get_release(context, name)
    folder = await _find_changes(context, release)
    if folder is None:
        raise NotFound(
            f"What changed in release {name!r} is not known: it is the first one of its API, or nobody compared it with the one "
            "before. `sourcebook release diff BUILD OLD_BUILD` does.",
            release=name,
        )
    counts: ChangeCounts = folder.metadata.counts
    changes = await asyncio.to_thread(_read_page, folder, kind, (page - 1) * size, size)
    total = counts.total if kind is None else getattr(counts, kind)
    return ChangesPage(release=name, total=total, page=page, size=size, changes=changes)


def _read_page(folder: ChangesFolder, kind: ChangeKind | None, skip: int, size: int) -> list[Change]:
    return list(islice(read_changes(folder.path, metadata=folder.metadata, kind=kind, skip=skip), size))


async def _find_changes(context: Context, release: Release) -> ChangesFolder | None:
    if release.changes is None:
        return None
    try:
        return await open_changes(context, release.changes)
    except NotFound:
        return None


def _source_versions(release: Release) -> dict[str, SourceVersion]:
    sources: dict[str, Any] = release.metadata.get("src") or {}
    return {
        name: SourceVersion(version=str(source.get("version", "")), count=sum((source.get("stats") or {}).values()))
        for name, source in sources.items()
        if isinstance(source, dict)
    }
