"""Register and remove plugins; start dumps, uploads and inspections."""

import asyncio
from pathlib import Path

from sourcebook.context import Context
from sourcebook.errors import Conflict, InvalidName, InvalidRequest, MissingUpload, NotFound
from sourcebook.flow.messages import DumpSource, InspectUpload, UploadDump
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.names import build_upload_name, check_name
from sourcebook.hub.sources.answers import find_active_jobs, get_plugin, read_manifest
from sourcebook.hub.sources.model import Dump, Plugin, SourceState, Upload
from sourcebook.logging import get_logger
from sourcebook.sdk.manifest import load_manifest
from sourcebook.sdk.plugins import find_plugins

log = get_logger(__name__)


async def add_plugin(context: Context, folder: str | Path) -> Plugin:
    """Register a plugin folder under its own name; registering it again changes nothing.

    Raises:
        ManifestError: the manifest cannot be read or is wrong.
        InvalidName: the folder's name cannot name a source.
        Conflict: another folder is registered under this name.
    """
    path = await asyncio.to_thread(_normalise, Path(folder))
    name = check_name("source", path.name)
    await asyncio.to_thread(load_manifest, path)
    plugin = Plugin(name=name, folder=str(path))
    if not await context.state.insert(name, plugin):
        known = await get_plugin(context, name)
        if not await asyncio.to_thread(_is_same_folder, known.folder, plugin.folder):
            raise Conflict(
                f"A plugin {name!r} is registered from {known.folder}. Remove it first (sourcebook plugin remove {name}), "
                "or rename one of the two folders.",
                plugin=name,
                folder=known.folder,
            )
        return known
    return plugin


def _normalise(folder: Path) -> Path:
    """Return one spelling of a folder, however it was named; a link keeps its name, which is the source's."""
    path = folder.expanduser().absolute()
    return path.resolve() if path.name in {"", ".."} else path.parent.resolve() / path.name


def _is_same_folder(known: str, wanted: str) -> bool:
    try:
        return known == wanted or Path(known).samefile(wanted)
    except OSError:  # the known one is not there any more
        return False


async def add_plugin_folders(context: Context, folders: list[Path]) -> list[Plugin]:
    """Register every plugin in `folders` that is not there yet; one that cannot be loaded too, to be listed with its error.

    One whose folder cannot name a source is logged and passed over.
    """
    added = []
    for folder in await asyncio.to_thread(find_plugins, folders):
        try:
            path = await asyncio.to_thread(_normalise, folder)
            plugin = Plugin(name=check_name("source", path.name), folder=str(path))
        except InvalidName as error:
            log.warning("plugin_not_registered", folder=str(folder), error=error.message)
            continue
        if await context.state.insert(plugin.name, plugin):
            added.append(plugin)
    return added


async def remove_plugin(context: Context, name: str) -> None:
    """Forget a plugin and remove what its source stored, except what a build links to; the plugin's folder stays.

    Raises:
        NotFound: no plugin of this name is registered.
        Conflict: a build configuration names it, or a job of it is active.
    """
    await get_plugin(context, name)
    if jobs := (await find_active_jobs(context)).get(name):
        raise Conflict(
            f"Source {name!r} has active jobs ({', '.join(jobs)}). Cancel them first.", source=name, jobs=jobs
        )
    for config in await context.state.find(BuildConfig):
        if any(item.partition("/")[0] == name for item in config.sources):
            raise Conflict(
                f"Build configuration {config.name!r} names {name!r}. Edit or delete it first.",
                source=name,
                config=config.name,
            )
    await context.state.delete(Plugin, name)
    await context.state.delete(SourceState, name)
    await _remove_stored(context, name)


async def _remove_stored(context: Context, source: str) -> None:
    builds = await context.state.find(Build, {"linked": True})
    linked = {build.collection for build in builds if build.archived_at is None}
    for upload in await context.state.find(Upload, {"source": source}):
        if upload.collection not in linked:
            await context.documents.drop(upload.collection)
        await context.state.delete(Upload, upload.id)
        if upload.changes_key:
            await context.files.delete(upload.changes_key)
        await context.state.delete(Mapping, build_upload_name(source, upload.uploader))
    for dump in await context.state.find(Dump, {"source": source}):
        await context.files.delete(dump.folder)
        await context.state.delete(Dump, dump.id)


async def start_dump(
    context: Context, source: str, *, force: bool = False, then_upload: bool = True, job_id: str | None = None
) -> Job:
    """Start the download of a source's newest version; its uploads follow automatically.

    Raises:
        NotFound: no plugin of this name is registered.
        ManifestError: the manifest cannot be read or is wrong.
        Busy: a download of this source is active.
    """
    await read_manifest(context, source)
    return await submit(context, DumpSource(source=source, force=force, then_upload=then_upload), job_id=job_id)


async def start_upload(
    context: Context, source: str, uploader: str | None = None, *, force: bool = False, infer_anew: bool = False
) -> list[Job]:
    """Start the parsing of a source's newest dump, with one or all of its uploaders.

    Args:
        context: the engines.
        source: the source.
        uploader: one of its uploaders; default: all.
        force: make a new upload even if the documents are the same.
        infer_anew: commit the mapping that is inferred, even in place of one that a person edited.

    Raises:
        NotFound: there is no such source or uploader.
        MissingUpload: nothing was downloaded yet.
        Busy: such an upload is active.
    """
    names = await choose_uploaders(context, source, uploader)
    state = await context.state.get(SourceState, source)
    if state is None or state.dump is None:
        raise MissingUpload(f"Source {source!r} has no downloaded files yet: sourcebook dump {source}", source=source)
    commands = [UploadDump(source=source, uploader=name, force=force, infer_anew=infer_anew) for name in names]
    return [await submit(context, command) for command in commands]


async def start_inspect(context: Context, source: str, uploader: str | None = None) -> list[Job]:
    """Start to infer the mapping of a source's documents again, for one or all of its uploaders.

    Raises:
        NotFound: there is no such source or uploader.
        MissingUpload: it has no documents yet.
        Busy: an upload or inspection is active.
    """
    names = await choose_uploaders(context, source, uploader)
    state = await context.state.get(SourceState, source) or SourceState(name=source)
    missing = [name for name in names if name not in state.uploads]
    if missing:
        raise MissingUpload(f"{source}/{missing[0]} has no documents yet: sourcebook upload {source}", source=source)
    return [await submit(context, InspectUpload(source=source, uploader=name)) for name in names]


async def choose_uploaders(context: Context, source: str, uploader: str | None) -> list[str]:
    """Return the names of one or all uploaders of a source.

    Raises:
        NotFound: there is no such source or uploader.
        InvalidRequest: it only downloads.
    """
    loaded = await read_manifest(context, source)
    names = [item.name for item in loaded.manifest.uploader_list]
    if not names:
        raise InvalidRequest(f"Source {source!r} only downloads: its manifest has no uploader.", source=source)
    if uploader is None:
        return names
    if uploader not in names:
        raise NotFound(f"Source {source!r} has no uploader {uploader!r}; it has {', '.join(names)}.", source=source)
    return [uploader]
