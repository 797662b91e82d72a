"""Document stores: collections that are written once, in key order, and never change afterwards."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pydantic import BaseModel

from sourcebook.hub.documents.record import Record

BATCH_BYTES = 8 * 1024 * 1024
"""Of documents that move together through a stage: what moves is bounded by documents and by bytes. A larger one moves alone."""


class CollectionInfo(BaseModel):
    """What a store says of a complete collection; `digest` is that of `model.document.Digest`, `size` is in bytes."""

    name: str
    count: int
    digest: str
    size: int


class CollectionWriter(Protocol):
    """Fills a new collection. Nothing is visible before `commit`."""

    async def write(self, records: Sequence[Record]) -> None:
        """Append records; keys strictly ascend, within a call and from call to call.

        Raises:
            ValueError: a key does not ascend.
        """
        ...

    async def commit(self) -> CollectionInfo:
        """Make the collection durable and visible, in one step. If the name exists already, that one stays."""
        ...


class CollectionPatcher(Protocol):
    """Fills a new collection that began as a copy of another. Nothing is visible before `commit`."""

    async def put(self, records: Sequence[Record]) -> None:
        """Add records, or replace those that are there; in any order."""
        ...

    async def delete(self, keys: Sequence[bytes]) -> None:
        """Remove the records of these keys; nothing happens for a key that is not there."""
        ...

    async def commit(self) -> CollectionInfo:
        """Make the collection durable and visible, in one step. If the name exists already, that one stays."""
        ...


class DocumentStore(Protocol):
    """Collections of documents, each immutable once committed."""

    def create(self, name: str) -> AbstractAsyncContextManager[CollectionWriter]:
        """Open a writer for a new collection; leaving the context without `commit` leaves nothing behind."""
        ...

    def derive(self, name: str, base: str) -> AbstractAsyncContextManager[CollectionPatcher]:
        """Open a patcher for a new collection that begins as `base` is, which stays as it is.

        The cost follows what is put and deleted, as far as the engine can do so. Leaving the context without `commit` leaves
        nothing behind; `base` may be dropped meanwhile and afterwards.

        Raises:
            NotFound: there is no collection `base`.
        """
        ...

    async def join(self, name: str, pieces: Sequence[str]) -> CollectionInfo:
        """Make a collection of complete ones, which stay; the keys of each follow those of the one before.

        It is visible in one step. If the name exists already, that one stays.

        Raises:
            NotFound: one of them is not there.
            ValueError: a key does not ascend.
        """
        ...

    async def sample_keys(self, name: str, step: int) -> list[bytes]:
        """Return about every `step`-th key of a collection, in key order; no documents are read.

        Raises:
            NotFound: there is no such collection.
        """
        ...

    async def info(self, name: str) -> CollectionInfo | None:
        """Return count and digest of a collection, or None if there is no complete collection of that name."""
        ...

    async def check(self, name: str) -> None:
        """Make sure that a collection is what was written, before it is read whole.

        An engine whose `scan` checks each record, as `get_many` always does, has nothing to do here.

        Raises:
            NotFound: there is no such collection.
            StoreDamaged: it is not.
        """
        ...

    async def verify(self, name: str) -> list[str]:
        """Read everything of a collection; return what is damaged, in words, or nothing.

        Raises:
            NotFound: there is no such collection.
        """
        ...

    def scan(
        self,
        name: str,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        size: int = 5000,
        max_bytes: int = BATCH_BYTES,
    ) -> AsyncIterator[list[Record]]:
        """Yield the records with start <= key < stop in key order, in lists of at most `size` records and `max_bytes`.

        A record that is larger alone comes alone.

        Raises:
            NotFound: there is no such collection.
            StoreDamaged: its files cannot be read.
        """
        ...

    async def get_many(self, name: str, ids: Sequence[str], *, max_bytes: int | None = None) -> list[bytes | None]:
        """Return the canonical JSON of each id, in the order asked for, None where there is none.

        With `max_bytes` the answer may end early, after at least one id, so that the documents together are about that large:
        ask again for the others.

        Raises:
            NotFound: there is no such collection.
            StoreDamaged: a document is not what its hash says.
        """
        ...

    async def names(self) -> list[str]:
        """Return the names of all complete collections, sorted."""
        ...

    async def drop(self, name: str) -> None:
        """Remove a collection; nothing happens if it is not there. Readers that have it open finish undisturbed."""
        ...

    async def close(self) -> None:
        """Give back what is open."""
        ...


async def get_within(
    documents: DocumentStore, name: str, ids: Sequence[str], max_bytes: int | None
) -> list[bytes | None]:
    """Return the canonical JSON of as many of the first ids as have `max_bytes` together, and of the first in any case.

    Raises:
        NotFound: there is no such collection.
        StoreDamaged: a document is not what its hash says.
    """
    bodies = await documents.get_many(name, ids, max_bytes=max_bytes)
    if max_bytes is None or len(bodies) == len(ids):
        return bodies
    left = max_bytes - _size(bodies)
    while left > 0 and len(bodies) < len(ids):  # the store may have ended earlier than it had to
        more = await documents.get_many(name, ids[len(bodies) :], max_bytes=left)
        bodies += more
        left -= _size(more)
    while left < 0 and len(bodies) > 1:
        left += _size(bodies[-1:])
        bodies.pop()
    return bodies


def _size(bodies: Sequence[bytes | None]) -> int:
    return sum([len(body) for body in bodies if body is not None])


async def get_from_each(
    documents: DocumentStore, names: Sequence[str], ids: Sequence[str], *, max_bytes: int = BATCH_BYTES
) -> list[list[bytes | None]]:
    """Return what each of several collections has of as many of the first ids as fit into `max_bytes` together.

    Raises:
        NotFound: one of the collections is not there.
    """
    found, count = [], len(ids)
    for name in names:
        bodies = await documents.get_many(name, ids[:count], max_bytes=max(1, max_bytes // len(names)))
        count = len(bodies)
        found.append(bodies)
    return [bodies[:count] for bodies in found]
