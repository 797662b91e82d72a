"""Install: fetch a published release and make it a build, by the shortest way from what is here.

Every file is checked against its checksum, every document against its hash, and each collection on the way against the count
and digest that its publisher states. The build is visible when all agree; the API moves afterwards, by the index stage.
"""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from sourcebook.context import Context
from sourcebook.errors import Conflict, DamagedRelease, EngineUnavailable, InvalidName, NotFound
from sourcebook.flow.messages import InstallRelease, ReleaseInstalled
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.changes.folder import apply_change, read_change_batches, write_metadata
from sourcebook.hub.changes.folder import read_metadata as read_metadata_file
from sourcebook.hub.changes.model import Change, ChangeKind, ChangesMetadata
from sourcebook.hub.documents.record import MAX_ID_BYTES, record_key
from sourcebook.hub.mappings.model import Properties
from sourcebook.hub.names import build_changes_key, build_collection_name, check_name
from sourcebook.hub.publishing.model import (
    METADATA_FILE,
    Content,
    PublishedVersion,
    PublishedVersions,
    SnapshotMetadata,
    find_path,
)
from sourcebook.hub.publishing.remotes import Remote
from sourcebook.hub.releases.policy import is_to_be_released
from sourcebook.ports.documents import BATCH_BYTES, CollectionInfo, CollectionPatcher, CollectionWriter
from sourcebook.worker import JobRun
from sourcebook_builder.publishing.address import OpenAddress, fetch_file, open_address
from sourcebook_builder.publishing.snapshot import UnpackBudget, read_documents, read_mapping
from sourcebook_builder.publishing.versions import read_latest, read_metadata, read_versions


class _Job(NamedTuple):
    """What an installation works with."""

    context: Context
    run: JobRun
    command: InstallRelease
    address: OpenAddress
    scratch: Path
    budget: UnpackBudget


class _Installed(NamedTuple):
    """A collection that was made of a release, and what belongs to it."""

    collection: CollectionInfo
    config: str
    doc_type: str
    mapping: Properties
    metadata: dict[str, Any]


async def install_release(context: Context, run: JobRun, command: InstallRelease) -> ReleaseInstalled:
    """Make a published release a build of `command.config`; installing it again changes nothing.

    Raises:
        NotFound: the address has no releases, not this one, or not the base that it needs.
        Conflict: the configuration is built here.
        DamagedRelease: a file is missing or is not what its metadata say; nothing is installed.
        DownloadRefused: the releases are of a kind that is not installed.
        TransientError: the address does not answer, or the disk takes no more; what was fetched is not fetched again.
    """
    await _refuse_built_here(context, command.config)
    remote = await context.state.get(Remote, command.remote)
    if remote is None:
        raise NotFound(f"There is no address {command.remote!r}.", remote=command.remote)
    try:
        async with open_address(remote.url, context.settings) as address:
            budget = UnpackBudget(context.settings.unpack_max_bytes)
            return await _install(_Job(context, run, command, address, context.scratch_folder(run.id), budget))
    except OSError as error:
        raise EngineUnavailable(f"The scratch folder cannot be used: {error.strerror}. Is the disk full?") from error


async def _install(job: _Job) -> ReleaseInstalled:
    versions = await read_versions(job.address)
    if versions is None or not versions.versions:
        raise NotFound(
            f"Nothing is published at {job.address.shown}: there is no versions.json.", url=job.address.shown
        )
    target = await _choose_target(job, versions)
    await _drop_unfinished(job)
    here = await _builds_here(job.context, job.command.config)
    known = here.get(target.content)
    if known is not None:
        return await _answer(job, known, steps=0)
    path = _find_path(job, versions, target, here)
    build = await _install_path(job, path, here)
    return await _answer(job, build, steps=len(path))


async def _refuse_built_here(context: Context, config: str) -> None:
    if await context.state.get(BuildConfig, config) is not None:
        raise Conflict(
            f"{config!r} is built here: there is a build configuration of this name. Install under another name (--name).",
            config=config,
        )


async def _choose_target(job: _Job, versions: PublishedVersions) -> PublishedVersion:
    """Return the release that is asked for, by build or version; by default the one that `latest.json` names."""
    wanted = job.command.version
    if wanted is None:
        latest = await read_latest(job.address)
        if latest is None:
            raise NotFound(f"{job.address.shown} has no latest.json yet: nothing is complete there.")
        wanted = latest.build
    found = [item for item in versions.versions if wanted in (item.build, item.build_version)]
    if not found:
        known = ", ".join(dict.fromkeys(item.build_version for item in versions.versions))
        raise NotFound(f"{job.address.shown} has no release {wanted!r}; it has {known}.", version=wanted)
    return found[-1]


