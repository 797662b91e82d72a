"""Compares two collections in one pass over both, and reads the documents that differ; equal ones are never decoded."""

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

from sourcebook.hub.changes.folder import ChangesFolder, read_changed_ids
from sourcebook.hub.documents.record import Record, content_hash, record_key
from sourcebook.ports.documents import DocumentStore, get_from_each

_key = itemgetter(0)


class Difference(NamedTuple):
    """A document that differs: the old and the new record; None where there is none. One of them is always there."""

    old: Record | None
    new: Record | None


class Compared(NamedTuple):
    """What one step of a comparison found, in the order of keys, and how many records it read."""

    differences: list[Difference]
    read: int


async def compare_collections(documents: DocumentStore, old: str, new: str, *, size: int) -> AsyncIterator[Compared]:
    """Read both collections side by side and yield what differs; memory of one batch a collection.

    Raises:
        NotFound: one of the collections is not there.
    """
    sides = (_Side(documents.scan(old, size=size)), _Side(documents.scan(new, size=size)))
    while True:
        for side in sides:
            await side.fill()
        last_keys = [side.block[-1][0] for side in sides if side.block]
        if not last_keys:
            return
        # Up to the smaller of the blocks' last keys both collections are known completely.
        before, after = (side.take_until(min(last_keys)) for side in sides)
        # Comparing a block takes less than handing it to a thread.
        yield Compared(compare_blocks(before, after), len(before) + len(after))


async def compare_candidates(
    documents: DocumentStore, old: str, new: str, *, folders: Sequence[ChangesFolder], size: int
) -> AsyncIterator[Compared]:
    """Compare only the documents that the changes folders name: all others are known to be equal.

    Raises:
        NotFound: one of the collections is not there.
        DamagedChanges: a file of a folder is missing or damaged.
    """
    ids = iterate_changed_ids(folders)
    while batch := await asyncio.to_thread(lambda: list(islice(ids, size))):
        while batch:
            found = await get_from_each(documents, (old, new), batch)
            count = len(found[0])
            before, after = [_make_records(batch[:count], bodies) for bodies in found]
            yield Compared(compare_blocks(before, after), count)
            batch = batch[count:]


def iterate_changed_ids(folders: Sequence[ChangesFolder]) -> Iterator[str]:
    """Yield the ids that any of the folders names, each once, in the order of keys."""
    streams = [
        ((record_key(change.id), change.id) for change in read_changed_ids(folder.path, folder.metadata))
        for folder in folders
    ]
    for (_, document_id), _ in groupby(heapq.merge(*streams)):
        yield document_id


def _make_records(ids: Sequence[str], bodies: Sequence[bytes | None]) -> list[Record]:
    return [
        (record_key(document_id), content_hash(body) + body)
        for document_id, body in zip(ids, bodies, strict=True)
        if body is not None
    ]


class _Side:
    """One of the two sorted streams of records."""

    def __init__(self, batches: AsyncIterator[list[Record]]) -> None:
        self.block: list[Record] = []
        self._batches = batches

    async def fill(self) -> None:
        """Read the next block if there is none; there is none afterwards at the end only."""
        if not self.block:
            self.block = await anext(self._batches, [])

    def take_until(self, key: bytes) -> list[Record]:
        """Remove and return the records with keys up to and including `key`."""
        cut = bisect_right(self.block, key, key=_key)
        taken, self.block = self.block[:cut], self.block[cut:]
        return taken


def compare_blocks(old: Sequence[Record], new: Sequence[Record]) -> list[Difference]:
    """Return what differs between two sorted lists of records of the same range of keys, in the order of keys."""
    differences: list[Difference] = []
    olds = iter(old)
    before = next(olds, None)
    for record in new:
        # A value begins with its hash: where two values differ, the comparison ends there.
        if before == record:
            before = next(olds, None)
            continue
        key = record[0]
        while before is not None and before[0] < key:
            differences.append(Difference(before, None))
            before = next(olds, None)
        if before is None or before[0] != key:
            differences.append(Difference(None, record))
            continue
        if before[1] != record[1]:
            differences.append(Difference(before, record))
        before = next(olds, None)
    if before is not None:
        differences += [Difference(gone, None) for gone in (before, *olds)]
    return differences
