"""Makes changes folders: compares two builds (or uploads), writes what differs, and checks that it is all of it."""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sourcebook.context import Context
from sourcebook.errors import DamagedChanges, EngineUnavailable, InvalidRequest, NotFound, VerificationFailed
from sourcebook.flow.messages import DiffBuilds
from sourcebook.hub.builds.answers import get_build
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.compare import Compared, Difference, compare_candidates, compare_collections
from sourcebook.hub.changes.folder import (
    ChangesFolder,
    ChangesWriter,
    encode_delete,
    encode_document,
    encode_patch,
    open_changes,
    read_id,
    verify_changes,
    write_metadata,
)
from sourcebook.hub.changes.model import (
    ChangeKind,
    ChangesMetadata,
    ComparedSide,
    MappingChanges,
    Occurrences,
    RootKeyChange,
    SourceChange,
    SourceVersion,
    diff_properties,
)
from sourcebook.hub.changes.patch import DocumentDifference, compare_documents
from sourcebook.hub.documents.record import Digest, Record, record_body
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.lease import keep_lock
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.names import build_changes_key, is_upload_id
from sourcebook.hub.sources.model import Upload

ProgressListener = Callable[[str, int, int | None, str], Awaitable[None]]
_MAX_SAMPLES = 10
_MAX_STEPS = 20  # incremental builds that are followed back; a full comparison is cheap enough beyond


async def start_diff(context: Context, old: str, new: str, *, ignore_list_order: bool = False) -> Job:
    """Start to compare two builds of one configuration, or (by their ids) two uploads of one uploader.

    The job's result has the key of the changes.

    Raises:
        NotFound: there is no such build.
        InvalidRequest: they are builds of different configurations.
        Busy: the same comparison is under way.
    """
    if is_upload_id(old) and is_upload_id(new):
        return await submit(context, DiffBuilds(old=old, new=new))
    check_comparable(await get_build(context, old), await get_build(context, new))
    return await submit(context, DiffBuilds(old=old, new=new, ignore_list_order=ignore_list_order))


def check_comparable(old: Build, new: Build) -> None:
    """Refuse what cannot be compared.

    Raises:
        InvalidRequest: they are one build, or builds of different configurations.
    """
    if old.name == new.name or old.config != new.config:
        raise InvalidRequest(
            f"{old.name!r} (of configuration {old.config!r}) and {new.name!r} (of {new.config!r}) cannot be compared: name "
            "two builds of one configuration.",
            old=old.name,
            new=new.name,
        )


async def ensure_changes(
    context: Context, old: Build, new: Build, *, progress: ProgressListener, ignore_list_order: bool = False
) -> ChangesFolder:
    """Return the verified changes folder of two builds; it is made if it is not there, and made again if it is damaged.

    Raises:
        NotFound: the documents of a build are gone.
        VerificationFailed: the changes do not lead from one build to the other.
    """
    key = build_changes_key(new.name, old.name, ignore_list_order=ignore_list_order)
    async with _hold_lock(context, f"files:{key}"):
        known = await _open_verified(context, key)
        if known is not None:
            return known
        await _check_documents(context, old, new)
        draft = await _draft(context, old, new, ignore_list_order=ignore_list_order)
        candidates = await _find_candidates(context, old, new)
        if candidates is not None:
            # Wrong or damaged candidates cost a full comparison, nothing else.
            with suppress(VerificationFailed, DamagedChanges):
                await record_changes(context, key, draft, progress=progress, candidates=candidates)
                return await open_changes(context, key)
        await record_changes(context, key, draft, progress=progress)
    return await open_changes(context, key)


async def record_build_changes(
    context: Context, old: Build, new: Build, *, candidates: Sequence[ChangesFolder], progress: ProgressListener
) -> None:
    """Publish what an incremental build changed; cost follows the candidates.

    Raises:
        VerificationFailed: the changes do not lead from one build to the other.
    """
    key = build_changes_key(new.name, old.name)
    async with _hold_lock(context, f"files:{key}"):
        await context.files.delete(key)  # of a try that died
        draft = await _draft(context, old, new, ignore_list_order=False)
        await record_changes(context, key, draft, progress=progress, candidates=candidates)