async def _drop_unfinished(job: _Job) -> None:
    """Remove what an installation that died left. We hold the lock of this name."""
    config = job.command.config
    used = {build.collection for build in await job.context.state.find(Build, {"config": config})}
    for name in await job.context.documents.names():
        if name.startswith(build_collection_name("build", config, "")) and name not in used:
            await job.context.documents.drop(name)


async def _builds_here(context: Context, config: str) -> dict[Content, Build]:
    found = {}
    for build in await context.state.find(Build, {"config": config}):
        if build.archived_at is None and await context.documents.info(build.collection):
            found[Content(build.count, build.digest)] = build
    return found


def _find_path(
    job: _Job, versions: PublishedVersions, target: PublishedVersion, here: dict[Content, Build]
) -> list[PublishedVersion]:
    path = find_path(versions.versions, target.content, here)
    if path is None:
        bases = {item.base.build for item in versions.versions if item.base and item.content == target.content}
        raise NotFound(
            f"{target.build!r} is published as changes to {', '.join(sorted(bases))}, which is neither installed here nor "
            f"published in full at {job.address.shown}. Ask whoever published it for a full release.",
            version=target.build,
            bases=sorted(bases),
        )
    return path


# One release after the other


async def _install_path(job: _Job, path: list[PublishedVersion], here: dict[Content, Build]) -> Build:
    base = next((here[Content(s.base.count, s.base.digest)] for s in path[:1] if s.base is not None), None)
    collection = base.collection if base else None
    made = None
    for number, version in enumerate(path, start=1):
        name = build_collection_name("build", job.command.config, f"{job.run.id}.{number}")
        folder = job.scratch / str(number)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        before = collection if made is not None else None
        if version.type == "full":
            made = await _install_snapshot(job, version, folder, name)
        else:
            made = await _install_changes(job, version, folder, name=name, base=collection or "")
        collection = made.collection.name
        if before is not None:  # it was only a step on the way
            await job.context.documents.drop(before)
    assert made is not None  # noqa: S101 - a path that is not empty was walked
    build = await _record(job, path[-1], made)
    if base is not None and len(path) == 1:
        await _keep_changes(job, base, build)
    return build


async def _fetch(job: _Job, version: PublishedVersion, folder: Path, files: list[tuple[str, int, str]]) -> None:
    """Fetch the files (name, size, sha256) of a release side by side with how far it is."""
    total, done = sum(size for _, size, _ in files), 0

    async def count(size: int) -> None:
        nonlocal done
        done += size
        await job.run.progress(f"fetch {version.build_version}", done, total, "bytes")

    if total > job.context.settings.unpack_max_bytes:
        raise DamagedRelease(
            f"{version.url} has files of {total} bytes; SOURCEBOOK_UNPACK_MAX_BYTES allows "
            f"{job.context.settings.unpack_max_bytes}.",
            url=version.url,
        )
    for name, size, sha256 in files:
        try:
            await fetch_file(
                job.address, f"{version.folder}/{name}", folder / name, size=size, sha256=sha256, count=count
            )
        except NotFound as error:
            raise DamagedRelease(
                f"{job.address.shown}/{version.folder}/{name} is missing, although its release lists it. Ask whoever published "
                "it to publish it again.",
                file=name,
            ) from error


async def _install_snapshot(job: _Job, version: PublishedVersion, folder: Path, name: str) -> _Installed:
    metadata, _ = await read_metadata(job.address, version, SnapshotMetadata)
    files = [*metadata.files, metadata.mapping]
    await _fetch(job, version, folder, [(file.name, file.size, file.sha256) for file in files])
    done = 0
    async with job.context.documents.create(name) as writer:
        for file in metadata.files:
            await _write_documents(job, folder / file.name, writer)
            done += file.documents
            await job.run.progress("install", done, metadata.count, "documents")
        info = await writer.commit()
    await _check_content(job, info, version)
    mapping = await asyncio.to_thread(read_mapping, folder / metadata.mapping.name)
    return _Installed(info, metadata.config, metadata.doc_type, mapping, metadata.metadata)


async def _write_documents(job: _Job, path: Path, writer: CollectionWriter) -> None:
    batches = read_documents(path, job.budget, size=job.context.settings.batch_documents)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        try:
            await writer.write(batch)
        except ValueError as error:
            raise DamagedRelease(f"{path.name}: its documents are not in the order of their ids: {error}.") from error


