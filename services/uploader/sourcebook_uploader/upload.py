"""Uploads: parses the newest dump of a source into a new collection, and makes it the current one."""

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, islice, takewhile
from pathlib import Path
from typing import Any

from sourcebook.context import Context
from sourcebook.errors import (
    Cancelled,
    DocumentError,
    MappingError,
    MissingUpload,
    NotFound,
    ParserError,
    SourcebookError,
    StoreDamaged,
)
from sourcebook.flow.messages import ParseArguments, UploadDump, UploadReady
from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import Record
from sourcebook.hub.mappings.model import Properties, check_properties
from sourcebook.hub.names import build_collection_name, build_upload_name, parse_collection_name
from sourcebook.hub.sources.answers import read_manifest
from sourcebook.hub.sources.model import Dump, SourceState, Upload
from sourcebook.logging import hide_secrets
from sourcebook.ports.documents import BATCH_BYTES, CollectionInfo
from sourcebook.sdk.code_digest import digest_code
from sourcebook.sdk.manifest import Manifest, UploaderManifest
from sourcebook.sdk.process import PluginObject, call_plugin
from sourcebook.worker import JobRun
from sourcebook_uploader.changes import describe_changes, drop_older_changes
from sourcebook_uploader.infer import Inference
from sourcebook_uploader.inspection import save_inferred_mapping
from sourcebook_uploader.parallel import parse_tuples
from sourcebook_uploader.parse import ParserSpec, duplicate_error
from sourcebook_uploader.parser_process import ParserResult, run_parsers
from sourcebook_uploader.runs import Run, merge_runs
from sourcebook_uploader.validate import find_duplicate, merge_duplicates

_LOOK_DOCUMENTS = 2000
_HOOK_TIMEOUT = timedelta(minutes=10)  # for `mapping` and `parallelizer`, which only list things


@dataclass(frozen=True, slots=True)
class _UploadPlan:
    """What an upload works with, read once at its start."""

    folder: Path
    manifest: Manifest
    uploader: UploaderManifest
    dump: Dump
    data_folder: Path
    scratch: Path
    code: str  # digested before the parser is imported: an edit meanwhile is one that the upload may not have
    committed: Properties | None  # what the plugin's `mapping` function says


async def upload_dump(context: Context, run: JobRun, command: UploadDump) -> UploadReady:
    """Parse the newest dump of a source with one of its uploaders; the documents replace the earlier ones in one step.

    Raises:
        NotFound: there is no such source or uploader.
        MissingUpload: nothing was downloaded yet.
        PluginError: the manifest, the parser or a document is wrong; the earlier upload stays.
    """
    try:
        upload = await context.state.get(Upload, _upload_id(command, run))
        if upload is None:
            async with _open_scratch(context, run) as scratch:
                upload = await _make_upload(context, run, command, scratch)
        return await _make_current(context, upload)
    except Cancelled:
        raise
    except SourcebookError as error:
        await _record_failure(context, command, error)
        raise


def _upload_id(command: UploadDump, run: JobRun) -> str:
    return f"{build_upload_name(command.source, command.uploader)}@{run.id}"


@contextlib.asynccontextmanager
async def _open_scratch(context: Context, run: JobRun) -> AsyncIterator[Path]:
    """Make a folder for this attempt alone: a worker that was taken for dead may still write to its own."""
    folder = context.scratch_folder(run.id) / secrets.token_hex(4)
    folder.mkdir()
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _make_upload(context: Context, run: JobRun, command: UploadDump, scratch: Path) -> Upload:
    started = time.monotonic()
    plan = await _make_plan(context, command, scratch)
    if plan.uploader.keylookup is not None:
        run.warn("`keylookup` is not supported: documents keep the _id that the parser gives them.")
    collection = _collection_of(command.source, command.uploader, run.id)
    await context.documents.drop(collection)  # left by an earlier try that died before it was recorded
    results = await _parse(context, run, plan)
    inference = Inference()
    for result in results:
        if result.inferred is not None:
            inference.absorb(result.inferred)
    info = await _write_collection(context, run, collection, results, plan)
    current = await _get_current(context, command)
    kept = await _find_equal_collection(context, command, current, info)
    if kept is not None:
        await context.documents.drop(collection)
    upload = Upload(
        id=_upload_id(command, run),
        source=command.source,
        uploader=command.uploader,
        dump=plan.dump.id,
        version=plan.dump.version,
        code=plan.code,
        collection=kept or collection,
        count=info.count,
        digest=info.digest,
        merge=plan.uploader.merger == "deep",
        metadata=plan.manifest.metadata,
    )
    upload = await describe_changes(context, run, upload, current)
    name = build_upload_name(command.source, command.uploader)
    await save_inferred_mapping(context, run, name, inference, from_plugin=plan.committed, anew=command.infer_anew)
    upload = upload.model_copy(update={"warnings": run.warnings, "seconds": time.monotonic() - started})
    await context.state.insert(upload.id, upload)
    return upload