async def _open_verified(context: Context, key: str) -> ChangesFolder | None:
    if not await context.files.exists(key):
        return None
    try:
        folder = await open_changes(context, key)
        await asyncio.to_thread(verify_changes, folder.path, folder.metadata)
    except DamagedChanges:
        await context.files.delete(key)
        return None
    return folder


async def _check_documents(context: Context, *builds: Build) -> None:
    for build in builds:
        if await context.documents.info(build.collection) is None:
            raise NotFound(
                f"The documents of build {build.name!r} are gone, so it cannot be compared. Release the newer build in full.",
                build=build.name,
            )


async def _draft(context: Context, old: Build, new: Build, *, ignore_list_order: bool) -> ChangesMetadata:
    """Return the metadata of a comparison, without what the comparison itself finds."""
    before, after = [await _source_versions(context, build) for build in (old, new)]
    return ChangesMetadata(
        config=new.config,
        doc_type=new.doc_type,
        old=_side(old),
        new=_side(new),
        mapping=diff_properties(old.mapping, new.mapping),
        sources={name: SourceChange(old=before.get(name), new=after.get(name)) for name in sorted(before | after)},
        ignore_list_order=ignore_list_order,
        new_mapping=new.mapping,
        new_metadata=new.metadata,
    )


def _side(build: Build) -> ComparedSide:
    version = str(build.metadata.get("build_version", build.name))
    return ComparedSide(
        build=build.name, version=version, collection=build.collection, count=build.count, digest=build.digest
    )


async def _source_versions(context: Context, build: Build) -> dict[str, SourceVersion]:
    versions: dict[str, SourceVersion] = {}
    for upload_id in build.uploads:
        upload = await context.state.get(Upload, upload_id)
        if upload is not None:
            count = versions[upload.source].count if upload.source in versions else 0
            versions[upload.source] = SourceVersion(version=upload.version, count=count + upload.count)
    return versions


async def _find_candidates(context: Context, old: Build, new: Build) -> list[ChangesFolder] | None:
    """Return folders that name all documents in which two builds can differ, if incremental builds lead from old to new."""
    folders: list[ChangesFolder] = []
    build: Build | None = new
    while build is not None and build.name != old.name:
        if build.base is None or len(folders) == _MAX_STEPS:
            return None
        try:
            folders.append(await open_changes(context, build_changes_key(build.name, build.base)))
        except (NotFound, DamagedChanges):
            return None
        build = await context.state.get(Build, build.base)
    return folders if build is not None else None


def draft_upload_changes(old: Upload, new: Upload) -> ChangesMetadata:
    """Return the metadata of the comparison of two uploads of one uploader, without what the comparison finds."""
    sides = [
        ComparedSide(
            build=upload.id,
            version=upload.version,
            collection=upload.collection,
            count=upload.count,
            digest=upload.digest,
        )
        for upload in (old, new)
    ]
    versions = [SourceVersion(version=upload.version, count=upload.count) for upload in (old, new)]
    return ChangesMetadata(
        config=f"{new.source}/{new.uploader}",
        doc_type="",
        old=sides[0],
        new=sides[1],
        mapping=MappingChanges(),
        sources={new.source: SourceChange(old=versions[0], new=versions[1])},
    )


async def record_changes(
    context: Context,
    key: str,
    draft: ChangesMetadata,
    *,
    progress: ProgressListener,
    candidates: Sequence[ChangesFolder] | None = None,
    max_changes: int | None = None,
) -> ChangesMetadata | None:
    """Compare the collections that a draft names and publish what differs under `key`.

    Args:
        context: the engines.
        key: where the folder goes; nothing may be published there. The caller sees to it that nobody else writes it.
        draft: the metadata, without what the comparison finds.
        progress: told how far it is.
        candidates: folders that name every document that can differ; without them everything is read.
        max_changes: with more changes than that nothing is published, and None is returned.

    Raises:
        NotFound: one of the collections is not there.
        VerificationFailed: the changes do not lead from the old collection to the new one.
        EngineUnavailable: the files cannot be written.
    """
    await context.files.discard(key)  # left by a try that died
    folder = await context.files.staging(key)
    recorder = _Recorder(folder, draft)
    try:
        async for step in _compare(context, draft, candidates):
            recorder.read += step.read
            if step.differences:
                await asyncio.to_thread(recorder.add, step.differences)
            if max_changes is not None and recorder.writer.counts.total > max_changes:
                return None
            await progress("compare", recorder.read, draft.old.count + draft.new.count, "documents")
        metadata = await asyncio.to_thread(recorder.finish)
        await context.files.publish(key)
    except OSError as error:
        raise EngineUnavailable(f"The changes could not be written to {folder}: {error}. Is the disk full?") from error
    finally:
        recorder.writer.abort()
        await context.files.discard(key)
    return metadata


