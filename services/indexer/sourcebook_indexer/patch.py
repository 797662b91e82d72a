"""Release a build by its changes: the index is made from the one that is served, beside it, verified, and then switched to."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.errors import CannotDerive, IndexDamaged, VerificationFailed
from sourcebook.flow.messages import ApplyChanges, IndexReady
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.commands import ensure_changes
from sourcebook.hub.changes.folder import ChangedId, ChangesFolder, read_changed_ids
from sourcebook.hub.changes.model import ChangeKind
from sourcebook.hub.documents.record import Record, content_hash, record_key
from sourcebook.hub.releases.model import Release
from sourcebook.hub.releases.policy import ReleaseChoice, choose_release_mode, find_base
from sourcebook.ports.documents import BATCH_BYTES
from sourcebook.worker import JobRun
from sourcebook_indexer.index import describe_release, find_build, release_in_full, verify_and_switch
from sourcebook_indexer.rollover import build_index_name
from sourcebook_indexer.touched import find_documents_with
from sourcebook_indexer.verify import KEPT, look_up

_SAMPLES = 10  # of each kind of change


async def apply_changes(context: Context, run: JobRun, command: ApplyChanges) -> IndexReady:
    """Derive the index of a build from that of the release that an API serves; when it is verified, the API serves it.

    With the mode "auto" the build is indexed whole where changes alone would cost more, or do not lead there.

    Raises:
        NotFound: there is no such build.
        CannotDerive: "incremental" was asked for and is not possible.
        IndexDamaged: the same, because the index that is served is not what was written.
        VerificationFailed: the index is not that of the build, though it was asked for or made whole; it is discarded, and the
            API keeps its release.
    """
    build = await find_build(context, command.build)
    index = build_index_name(command.api, build.name, run.id)
    served = await find_base(context, command.api)
    if served is not None and served.index == index:  # this job ran before and died after its switch
        return describe_release(served, command.api)
    choice, folder = await _choose(context, run, command, build)
    if choice.kind == "full" or choice.base is None or folder is None:
        return await release_in_full(context, run, command.api, build, choice)
    try:
        if await context.search.count(index) is None:  # else this job ran before and died after the commit
            await _derive_index(context, run, build, index, base=choice.base, folder=folder)
        await _verify_changes(context, index, folder)
        return await verify_and_switch(context, run, command.api, index, build, choice=choice)
    except (CannotDerive, IndexDamaged, VerificationFailed) as error:
        await context.search.drop(index)
        if command.mode == "incremental":
            raise
        problem = error.message.removesuffix(KEPT).rstrip()
        run.warn(f"{problem} The build is indexed whole instead.")
        return await release_in_full(context, run, command.api, build, ReleaseChoice("full", problem, choice.base))


async def _choose(
    context: Context, run: JobRun, command: ApplyChanges, build: Build
) -> tuple[ReleaseChoice, ChangesFolder | None]:
    """Decide again: the API may have moved since the job was started, and now the changes are looked at."""
    choice = await choose_release_mode(context, build, command.api, command.mode)
    if choice.kind == "full" or choice.base is None:
        return choice, None
    served = await find_build(context, choice.base.build)
    folder = await ensure_changes(context, served, build, progress=run.progress)
    return await choose_release_mode(context, build, command.api, command.mode, folder.metadata), folder


async def _derive_index(
    context: Context, run: JobRun, build: Build, index: str, *, base: Release, folder: ChangesFolder
) -> None:
    mapping = folder.metadata.mapping
    paths = [*mapping.added, *mapping.removed]
    changed = await asyncio.to_thread(_read_keys, folder) if paths else set()
    total = folder.metadata.counts.total
    done = 0
    async with context.search.derive(
        index, base=base.index, collection=build.collection, properties=build.mapping
    ) as patcher:
        async for batch in _read_batches(context, folder):
            async for records in _read_records(context, build, batch.put):
                await patcher.put(records)
            await patcher.delete(batch.delete)
            done += len(batch.put) + len(batch.delete)
            await run.progress("apply", done, total, "documents")
        # Documents that did not change, but whose values were not indexed because the mapping did not have their field.
        async for records in find_documents_with(context, run, build, paths):
            await patcher.put([record for record in records if record[0] not in changed])
        await patcher.commit()


class _Batch(NamedTuple):
    put: list[str]
    delete: list[str]


async def _read_batches(context: Context, folder: ChangesFolder) -> AsyncIterator[_Batch]:
    changes = read_changed_ids(folder.path, folder.metadata)
    while batch := await asyncio.to_thread(_take, changes, context.settings.batch_documents):
        gone = [change.id for change in batch if change.op is ChangeKind.DELETE]
        yield _Batch([change.id for change in batch if change.op is not ChangeKind.DELETE], gone)


def _take(changes: Iterator[ChangedId], size: int) -> list[ChangedId]:
    return list(islice(changes, size))


def _read_keys(folder: ChangesFolder) -> set[bytes]:
    return {record_key(change.id) for change in read_changed_ids(folder.path, folder.metadata)}


async def _read_records(context: Context, build: Build, ids: list[str]) -> AsyncIterator[list[Record]]:
    while ids:
        bodies = await context.documents.get_many(build.collection, ids, max_bytes=BATCH_BYTES)
        records = []
        for document_id, body in zip(ids, bodies, strict=False):
            if body is None:
                raise VerificationFailed(
                    f"The changes name a document {document_id!r} that build {build.name} does not have.",
                    id=document_id,
                )
            records.append((record_key(document_id), content_hash(body) + body))
        yield records
        ids = ids[len(bodies) :]


async def _verify_changes(context: Context, index: str, folder: ChangesFolder) -> None:
    """Look up the first few documents of each kind of change."""
    samples: dict[ChangeKind, list[str]] = {kind: [] for kind in ChangeKind}
    for change in await asyncio.to_thread(_take, read_changed_ids(folder.path, folder.metadata), 1000):
        if len(samples[change.op]) < _SAMPLES:
            samples[change.op].append(change.id)
    for kind, ids in samples.items():
        await look_up(context, index, ids, expected=kind is not ChangeKind.DELETE)
