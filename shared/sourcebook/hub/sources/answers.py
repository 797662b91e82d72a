"""What people ask of plugins and sources."""

import asyncio
from pathlib import Path

from pydantic import BaseModel, Field

from sourcebook.context import Context
from sourcebook.errors import ManifestError, NotFound
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job
from sourcebook.hub.sources.model import Dump, Plugin, SourceState, Upload
from sourcebook.logging import get_logger
from sourcebook.sdk.manifest import LoadedManifest, load_manifest

log = get_logger(__name__)


class SourceView(BaseModel):
    """A source as people see it: its plugin, what is wrong with it, and what is current."""

    name: str
    folder: str
    display_name: str = ""
    error: str | None = None
    warnings: list[str] = Field(default_factory=list)
    uploaders: list[str] = Field(default_factory=list)
    state: SourceState
    dump: Dump | None = None
    uploads: dict[str, Upload] = Field(default_factory=dict)
    active_jobs: list[str] = Field(default_factory=list)


async def get_plugin(context: Context, name: str) -> Plugin:
    """Return a plugin.

    Raises:
        NotFound: no plugin of this name is registered.
    """
    plugin = await context.state.get(Plugin, name)
    if plugin is None:
        known = ", ".join(p.name for p in await context.state.find(Plugin)) or "none"
        raise NotFound(f"There is no source {name!r}. Registered are: {known}.", source=name)
    return plugin


async def list_plugins(context: Context) -> list[Plugin]:
    """Return all registered plugins by name."""
    return await context.state.find(Plugin)


async def read_manifest(context: Context, name: str) -> LoadedManifest:
    """Read the manifest of a registered plugin, as it is now.

    Raises:
        NotFound: no plugin of this name is registered.
        ManifestError: the manifest cannot be read or is wrong.
    """
    plugin = await get_plugin(context, name)
    return await asyncio.to_thread(load_manifest, Path(plugin.folder))


async def list_sources(context: Context) -> list[SourceView]:
    """Return every registered source by name; a plugin that cannot be loaded is there with its error."""
    states = {state.name: state for state in await context.state.find(SourceState)}
    active = await find_active_jobs(context)
    return [
        await _describe(context, plugin, states.get(plugin.name), active.get(plugin.name, []))
        for plugin in await list_plugins(context)
    ]


async def get_source(context: Context, name: str) -> SourceView:
    """Return one source.

    Raises:
        NotFound: no plugin of this name is registered.
    """
    plugin = await get_plugin(context, name)
    state = await context.state.get(SourceState, name)
    return await _describe(context, plugin, state, (await find_active_jobs(context)).get(name, []))


async def _describe(context: Context, plugin: Plugin, known: SourceState | None, active_jobs: list[str]) -> SourceView:
    name = plugin.name
    state = known or SourceState(name=name)
    view = SourceView(name=name, folder=plugin.folder, state=state, active_jobs=active_jobs)
    try:
        loaded = await asyncio.to_thread(load_manifest, Path(plugin.folder))
        view.display_name = loaded.manifest.display_name or name
        view.warnings = loaded.warnings
        view.uploaders = [uploader.name for uploader in loaded.manifest.uploader_list]
    except ManifestError as error:
        view.error = error.message
    view.dump = await context.state.get(Dump, state.dump) if state.dump else None
    for uploader, upload_id in state.uploads.items():
        upload = await context.state.get(Upload, upload_id)
        if upload is not None:
            view.uploads[uploader] = upload
    return view


async def find_active_jobs(context: Context) -> dict[str, list[str]]:
    """Return the ids of the active jobs of every source that has some."""
    active: dict[str, list[str]] = {}
    wanted = {"state": tuple(ACTIVE_STATES), "kind": ("dump", "upload", "inspect")}
    for job in await context.state.find(Job, wanted):
        active.setdefault(job.target.partition("/")[0], []).append(job.id)
    return active
