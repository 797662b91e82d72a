"""The verb of this service: decide whether a source has a new release, download it, and make it the current dump."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path

from sourcebook.context import Context
from sourcebook.errors import Conflict, EngineUnavailable, NotFound, SourcebookError, TerminalError
from sourcebook.flow.messages import DumpReady, DumpSource
from sourcebook.logging import hide_secrets
from sourcebook.model.dump import Dump, DumpFile
from sourcebook.model.names import build_release_folder_name
from sourcebook.model.source import Plugin, SourceState
from sourcebook.sdk.manifest import Manifest, load_manifest
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
from sourcebook_dumper.progress import Meter, report_while, run_in_thread
from sourcebook_dumper.release import Plan, decide_release, is_edited
from sourcebook_dumper.retry import Backoff
from sourcebook_dumper.unpack import Unpacker, is_archive


async def dump_source(context: Context, run: JobRun, command: DumpSource) -> DumpReady:
    """Download the newest release of a source, unless it is the current one already and `force` is not set.

    A failure leaves the last good dump in use, and says why in the source's state.

    Raises:
        NotFound: no such source is registered.
        ManifestError: the manifest is wrong.
        ParserError: the plugin's release function failed.
        DownloadRefused: a server does not give a file.
        DownloadInterrupted: a server failed, after all retries; the next attempt resumes.
        UnsafeArchive: an archive is not safe to unpack.
        Conflict: the manifest says that the dumper is disabled, and `force` is not set.
    """
    plugin = await context.catalog.get(Plugin, command.source)
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
    plan = Plan(folder, manifest, context.settings, Backoff(context.settings.download_retries))
    started = time.monotonic()
    last = await _last_dump(context, command.source)
    async with open_fetchers(context.settings, folder) as fetchers:
        for url in plan.urls:
            choose_fetcher(fetchers, url)
        await run.progress("release", 0, None)
        release = await decide_release(run, plan, fetchers, last.release if last else None)
        if (
            last is not None
            and last.release == release
            and not command.force
            and not await _is_edited(plan, fetchers, last)
        ):
            return await _keep_dump(context, command, manifest, last)
        key = await _free_key(context, command.source, release)
        files = await _fill(context, run, plan, fetchers, key=key)
    dump = Dump(
        id=f"{command.source}@{key.rpartition('/')[2]}",
        source=command.source,
        release=release,
        folder=key,
        files=files,
        seconds=round(time.monotonic() - started, 3),
    )
    await context.catalog.put(dump.id, dump)
    await _make_current(context, dump)
    await _delete_old_dumps(context, dump)
    return _ready(dump, tuple(uploader.name for uploader in manifest.uploader_list) if command.then_upload else ())


async def _is_edited(plan: Plan, fetchers: Fetchers, last: Dump) -> bool:
    return await is_edited(plan, fetchers, last.finished_at - last.seconds)


async def _last_dump(context: Context, source: str) -> Dump | None:
    """Return the newest complete dump, also one whose job died before it became the current one."""
    dumps = await context.catalog.find(Dump, {"source": source})
    newest = max(dumps, key=lambda dump: dump.finished_at, default=None)
    return newest if newest is not None and await context.files.exists(newest.folder) else None


async def _keep_dump(context: Context, command: DumpSource, manifest: Manifest, last: Dump) -> DumpReady:
    before = await context.catalog.get(SourceState, command.source)
    unchanged = before is not None and before.dump == last.id
    state = await _make_current(context, last)
    names = [uploader.name for uploader in manifest.uploader_list if command.then_upload]
    uploaders = tuple(name for name in names if not unchanged or name not in state.uploads)
    return _ready(last, uploaders).model_copy(update={"unchanged": unchanged})


def _ready(dump: Dump, uploaders: tuple[str, ...]) -> DumpReady:
    return DumpReady(
        source=dump.source,
        dump=dump.id,
        release=dump.release,
        files=len(dump.files),
        size=sum(file.size for file in dump.files),
        uploaders=uploaders,
    )


async def _free_key(context: Context, source: str, release: str) -> str:
    """Return a key under which nothing is published: a second download of a release stands beside the first."""
    copy = 1
    while await context.files.exists(key := f"archive/{source}/{build_release_folder_name(release, copy)}"):
        copy += 1
    return key


async def _fill(context: Context, run: JobRun, plan: Plan, fetchers: Fetchers, *, key: str) -> list[DumpFile]:
    """Download, unpack and publish; what a later attempt may resume stays in the staging folder."""
    downloads = Downloads(await context.files.staging(key), choose_file_names(plan.urls))
    try:
        await asyncio.to_thread(prepare_folder, downloads)
        meter = Meter()
        work = download_files(
            downloads, fetchers, meter, per_host=plan.settings.downloads_per_host, backoff=plan.backoff
        )
        files = await report_while(run, "download", meter, work)
        repositories = [name for name, url in downloads.names.items() if is_repository(url)]
        if plan.manifest.dumper.uncompress:
            await _unpack(run, plan, downloads, list(downloads.names))
        elif repositories:
            await _unpack(run, plan, downloads, repositories)
        await asyncio.to_thread(remove_notes, downloads)
        await context.files.publish(key)
    except TerminalError:
        await context.files.discard(key)
        raise
    except OSError as error:
        raise EngineUnavailable(f"The files of {plan.manifest.name!r} cannot be written: {error}.") from error
    return files


async def _unpack(run: JobRun, plan: Plan, downloads: Downloads, names: list[str]) -> None:
    meter = Meter()
    count = meter.add()

    def unpack(stop: threading.Event) -> None:
        unpacker = Unpacker(
            downloads.folder, plan.settings.unpack_max_bytes, plan.settings.unpack_max_ratio, count, stop
        )
        unpacker.unpack_all(names)

    if not any(is_archive(name) for name in names):
        run.warn("dumper.uncompress is set, but no downloaded file has the ending of an archive.")
    await report_while(run, "unpack", meter, run_in_thread(unpack))


async def _make_current(context: Context, dump: Dump) -> SourceState:
    def change(state: SourceState) -> SourceState:
        return state.model_copy(update={"dump": dump.id, "last_dump_error": None})

    return await context.catalog.update(SourceState, dump.source, change, default=SourceState(name=dump.source))


async def _record_error(context: Context, source: str, error: Exception) -> None:
    code = error.code if isinstance(error, SourcebookError) else "internal"
    record = {"code": code, "message": hide_secrets(str(error)) or type(error).__name__, "at": time.time()}

    def change(state: SourceState) -> SourceState:
        return state.model_copy(update={"last_dump_error": record})

    # The error itself is what counts: a catalogue that fails too must not hide it.
    with contextlib.suppress(SourcebookError):
        await context.catalog.update(SourceState, source, change, default=SourceState(name=source))


async def _delete_old_dumps(context: Context, current: Dump) -> None:
    """Delete dumps beyond `keep_dumps`, and folders that no record names (their job died before it wrote one)."""
    dumps = await context.catalog.find(Dump, {"source": current.source})
    dumps.sort(key=lambda dump: (dump.id == current.id, dump.finished_at), reverse=True)
    kept = dumps[: context.settings.keep_dumps]
    for dump in dumps[len(kept) :]:
        await context.catalog.delete(Dump, dump.id)
    folders = {dump.folder for dump in kept}
    for key in await context.files.keys(f"archive/{current.source}"):
        if key not in folders:
            await context.files.delete(key)