def _collection_of(source: str, uploader: str, generation: str) -> str:
    return build_collection_name("upload", f"{source}.{uploader}", generation)


async def _make_plan(context: Context, command: UploadDump, scratch: Path) -> _UploadPlan:
    loaded = await read_manifest(context, command.source)
    uploader = next((item for item in loaded.manifest.uploader_list if item.name == command.uploader), None)
    if uploader is None:
        names = ", ".join(item.name for item in loaded.manifest.uploader_list) or "none"
        raise NotFound(
            f"Source {command.source!r} has no uploader {command.uploader!r}; it has {names}.",
            source=command.source,
            uploader=command.uploader,
        )
    state = await context.state.get(SourceState, command.source)
    dump = await context.state.get(Dump, state.dump) if state is not None and state.dump else None
    if dump is None:
        raise MissingUpload(
            f"Source {command.source!r} has no downloaded files yet: sourcebook dump {command.source}",
            source=command.source,
        )
    folder = loaded.path.parent
    code = await asyncio.to_thread(digest_code, folder, uploader)
    data_folder = await context.files.local_folder(dump.folder)
    committed = await _call_mapping(context, folder, uploader, data_folder)
    return _UploadPlan(folder, loaded.manifest, uploader, dump, data_folder, scratch, code, committed)


async def _call_mapping(
    context: Context, folder: Path, uploader: UploaderManifest, data_folder: Path
) -> Properties | None:
    if uploader.mapping is None:
        return None
    properties = await _call_hook(
        context, folder, uploader.mapping, _uploader_object(uploader, data_folder, as_class=True)
    )
    return check_properties(properties)


def _uploader_object(uploader: UploaderManifest, data_folder: Path, *, as_class: bool) -> PluginObject:
    """Return what BioThings plugins expect as `self` or `cls`."""
    attributes = {"name": uploader.name, "data_folder": str(data_folder)}
    return PluginObject("Uploader", attributes, as_class=as_class)


async def _call_hook(context: Context, folder: Path, function: str, argument: PluginObject) -> Any:
    memory_bytes = context.settings.parser_memory_bytes
    return await call_plugin(folder, function, args=[argument], memory_bytes=memory_bytes, timeout=_HOOK_TIMEOUT)


async def _parse(context: Context, run: JobRun, plan: _UploadPlan) -> list[ParserResult]:
    uploader = plan.uploader
    spec = ParserSpec(
        folder=str(plan.folder),
        parser=uploader.parser,
        data_folder=str(plan.data_folder),
        scratch=str(plan.scratch),
        kwargs=uploader.parser_kwargs,
        drop_nan=uploader.nan == "drop",
        refuse_duplicates=uploader.on_duplicates == "error",
        run_bytes=context.settings.run_bytes,
        memory_bytes=context.settings.parser_memory_bytes,
    )
    if uploader.parallelizer is None:
        results = await run_parsers([spec], lambda done: run.progress("parse", done, None, "documents"))
    else:
        argument = _uploader_object(uploader, plan.data_folder, as_class=False)
        tuples = await _call_hook(context, plan.folder, uploader.parallelizer, argument)
        results = await parse_tuples(context, run, spec, tuples, _make_part_command(run, plan, spec))
    for warning in _first_of_each_kind(results):
        run.warn(warning)
    await asyncio.to_thread(_raise_first_error, results, uploader.on_duplicates)
    if not any(result.runs for result in results):
        raise ParserError(
            f"{uploader.parser!r} yielded no documents from {plan.dump.version!r} (files: "
            f"{', '.join(file.name for file in plan.dump.files[:10]) or 'none'}). The earlier upload stays.",
            parser=uploader.parser,
        )
    return results


def _first_of_each_kind(results: Sequence[ParserResult]) -> Iterable[str]:
    warnings: dict[str, str] = {}
    for result in results:
        warnings.update({kind: text for kind, text in result.warnings.items() if kind not in warnings})
    return warnings.values()


def _raise_first_error(results: Sequence[ParserResult], on_duplicates: str) -> None:
    """Raise what is wrong first in the order of the documents, however many processes and workers there were."""
    error = results[-1].error if results else None
    if isinstance(error, DocumentError | MappingError | ParserError) and on_duplicates == "error":
        runs = [item for result in results for item in result.runs]
        for _ in iter_merged_batches(runs, on_duplicates=on_duplicates, size=_LOOK_DOCUMENTS):
            pass  # an `_id` that stands twice is raised
    if error is not None:
        raise error


def _make_part_command(run: JobRun, plan: _UploadPlan, spec: ParserSpec) -> ParseArguments:
    return ParseArguments(
        job=run.id,
        number=0,
        source=plan.dump.source,
        uploader=plan.uploader.name,
        dump=plan.dump.id,
        data_folder=spec.data_folder,
        parser=spec.parser,
        kwargs=spec.kwargs,
        drop_nan=spec.drop_nan,
        refuse_duplicates=spec.refuse_duplicates,
    )


