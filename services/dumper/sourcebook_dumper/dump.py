"""The verb of this service: decide whether a source has a new version, download it, and make it the current dump."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path

from sourcebook.context import Context
from sourcebook.errors import Conflict, DownloadPostponed, EngineUnavailable, NotFound, SourcebookError, TerminalError
from sourcebook.flow.messages import DumpReady, DumpSource
from sourcebook.hub.names import build_version_folder_name
from sourcebook.hub.sources.model import Dump, DumpFile, Plugin, SourceState
from sourcebook.hub.sources.policy import find_uploads_to_start
from sourcebook.logging import hide_secrets
from sourcebook.sdk.manifest import load_manifest
from sourcebook.worker import JobRun
from sourcebook_dumper.download import (
    Downloads,
    choose_file_names,
    download_files,
    is_repository,
    prepare_folder,
    remove_notes,
)
from sourcebook_dumper.fetchers import Fetchers, choose_fetcher, open_fetchers
from sourcebook_dumper.headers import fill_headers
from sourcebook_dumper.progress import Meter, report_while, run_in_thread
from sourcebook_dumper.retry import Backoff
from sourcebook_dumper.unpack import Unpacker
from sourcebook_dumper.version import DumpPlan, News, Novelty, find_news, has_bytes_of, make_recipe, name_version


async def dump_source(context: Context, run: JobRun, command: DumpSource) -> DumpReady:
    """Download the newest version of a source, unless it is the current one already and `force` is not set.

    A failure leaves the last good dump in use, and says why in the source's state.

    Raises:
        NotFound: no such source is registered.
        ManifestError: the manifest is wrong.
        ParserError: the plugin's version function failed.
        DownloadRefused: a server does not give a file.
        DownloadInterrupted: a server failed, after all retries; the next attempt resumes.
        UnsafeArchive: an archive is not safe to unpack.
        Conflict: the manifest says that the dumper is disabled, and `force` is not set.
    """
    plugin = await context.state.get(Plugin, command.source)
    if plugin is None:
        raise NotFound(
            f"There is no source {command.source!r}; `sourcebook plugin add FOLDER` registers one.",
            source=command.source,
        )
    try:
        return await _dump(context, run, command, Path(plugin.folder))
    # Whatever went wrong, people find it at the source, not only at a job that is forgotten some day.
    except Exception as error:
        await _record_error(context, command.source, error)
        raise


async def _dump(context: Context, run: JobRun, command: DumpSource, folder: Path) -> DumpReady:
    loaded = await asyncio.to_thread(load_manifest, folder)
    for warning in loaded.warnings:
        run.warn(warning)
    manifest = loaded.manifest
    if manifest.dumper.disabled and not command.force:
        raise Conflict(
            f"The dumper of {command.source!r} is disabled: set dumper.disabled to false in {loaded.path}, or force the dump.",
            source=command.source,
        )
    plan = DumpPlan(folder, manifest, context.settings, Backoff(context.settings.download_retries))
    started = time.monotonic()
    dumps = await context.state.find(Dump, {"source": command.source})
    last = await _last_dump(context, dumps)
    headers = fill_headers(manifest.dumper.headers, context.settings)
    async with open_fetchers(context.settings, folder, headers) as fetchers:
        for url in plan.urls:
            choose_fetcher(fetchers, url)
        await run.progress("version", 0, None)
        news = await find_news(run, plan, fetchers, last)
        if last is not None and news.novelty is Novelty.SAME and not command.force:
            return await _keep_dump(context, command, plan, last)
        is_known = last is not None and news.novelty in {Novelty.SAME, Novelty.AGAIN}
        version = last.version if last is not None and is_known else name_version(news.base, dumps)
        key = await _free_key(context, command.source, version)
        files = await _fill(
            context, run, plan, fetchers, key=key, kept=None if command.force else _may_keep(news, last)
        )
    files = [file.model_copy(update={"told": told}) for file, told in zip(files, news.told, strict=True)]
    if last is not None and not command.force and news.novelty is Novelty.MAYBE and has_bytes_of(last, files):
        await context.state.put(last.id, known := last.model_copy(update={"files": files}))
        return await _keep_dump(context, command, plan, known)
    dump = Dump(
        id=f"{command.source}@{key.rpartition('/')[2]}",
        source=command.source,
        version=name_version(news.base, dumps, files),
        base=news.base,
        recipe=make_recipe(manifest),
        folder=key,
        files=files,
        seconds=round(time.monotonic() - started, 3),
    )
    await context.state.put(dump.id, dump)
    await _make_current(context, dump)
    await _delete_old_dumps(context, dump)
    return _ready(dump, await _find_uploaders(context, command, plan))


async def _last_dump(context: Context, dumps: list[Dump]) -> Dump | None:
    """Return the newest complete dump, also one whose job died before it became the current one."""
    newest = max(dumps, key=lambda dump: dump.finished_at, default=None)
    return newest if newest is not None and await context.files.exists(newest.folder) else None


async def _keep_dump(context: Context, command: DumpSource, plan: DumpPlan, last: Dump) -> DumpReady:
    before = await context.state.get(SourceState, command.source)
    unchanged = before is not None and before.dump == last.id
    await _make_current(context, last)
    uploaders = await _find_uploaders(context, command, plan)
    return _ready(last, uploaders).model_copy(update={"unchanged": unchanged})


async def _free_key(context: Context, source: str, version: str) -> str:
    """Return a key under which nothing is published: a second download of a version stands beside the first."""
    copy = 1
    while await context.files.exists(key := f"archive/{source}/{build_version_folder_name(version, copy)}"):
        copy += 1
    return key


def _may_keep(news: News, last: Dump | None) -> Dump | None:
    return last if news.novelty is Novelty.MAYBE else None


async def _fill(
    context: Context, run: JobRun, plan: DumpPlan, fetchers: Fetchers, *, key: str, kept: Dump | None
) -> list[DumpFile]:
    """Download, unpack and publish; what a later attempt may resume stays in the staging folder.

    Files that are those of the dump `kept` are neither unpacked nor published.
    """
    chosen = plan.manifest.dumper.file_names or ()
    downloads = Downloads(await context.files.staging(key), choose_file_names(plan.urls), chosen)
    try:
        await asyncio.to_thread(prepare_folder, downloads)
        meter = Meter()
        work = download_files(
            downloads, fetchers, meter, per_host=plan.settings.downloads_per_host, backoff=plan.backoff
        )
        files = await report_while(run, "download", meter, work)
        if kept is not None and has_bytes_of(kept, files):
            await context.files.discard(key)
            return files
        if plan.manifest.dumper.uncompress:
            await _unpack(run, plan, downloads, [file.name for file in files])
        elif repositories := [file.name for file, url in zip(files, plan.urls, strict=True) if is_repository(url)]:
            await _unpack(run, plan, downloads, repositories)
        await asyncio.to_thread(remove_notes, downloads)
        await context.files.publish(key)
    except DownloadPostponed:
        raise
    except TerminalError:
        await context.files.discard(key)
        raise
    except OSError as error:
        raise EngineUnavailable(f"The files of {plan.manifest.name!r} cannot be written: {error}.") from error
    return files


async def _unpack(run: JobRun, plan: DumpPlan, downloads: Downloads, names: list[str]) -> None:
    meter = Meter()
    count = meter.add()
    settings = plan.settings
    into_folders = plan.manifest.dumper.uncompress_into_folders

    def unpack(stop: threading.Event) -> tuple[list[str], list[str]]:
        bounds = (settings.unpack_max_bytes, settings.unpack_max_ratio)
        unpacker = Unpacker(downloads.folder, *bounds, count, stop, into_folders=into_folders)
        return unpacker.unpack_all(names), unpacker.warnings

    made, warnings = await report_while(run, "unpack", meter, run_in_thread(unpack))
    for warning in warnings:
        run.warn(warning)
    if not made:
        run.warn("dumper.uncompress is set, but no downloaded file is an archive.")


async def _make_current(context: Context, dump: Dump) -> SourceState:
    def change(state: SourceState) -> SourceState:
        return state.model_copy(update={"dump": dump.id, "last_dump_error": None})

    return await context.state.update(SourceState, dump.source, change, default=SourceState(name=dump.source))


async def _delete_old_dumps(context: Context, current: Dump) -> None:
    """Delete dumps beyond `keep_dumps`, and folders that no record names (their job died before it wrote one)."""
    dumps = await context.state.find(Dump, {"source": current.source})
    dumps.sort(key=lambda dump: (dump.id == current.id, dump.finished_at), reverse=True)
    kept = dumps[: context.settings.keep_dumps]
    for dump in dumps[len(kept) :]:
        await context.state.delete(Dump, dump.id)
    folders = {dump.folder for dump in kept}
    for key in await context.files.keys(f"archive/{current.source}"):
        if key not in folders:
            await context.files.delete(key)


async def _find_uploaders(context: Context, command: DumpSource, plan: DumpPlan) -> tuple[str, ...]:
    if not command.then_upload:
        return ()
    return await find_uploads_to_start(context, command.source, plan.manifest.uploader_list, plan.folder)


def _ready(dump: Dump, uploaders: tuple[str, ...]) -> DumpReady:
    return DumpReady(
        source=dump.source,
        dump=dump.id,
        version=dump.version,
        files=len(dump.files),
        size=sum(file.size for file in dump.files),
        uploaders=uploaders,
    )


async def _record_error(context: Context, source: str, error: Exception) -> None:
    code = error.code if isinstance(error, SourcebookError) else "internal"
    record = {"code": code, "message": hide_secrets(str(error)) or type(error).__name__, "at": time.time()}

    def change(state: SourceState) -> SourceState:
        return state.model_copy(update={"last_dump_error": record})

    # The error itself is what counts: a state store that fails too must not hide it.
    with contextlib.suppress(SourcebookError):
        await context.state.update(SourceState, source, change, default=SourceState(name=source))
