"""Merges only the documents that changed, and carries the others over from the build before.

The result is that of a full build, to the byte: changed ids are read from every source as it is now and merged by the same
code; ids that no root source has any more are removed. So are the counts of dropped documents: those of the base, less what
was dropped there of the changed ids, plus what is dropped now.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.folder import read_changed_ids, read_id
from sourcebook.hub.changes.model import ChangeKind
from sourcebook.hub.documents.record import Record, content_hash, record_key
from sourcebook.ports.documents import BATCH_BYTES, CollectionInfo, get_from_each
from sourcebook.worker import JobRun
from sourcebook_builder.build.merge import MAX_EXAMPLES, MergeSource, merge_sources
from sourcebook_builder.build.plan import BuildPlan, Chain


class ChangedDocument(NamedTuple):
    """An id that changed in some source; `existed` says of each such source (its place) whether it had the id at first."""

    key: bytes
    id: str
    existed: dict[int, bool]


@dataclass(slots=True)
class DroppedDocuments:
    """What is known of a source's dropped documents: how many, and the first few."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    """Changed ids that are dropped now; the first few, in the order of keys."""


class MergedChanges(NamedTuple):
    """The new collection, and the dropped documents by the name of their source."""

    info: CollectionInfo
    dropped: dict[str, DroppedDocuments]


async def merge_changes(context: Context, run: JobRun, name: str, base: Build, plan: BuildPlan) -> MergedChanges:
    """Make the collection `name` from that of `base` and what changed in the sources since.

    Raises:
        NotFound: the collection of a source, or that of the base, is gone.
        DamagedChanges: a file of changes is damaged.
    """
    dropped = {
        chain.item.name: DroppedDocuments(
            base.dropped.get(chain.item.name, 0), list(base.dropped_examples.get(chain.item.name, []))
        )
        for chain in plan.chains
        if not chain.item.is_root
    }
    limits = {item: _known_until(told) for item, told in dropped.items()}
    total = sum(folder.metadata.counts.total for folder in plan.folders)
    changed, done = iterate_changed(plan.chains), 0
    size = context.settings.batch_documents
    async with context.documents.derive(name, base.collection) as patcher:
        while rest := await asyncio.to_thread(lambda: list(islice(changed, size))):
            while rest:
                block, merged = await _merge_block(context, base, plan.chains, rest, dropped)
                await patcher.put(merged)
                kept = {key for key, _ in merged}
                await patcher.delete([document.key for document in block if document.key not in kept])
                rest = rest[len(block) :]
                done += len(block)
                await run.progress("merge changes", done, total, "documents")
        info = await patcher.commit()
    for chain in plan.chains:
        told = dropped.get(chain.item.name)
        if told is not None:
            await _complete_examples(context, chain, name, told, limits[chain.item.name])
    return MergedChanges(info, {item: told for item, told in dropped.items() if told.count})


def iterate_changed(chains: Sequence[Chain]) -> Iterator[ChangedDocument]:
    """Yield the ids that changed in any source, each once, in the order of keys."""
    streams = []
    for place, chain in enumerate(chains):
        streams += [_read_stream(chain, place, step) for step in range(len(chain.folders))]
    for (key, document_id), group in groupby(heapq.merge(*streams), key=itemgetter(0, 1)):
        existed: dict[int, bool] = {}
        for _, _, place, _, is_new in group:  # the first step that names an id says whether the base had it
            existed.setdefault(place, not is_new)
        yield ChangedDocument(key, document_id, existed)


def _read_stream(chain: Chain, place: int, step: int) -> Iterator[tuple[bytes, str, int, int, bool]]:
    folder = chain.folders[step]
    for change in read_changed_ids(folder.path, folder.metadata):
        yield record_key(change.id), change.id, place, step, change.op is ChangeKind.ADD


async def _merge_block(
    context: Context,
    base: Build,
    chains: Sequence[Chain],
    changed: Sequence[ChangedDocument],
    dropped: dict[str, DroppedDocuments],
) -> tuple[Sequence[ChangedDocument], list[Record]]:
    """Merge as many of the first changed documents as fit into memory; return these, and what became of them."""
    collections = [chain.item.upload.collection for chain in chains]
    ids = [document.id for document in changed]
    *found, before = await get_from_each(context.documents, [*collections, base.collection], ids)
    block, ids = changed[: len(before)], ids[: len(before)]
    sources = [
        MergeSource(
            chain.item.name,
            _once(block, bodies),
            is_root=chain.item.is_root,
            merges_deeply=chain.item.upload.merge,
        )
        for chain, bodies in zip(chains, found, strict=True)
    ]
    merged = [record async for batch in merge_sources(sources) for record in batch]
    if dropped:
        was_absent = [body is None for body in before]
        for place, source in enumerate(sources):
            if source.name in dropped:
                _update_dropped(dropped[source.name], source, _had_before(place, block, found[place]), was_absent, ids)
    return block, merged


async def _once(block: Sequence[ChangedDocument], bodies: Sequence[bytes | None]) -> AsyncIterator[list[Record]]:
    """Yield the documents that a source has, as `DocumentStore.scan` would."""
    records = [
        (document.key, content_hash(body) + body)
        for document, body in zip(block, bodies, strict=True)
        if body is not None
    ]
    if records:
        yield records


def _had_before(place: int, block: Sequence[ChangedDocument], bodies: Sequence[bytes | None]) -> list[bool]:
    """Say of each document whether a source had it when the base was built; one that did not change there, it still has."""
    return [document.existed.get(place, body is not None) for document, body in zip(block, bodies, strict=True)]


def _update_dropped(
    told: DroppedDocuments, source: MergeSource, had: list[bool], was_absent: list[bool], ids: list[str]
) -> None:
    told.count += source.dropped - sum(map(bool.__and__, had, was_absent))
    told.fresh += source.dropped_examples[: MAX_EXAMPLES - len(told.fresh)]
    known = set(told.examples)
    if known:
        told.examples = [item for item in told.examples if item not in known.intersection(ids)]


def _known_until(told: DroppedDocuments) -> bytes | None:
    """Return the key up to which the examples are all that was dropped; None if they are all there were."""
    return record_key(told.examples[-1]) if told.count > len(told.examples) else None


async def _complete_examples(
    context: Context, chain: Chain, name: str, told: DroppedDocuments, limit: bytes | None
) -> None:
    """Choose the first examples; where the base's list ended too early, look further in the source."""
    candidates = sorted({record_key(item): item for item in [*told.examples, *told.fresh]}.items())
    known = [item for key, item in candidates if limit is None or key <= limit][:MAX_EXAMPLES]
    if limit is not None and len(known) < MAX_EXAMPLES:
        async for document_id in _find_dropped(context, chain, name, limit):
            known.append(document_id)
            if len(known) == MAX_EXAMPLES:
                break
    told.examples = known


async def _find_dropped(context: Context, chain: Chain, name: str, after: bytes) -> AsyncIterator[str]:
    """Yield the ids after a key that the source has and the new collection has not."""
    size = context.settings.batch_documents
    async for batch in context.documents.scan(chain.item.upload.collection, start=after + b"\0", size=size):
        ids = [read_id(record) for record in batch]
        while ids:
            bodies = await context.documents.get_many(name, ids, max_bytes=BATCH_BYTES)
            for document_id, body in zip(ids, bodies, strict=False):
                if body is None:
                    yield document_id
            ids = ids[len(bodies) :]
