"""Merges all documents of a build: in one go, or in ranges of ids that several workers merge at once. The result is the same.

Each range becomes a collection, which the document store joins to one; what was dropped is added up in the order of the ranges.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.errors import NotFound, StoreDamaged
from sourcebook.flow.messages import MergeRange, RangeMerged
from sourcebook.hub.documents.record import Record
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.names import build_part_collection_name
from sourcebook.hub.sources.model import Upload
from sourcebook.parts import run_parts
from sourcebook.ports.documents import BATCH_BYTES, CollectionInfo
from sourcebook.worker import JobRun
from sourcebook_builder.build.incremental import DroppedDocuments
from sourcebook_builder.build.merge import MAX_EXAMPLES, MergeSource, merge_sources
from sourcebook_builder.build.plan import describe_inputs
from sourcebook_builder.build.select import ChosenUpload

_SAMPLES = 32  # keys that are looked at for each range: ranges differ by a few percent
_MERGE_BYTES = 4 * BATCH_BYTES  # what the blocks of all sources have together
_KEY_TEXT = "latin-1"  # one character for each byte


class MergedDocuments(NamedTuple):
    """The collection, and the dropped documents by the name of their source."""

    info: CollectionInfo
    dropped: dict[str, DroppedDocuments]


async def merge_documents(context: Context, run: JobRun, name: str, chosen: list[ChosenUpload]) -> MergedDocuments:
    """Merge all documents of the uploads into the collection `name`.

    Raises:
        NotFound: the collection of a source is gone.
        StoreDamaged: the documents of a source are not what was written.
    """
    await check_uploads(context, chosen)
    boundaries = await _choose_boundaries(context, chosen)
    if not boundaries:
        return await _merge(context, run, name, chosen)
    inputs = tuple(describe_inputs(chosen))
    commands = [
        MergeRange(job=run.id, number=number, config=run.target, inputs=inputs, start=start, stop=stop)
        for number, (start, stop) in enumerate(zip([None, *boundaries], [*boundaries, None], strict=True), start=1)
    ]
    parts = await run_parts(context, run, commands, step="merge", total=_count(chosen))
    info = await context.documents.join(name, [build_part_collection_name(part.id) for part in parts])
    return MergedDocuments(info, _sum_dropped(chosen, parts))


async def check_uploads(context: Context, chosen: list[ChosenUpload]) -> None:
    """Make sure that the uploads are what was written.

    Raises:
        NotFound: the collection of a source is gone.
        StoreDamaged: its documents are not what was written.
    """
    for item in chosen:
        try:
            await context.documents.check(item.upload.collection)
        except StoreDamaged as error:
            raise StoreDamaged(
                f"The documents of {item.name} are damaged: {error.details.get('problem')}. Upload them again: "
                f"sourcebook upload {item.name}",
                **{**error.details, "upload": item.name},
            ) from error


async def merge_range(context: Context, run: JobRun, command: MergeRange) -> RangeMerged:
    """Merge the documents of one range of ids, as a part of a build.

    Raises:
        NotFound: an upload or its collection is gone.
    """
    chosen = []
    for item in command.inputs:
        upload = await context.state.get(Upload, item.upload)
        if upload is None:
            raise NotFound(f"There is no upload {item.upload!r} any more.", collection=item.name)
        chosen.append(ChosenUpload(upload, item.is_root))
    name = build_part_collection_name(run.id)
    merged = await _merge(context, run, name, chosen, start=_to_key(command.start), stop=_to_key(command.stop))
    return RangeMerged(
        count=merged.info.count,
        dropped={name: told.count for name, told in merged.dropped.items()},
        dropped_examples={name: told.examples for name, told in merged.dropped.items()},
    )


async def _choose_boundaries(context: Context, chosen: list[ChosenUpload]) -> list[str]:
    """Return the keys at which ranges of about equal numbers of documents begin, the first one left out."""
    total = _count(chosen)
    parts = min(context.settings.parts, total // context.settings.part_documents)
    if parts <= 1:
        return []
    step = max(1, total // (parts * _SAMPLES))
    keys = sorted([key for item in chosen for key in await context.documents.sample_keys(item.upload.collection, step)])
    found = {keys[len(keys) * number // parts] for number in range(1, parts)} if keys else set()
    return [key.decode(_KEY_TEXT) for key in sorted(found)]


def _to_key(text: str | None) -> bytes | None:
    return None if text is None else text.encode(_KEY_TEXT)


def _count(chosen: list[ChosenUpload]) -> int:
    return sum(item.upload.count for item in chosen)


async def _merge(
    context: Context,
    run: JobRun,
    name: str,
    chosen: list[ChosenUpload],
    *,
    start: bytes | None = None,
    stop: bytes | None = None,
) -> MergedDocuments:
    max_bytes = min(BATCH_BYTES, _MERGE_BYTES // len(chosen))
    sources = [_open_source(context, item, start, stop, max_bytes=max_bytes) for item in chosen]
    total = _count(chosen) if start is stop is None else None
    async with context.documents.create(name) as writer:
        async for batch in _reported(run, sources, total):
            await writer.write(batch)
        info = await writer.commit()
    dropped = {
        source.name: DroppedDocuments(source.dropped, source.dropped_examples) for source in sources if source.dropped
    }
    return MergedDocuments(info, dropped)


def _open_source(
    context: Context, item: ChosenUpload, start: bytes | None, stop: bytes | None, *, max_bytes: int
) -> MergeSource:
    size = context.settings.batch_documents
    batches = context.documents.scan(item.upload.collection, start=start, stop=stop, size=size, max_bytes=max_bytes)
    return MergeSource(item.name, batches, is_root=item.is_root, merges_deeply=item.upload.merge)


async def _reported(run: JobRun, sources: list[MergeSource], total: int | None) -> AsyncIterator[list[Record]]:
    async for batch in merge_sources(sources):
        yield batch
        await run.progress("merge", sum(source.read for source in sources), total, "documents")
    read = sum(source.read for source in sources)
    # The end is always written, and the build adds up those of its parts.
    await run.progress("merge", read, read, "documents")


def _sum_dropped(chosen: list[ChosenUpload], parts: Sequence[Job]) -> dict[str, DroppedDocuments]:
    results = [RangeMerged.model_validate(part.result) for part in parts]
    dropped = {}
    for item in chosen:
        count = sum(result.dropped.get(item.name, 0) for result in results)
        examples = [example for result in results for example in result.dropped_examples.get(item.name, [])]
        if count:
            dropped[item.name] = DroppedDocuments(count, examples[:MAX_EXAMPLES])
    return dropped