def _compare(
    context: Context, draft: ChangesMetadata, candidates: Sequence[ChangesFolder] | None
) -> AsyncIterator[Compared]:
    old, new, size = draft.old.collection, draft.new.collection, context.settings.batch_documents
    if candidates is None:
        return compare_collections(context.documents, old, new, size=size)
    return compare_candidates(context.documents, old, new, folders=candidates, size=size)


class _Recorder:
    """Writes differences to a folder, and keeps the sums that its metadata need."""

    def __init__(self, folder: Path, draft: ChangesMetadata) -> None:
        self.read = 0
        self.writer = ChangesWriter(folder)
        self._folder = folder
        self._draft = draft
        self._digest = Digest(draft.old.count, draft.old.digest)
        # Plain counts and samples while documents are compared; models are made of them at the end.
        self._occurrences: Counter[tuple[str, str]] = Counter()
        self._samples: defaultdict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, differences: list[Difference]) -> None:
        self._digest.remove([difference.old[1] for difference in differences if difference.old is not None])
        self._digest.add([difference.new[1] for difference in differences if difference.new is not None])
        for difference in differences:
            self._write(difference)

    def _write(self, difference: Difference) -> None:
        old, new = difference
        if new is None:
            if old is not None:
                self.writer.write(ChangeKind.DELETE, encode_delete(old))
        elif old is None:
            self.writer.write(ChangeKind.ADD, encode_document(ChangeKind.ADD, new))
        else:
            self._write_update(old, new)

    def _write_update(self, old: Record, new: Record) -> None:
        body = record_body(new)
        found = compare_documents(record_body(old), body, ignore_list_order=self._draft.ignore_list_order)
        if not found.operations:
            return
        self._count_root_keys(new, found)
        patch = found.patch
        is_shorter = len(patch) < len(body)
        line = encode_patch(new, patch) if is_shorter else encode_document(ChangeKind.UPDATE, new)
        self.writer.write(ChangeKind.UPDATE, line)

    def _count_root_keys(self, record: Record, found: DocumentDifference) -> None:
        for what, keys in (("added", found.added), ("removed", found.removed), ("changed", found.changed)):
            for key in keys:
                samples = self._samples[key, what]
                self._occurrences[key, what] += 1
                if len(samples) < _MAX_SAMPLES:
                    samples.append(read_id(record))

    def _describe_root_keys(self) -> dict[str, RootKeyChange]:
        found: dict[str, RootKeyChange] = {}
        for (key, what), documents in self._occurrences.items():
            occurrences = Occurrences(documents=documents, samples=self._samples[key, what])
            setattr(found.setdefault(key, RootKeyChange()), what, occurrences)
        return found

    def finish(self) -> ChangesMetadata:
        """Check that the changes lead from the old collection to the new one, and write the metadata."""
        new = self._draft.new
        if (self._digest.count, self._digest.hex()) != (new.count, new.digest):
            raise VerificationFailed(
                f"The changes from {self._draft.old.build} lead to {self._digest.count} documents with the digest "
                f"{self._digest.hex()}, but {new.build} has {new.count} with {new.digest}: a collection is not what its "
                "record says. Build again in full (`--full`).",
                expected=new.digest,
                found=self._digest.hex(),
            )
        files = self.writer.finish()
        found: dict[str, Any] = {"counts": self.writer.counts, "files": files, "root_keys": self._describe_root_keys()}
        metadata = self._draft.model_copy(update=found)
        write_metadata(self._folder, metadata)
        return metadata


@asynccontextmanager
async def _hold_lock(context: Context, name: str) -> AsyncIterator[None]:
    """Hold a lock while the body runs: a diff and a release may both want the same folder at once."""
    owner = secrets.token_hex(8)
    while not await context.locks.acquire(name, owner, context.settings.lock_ttl):
        await asyncio.sleep(0.2)
    try:
        async with keep_lock(context, name, owner):
            yield
    finally:
        await context.locks.release(name, owner)