async def _write_collection(
    context: Context, run: JobRun, collection: str, results: Sequence[ParserResult], plan: _UploadPlan
) -> CollectionInfo:
    runs = [item for result in results for item in result.runs]
    total = sum(item.total for item in runs)
    size = context.settings.batch_documents
    batches = iter_merged_batches(runs, on_duplicates=plan.uploader.on_duplicates, size=size)
    done = 0
    async with context.documents.create(collection) as writer:
        # Reading, decoding and sorting happen in a thread: here is the one place.
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            await writer.write(batch)
            done += len(batch)
            await run.progress("write", done, total, "documents")
        return await writer.commit()


def iter_merged_batches(runs: Sequence[Run], *, on_duplicates: str, size: int) -> Iterator[list[Record]]:
    """Yield the records of all runs, each key once and ascending, in lists of `size` records, fewer where these are large.

    Raises:
        DuplicateId: a key stands twice, and `on_duplicates` is "error".
    """
    may_repeat = len(runs) > 1 or any(run.has_duplicates for run in runs)
    buffer: list[Record] = []
    used = 0
    for merged in merge_runs(runs):
        records = merged
        key = find_duplicate(records) if may_repeat else None
        if key is not None:
            if on_duplicates == "error":
                raise duplicate_error(key, [])
            records = merge_duplicates(records, merge=on_duplicates == "merge")
        buffer += records
        used += sum([len(value) for _, value in records])
        start = 0
        while len(buffer) - start >= size or used >= BATCH_BYTES:
            batch = buffer[start : start + _count_fitting(buffer, start, size, is_large=used >= BATCH_BYTES)]
            yield batch
            used -= sum([len(value) for _, value in batch])
            start += len(batch)
        del buffer[:start]
    if buffer:
        yield buffer


def _count_fitting(records: list[Record], start: int, size: int, *, is_large: bool) -> int:
    """Return how many records from `start` on make a batch: `size`, or fewer where they are large, but one."""
    if not is_large:
        return size
    lengths = accumulate(len(value) for _, value in islice(records, start, start + size))
    return max(1, sum(1 for _ in takewhile(lambda total: total <= BATCH_BYTES, lengths)))


async def _get_current(context: Context, command: UploadDump) -> Upload | None:
    state = await context.state.get(SourceState, command.source)
    current_id = state.uploads.get(command.uploader) if state is not None else None
    return await context.state.get(Upload, current_id) if current_id else None


async def _find_equal_collection(
    context: Context, command: UploadDump, current: Upload | None, info: CollectionInfo
) -> str | None:
    """Return the current collection if the new one has the same documents (and nobody asked for a new one)."""
    if command.force or current is None or (current.count, current.digest) != (info.count, info.digest):
        return None
    try:
        await context.documents.check(current.collection)
    except (NotFound, StoreDamaged):
        return None
    return current.collection


async def _make_current(context: Context, upload: Upload) -> UploadReady:
    def switch(state: SourceState) -> SourceState:
        errors = {name: error for name, error in state.last_upload_errors.items() if name != upload.uploader}
        uploads = {**state.uploads, upload.uploader: upload.id}
        return state.model_copy(update={"uploads": uploads, "last_upload_errors": errors})

    await context.state.update(SourceState, upload.source, switch, default=SourceState(name=upload.source))
    await _drop_older_collections(context, upload)
    await drop_older_changes(context, upload)
    generation = parse_collection_name(upload.collection).generation
    return UploadReady(
        source=upload.source,
        uploader=upload.uploader,
        upload=upload.id,
        count=upload.count,
        unchanged=not upload.id.endswith(f"@{generation}"),
    )


async def _drop_older_collections(context: Context, current: Upload) -> None:
    """Drop the collections of this uploader, except the current one and those that a build serves without copying."""
    kept = {current.collection} | {
        build.collection for build in await context.state.find(Build) if build.archived_at is None
    }
    owner = parse_collection_name(current.collection).owner
    for name in await context.documents.names():
        parts = name.split("~")
        if parts[:2] != ["upload", owner] or name in kept:
            continue
        # `a.b` with uploader `c` and `a` with uploader `b.c` share an owner's name: ask whose it is.
        records = await context.state.find(Upload, {"collection": name})
        if all((record.source, record.uploader) == (current.source, current.uploader) for record in records):
            await context.documents.drop(name)


async def _record_failure(context: Context, command: UploadDump, error: SourcebookError) -> None:
    told = {"code": error.code, "message": hide_secrets(error.message), "at": time.time()}

    def change(state: SourceState) -> SourceState:
        return state.model_copy(update={"last_upload_errors": {**state.last_upload_errors, command.uploader: told}})

    with contextlib.suppress(NotFound):  # nothing is known of this source yet
        await context.state.update(SourceState, command.source, change)
