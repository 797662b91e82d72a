"""Publish: write a build to an address, full or as changes, so that other machines can install it.

Everything of a release is written before `versions.json` lists it, and `latest.json` names it last: whoever reads sees the
releases before this one, or this one complete. A publication that died is begun again, over what it left.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sourcebook.context import Context
from sourcebook.errors import (
    Conflict,
    EngineUnavailable,
    InvalidRequest,
    NotFound,
    StoreDamaged,
    VerificationFailed,
)
from sourcebook.flow.messages import PublishRelease, ReleasePublished
from sourcebook.hub.builds.answers import check_has_documents, get_build
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.commands import ensure_changes
from sourcebook.hub.changes.folder import ChangesFolder
from sourcebook.hub.documents.record import Digest
from sourcebook.hub.publishing.model import (
    LATEST_FILE,
    METADATA_FILE,
    VERSIONS_FILE,
    Content,
    Latest,
    PublishedBase,
    PublishedVersion,
    PublishedVersions,
    SnapshotFile,
    SnapshotMetadata,
)
from sourcebook.hub.publishing.remotes import Remote
from sourcebook.worker import JobRun
from sourcebook_builder.publishing.address import FileSystemAddress
from sourcebook_builder.publishing.snapshot import FILE_BYTES, DocumentsWriter, documents_file_name, write_mapping
from sourcebook_builder.publishing.versions import read_latest, read_versions

# A machine that installs anew reads the last full release and every increment since.
_MAX_INCREMENTS = 12
_MAX_INCREMENTS_SHARE = 0.5  # of the bytes of the full release
T = TypeVar("T")


class _Job(NamedTuple):
    """What a publication works with."""

    context: Context
    run: JobRun
    build: Build
    address: FileSystemAddress
    scratch: Path


async def publish_release(context: Context, run: JobRun, command: PublishRelease) -> ReleasePublished:
    """Write a build to an address, in the form that `choose_forms` says; publishing it again changes nothing.

    Raises:
        NotFound: there is no such build or address.
        Conflict: the build is archived, or the address has other releases under this name.
        InvalidRequest: only changes are asked for, and there are none to what was published last.
        TransientError: the address cannot be written to now.
    """
    build = await get_build(context, command.build)
    check_has_documents(build)
    remote = await context.state.get(Remote, command.remote)
    if remote is None:
        raise NotFound(f"There is no address {command.remote!r}.", remote=command.remote)
    address = await asyncio.to_thread(FileSystemAddress, f"{remote.url}/{build.config}")
    job = _Job(context, run, build, address, context.scratch_folder(run.id))
    known = await _read_known(job)
    latest = await read_latest(address)
    there = {version.type for version in known.versions if version.build == build.name}
    is_wanted = command.mode == "incremental" or (command.mode == "auto" and not there)
    changes = await _find_changes(job, latest) if is_wanted and latest is not None else None
    forms = choose_forms(known.versions, build, changes, command.mode)
    added = []
    if "incremental" in forms and changes is not None:
        added.append(await _publish_changes(job, changes))
    if "full" in forms:
        added.append(await _publish_snapshot(job))
    await _make_visible(job, known, added, latest)
    return ReleasePublished(
        build=build.name,
        address=address.shown,
        forms=tuple(version.type for version in added),
        size=sum(version.size for version in added),
        unchanged=not added,
    )


async def _read_known(job: _Job) -> PublishedVersions:
    build = job.build
    known = await read_versions(job.address)
    if known is None:
        return PublishedVersions(config=build.config, doc_type=build.doc_type)
    if known.config != build.config or any(
        version.build == build.name and version.content != Content(build.count, build.digest)
        for version in known.versions
    ):
        raise Conflict(
            f"{job.address.shown} has releases of another origin: {known.config!r}, or a {build.name!r} with other documents. "
            "Publish to another address.",
            url=job.address.shown,
        )
    return known


async def _find_changes(job: _Job, latest: Latest) -> ChangesFolder | None:
    """Return the changes from what was published last, if that is a build of this hub and its changes or documents are here."""
    old = await job.context.state.get(Build, latest.build)
    if old is None or old.name == job.build.name or old.config != job.build.config:
        return None
    if (old.count, old.digest) != (latest.count, latest.digest):
        return None
    try:
        return await ensure_changes(job.context, old, job.build, progress=job.run.progress)
    except (NotFound, VerificationFailed) as error:
        job.run.warn(f"There are no changes from {old.name} to {job.build.name}: {error.message}")
        return None


def choose_forms(
    versions: list[PublishedVersion], build: Build, changes: ChangesFolder | None, mode: str
) -> tuple[str, ...]:
    """Return in which forms a build is to be published: `full`, `incremental`, both, or none because it is there already.

    By rule (`auto`): changes where there are some, unless they have more than half the size of the last full release. A full
    release too where there is none yet, or where a reader who starts from scratch would need more than twelve increments, or
    increments of more than half its size.

    Raises:
        InvalidRequest: changes are asked for, and there are none.
    """
    there = {version.type for version in versions if version.build == build.name}
    if mode == "incremental" and changes is None and "incremental" not in there:
        raise InvalidRequest(
            f"There are no changes from what was published last to {build.name!r}: publish it in full, or make them with "
            f"`sourcebook release diff OLD {build.name}`.",
            build=build.name,
        )
    if mode != "auto":
        return () if mode in there else (mode,)
    if there:
        return ()
    if changes is None:
        return ("full",)
    number = next((n for n, version in enumerate(reversed(versions)) if version.type == "full"), None)
    if number is None:
        return ("incremental", "full")
    full = versions[len(versions) - 1 - number]
    before = sum(version.size for version in versions[len(versions) - number :])
    size = sum(file.size for file in changes.metadata.files)
    most = full.size * _MAX_INCREMENTS_SHARE
    if size > most:
        return ("full",)
    is_long = number + 1 > _MAX_INCREMENTS or before + size > most
    return ("incremental", "full") if is_long else ("incremental",)


async def _publish_changes(job: _Job, changes: ChangesFolder) -> PublishedVersion:
    old = changes.metadata.old
    folder = f"incremental/{job.build.name}~{old.build}"
    done, total = 0, sum(file.size for file in changes.metadata.files)
    for file in changes.metadata.files:
        await job.address.put_file(changes.path / file.name, f"{folder}/{file.name}")
        done += file.size
        await job.run.progress("publish changes", done, total, "bytes")
    data = await asyncio.to_thread((changes.path / METADATA_FILE).read_bytes)
    await job.address.put_file(changes.path / METADATA_FILE, f"{folder}/{METADATA_FILE}")
    base = PublishedBase(build=old.build, count=old.count, digest=old.digest)
    return _describe(job.build, folder, data, total).model_copy(update={"type": "incremental", "base": base})


async def _publish_snapshot(job: _Job) -> PublishedVersion:
    build, folder = job.build, f"full/{job.build.name}"
    files = await _publish_documents(job, folder)
    mapping = await _on_disk(write_mapping, job.scratch, build.mapping)
    await job.address.put_file(job.scratch / mapping.name, f"{folder}/{mapping.name}")
    metadata = SnapshotMetadata(
        config=build.config,
        doc_type=build.doc_type,
        build=build.name,
        build_version=_version_of(build),
        count=build.count,
        digest=build.digest,
        files=files,
        mapping=mapping,
        metadata=build.metadata,
    )
    data = metadata.model_dump_json(indent=1).encode()
    await job.address.replace(f"{folder}/{METADATA_FILE}", data)
    return _describe(build, folder, data, sum(file.size for file in (*files, mapping)))


async def _publish_documents(job: _Job, folder: str) -> list[SnapshotFile]:
    build = job.build
    digest = Digest()
    files: list[SnapshotFile] = []
    writer: DocumentsWriter | None = None
    await job.context.documents.check(build.collection)
    try:
        async for batch in job.context.documents.scan(build.collection, size=job.context.settings.batch_documents):
            if writer is None:
                writer = await _on_disk(DocumentsWriter, job.scratch / documents_file_name(len(files) + 1))
            await _on_disk(writer.write, batch)
            digest.add([value for _, value in batch])
            await job.run.progress("publish", digest.count, build.count, "documents")
            if writer.unpacked >= FILE_BYTES:
                files.append(await _send(job, writer, folder))
                writer = None
        if writer is not None:
            files.append(await _send(job, writer, folder))
    finally:
        if writer is not None:
            writer.abort()
    if (digest.count, digest.hex()) != (build.count, build.digest):
        raise StoreDamaged(
            f"The documents of build {build.name!r} are not those that were built: {digest.count} with digest {digest.hex()} "
            f"instead of {build.count} with {build.digest}. Nothing is published; build it again.",
            build=build.name,
        )
    return files


async def _send(job: _Job, writer: DocumentsWriter, folder: str) -> SnapshotFile:
    """Complete a file, copy it to the address and remove it here: the scratch folder holds one at a time."""
    file = await _on_disk(writer.finish)
    await job.address.put_file(writer.path, f"{folder}/{file.name}")
    await asyncio.to_thread(writer.path.unlink)
    return file


async def _on_disk(work: Callable[..., T], *arguments: Any) -> T:
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise EngineUnavailable(f"The scratch folder cannot be written: {error.strerror}. Is the disk full?") from error


def _describe(build: Build, folder: str, metadata: bytes, size: int) -> PublishedVersion:
    return PublishedVersion(
        build=build.name,
        build_version=_version_of(build),
        type="full",
        url=f"{folder}/{METADATA_FILE}",
        count=build.count,
        digest=build.digest,
        size=size + len(metadata),
        sha256=hashlib.sha256(metadata).hexdigest(),
    )


def _version_of(build: Build) -> str:
    return str(build.metadata.get("build_version") or build.name.removeprefix(f"{build.config}_"))


async def _make_visible(
    job: _Job, known: PublishedVersions, added: list[PublishedVersion], latest: Latest | None
) -> None:
    build = job.build
    keys = {(version.type, version.url) for version in added}
    kept = [version for version in known.versions if (version.type, version.url) not in keys]
    versions = known.model_copy(update={"versions": [*kept, *added]})
    if added:
        await job.address.replace(VERSIONS_FILE, versions.model_dump_json(indent=1).encode())
    if latest is not None and latest.build == build.name:
        return
    newest = Latest(
        config=build.config,
        build=build.name,
        build_version=_version_of(build),
        count=build.count,
        digest=build.digest,
    )
    await job.address.replace(LATEST_FILE, newest.model_dump_json(indent=1).encode())