async def _install_changes(job: _Job, version: PublishedVersion, folder: Path, *, name: str, base: str) -> _Installed:
    metadata, data = await read_metadata(job.address, version, ChangesMetadata)
    if metadata.ignore_list_order:
        raise DamagedRelease(f"{version.url} leaves changes out: it is to be read, not installed.", url=version.url)
    await _fetch(job, version, folder, [(file.name, file.size, file.sha256) for file in metadata.files])
    for file in metadata.files:
        await asyncio.to_thread(job.budget.check_file, folder / file.name)
    await asyncio.to_thread((folder / METADATA_FILE).write_bytes, data)
    batches = read_change_batches(folder, metadata, size=job.context.settings.batch_documents)
    done = 0
    async with job.context.documents.derive(name, base) as patcher:
        while batch := await asyncio.to_thread(next, batches, None):
            await _patch(job.context, patcher, base, batch)
            done += len(batch)
            await job.run.progress("install changes", done, metadata.counts.total, "documents")
        info = await patcher.commit()
    await _check_content(job, info, version)
    return _Installed(info, metadata.config, metadata.doc_type, metadata.new_mapping, metadata.new_metadata)


async def _patch(context: Context, patcher: CollectionPatcher, base: str, batch: list[Change]) -> None:
    for change in batch:
        if len(change.id.encode()) > MAX_ID_BYTES:
            raise DamagedRelease(f"The change of {change.id[:100]!r} has an _id of more than {MAX_ID_BYTES} bytes.")
    whole = [change for change in batch if change.patch is None]
    await _put(patcher, whole, [None] * len(whole))
    patched = [change for change in batch if change.patch is not None]
    while patched:
        old = await context.documents.get_many(base, [change.id for change in patched], max_bytes=BATCH_BYTES)
        await _put(patcher, patched[: len(old)], old)
        patched = patched[len(old) :]
    await patcher.delete([record_key(change.id) for change in batch if change.op is ChangeKind.DELETE])


async def _put(patcher: CollectionPatcher, changes: list[Change], old: list[bytes | None]) -> None:
    records = await asyncio.to_thread(lambda: list(map(apply_change, changes, old)))
    await patcher.put([record for record in records if record is not None])


async def _check_content(job: _Job, info: CollectionInfo, version: PublishedVersion) -> None:
    if Content(info.count, info.digest) == version.content:
        return
    await job.context.documents.drop(info.name)
    raise DamagedRelease(
        f"What {job.address.shown}/{version.url} leads to is not what it promises: {info.count} documents with digest "
        f"{info.digest} instead of {version.count} with {version.digest}. Nothing is installed.",
        url=version.url,
        expected=version.digest,
        found=info.digest,
    )


# The build that came of it


async def _record(job: _Job, version: PublishedVersion, made: _Installed) -> Build:
    config = job.command.config
    build = Build(
        name=await _choose_name(job, version, made),
        config=config,
        doc_type=made.doc_type,
        collection=made.collection.name,
        count=made.collection.count,
        digest=made.collection.digest,
        uploads=[],
        mapping=made.mapping,
        metadata=made.metadata,
        installed_from=job.address.shown,
        finished_at=time.time(),
    )
    await job.context.state.put(build.name, build)
    return build


async def _choose_name(job: _Job, version: PublishedVersion, made: _Installed) -> str:
    """Return the published name, with the name that it is installed under in front; made unique among other builds."""
    suffix = version.build.removeprefix(f"{made.config}_")
    try:
        base = check_name("build", f"{job.command.config}_{suffix}")
    except InvalidName as error:
        raise DamagedRelease(f"{job.address.shown}: {error.message}", url=job.address.shown) from error
    name, copy = base, 2
    while (known := await job.context.state.get(Build, name)) is not None and known.archived_at is None:
        name, copy = f"{base}_{copy}", copy + 1
    return name


async def _keep_changes(job: _Job, base: Build, made: Build) -> None:
    """Keep the fetched changes as those between two builds of this machine, so that nobody compares these again."""
    key = build_changes_key(made.name, base.name)
    if await job.context.files.exists(key):
        return
    folder = job.scratch / "1"
    metadata = read_metadata_file(folder)
    own = {
        "config": made.config,
        "old": metadata.old.model_copy(update={"build": base.name, "collection": base.collection}),
        "new": metadata.new.model_copy(update={"build": made.name, "collection": made.collection}),
    }
    await job.context.files.discard(key)  # of a try that died
    staging = await job.context.files.staging(key)
    await asyncio.to_thread(_copy_changes, folder, staging, metadata.model_copy(update=own))
    await job.context.files.publish(key)


def _copy_changes(folder: Path, target: Path, metadata: ChangesMetadata) -> None:
    for file in metadata.files:
        shutil.copyfile(folder / file.name, target / file.name)
    write_metadata(target, metadata)


async def _answer(job: _Job, build: Build, *, steps: int) -> ReleaseInstalled:
    return ReleaseInstalled(
        config=build.config,
        build=build.name,
        api=job.command.api,
        count=build.count,
        steps=steps,
        unchanged=steps == 0,
        release=await is_to_be_released(job.context, job.command.api, build.name),
    )
