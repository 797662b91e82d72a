"""Fills new MongoDB collections: in bounded batches, each of which may be sent again, visible by one write at the end."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from bson.binary import Binary
from pymongo import DeleteMany, ReplaceOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from sourcebook.backends.mongo.server import MongoServer
from sourcebook.errors import DocumentError, EngineUnavailable
from sourcebook.hub.documents.record import HASH_BYTES, Digest, Record
from sourcebook.ports.documents import CollectionInfo

IDS_PER_REQUEST = 100  # of a `$in`: servers look for these one by one, some of them slowly
_BATCH_BYTES = 8 * 1024 * 1024
_DUPLICATE = 11000
_SAMPLE_STEP = 64
_MAX_SAMPLES = 4096
SAMPLES = "documents.samples"
"""By physical collection: `ids`, one of `step` documents each."""
# MongoDB's limit for a document, less what `_id`, hash and names take. Its drivers leave it to the server, whose answers differ.
_MAX_BYTES = 16 * 1024 * 1024 - 2048

Stored = dict[str, Any]


def stored_id(key: bytes) -> str:
    """Return the `_id` of a key: one character for each byte, so that MongoDB's order of strings is the order of keys.

    Text that is not ASCII looks odd in a MongoDB shell; in return every key has an `_id`, and binary ones would sort by length.
    """
    return key.decode("latin-1")


def stored_key(document_id: str) -> bytes:
    """Return the key of an `_id`."""
    return document_id.encode("latin-1")


def to_stored(record: Record) -> Stored:
    """Return what MongoDB stores of a record: hash and canonical JSON as the bytes they are."""
    key, value = record
    return {"_id": stored_id(key), "hash": Binary(value[:HASH_BYTES]), "json": Binary(value[HASH_BYTES:])}


def from_stored(stored: Stored) -> Record:
    """Return the record that MongoDB has stored."""
    return stored_key(stored["_id"]), stored["hash"] + stored["json"]


def chunks(items: Sequence[Any], size: int = IDS_PER_REQUEST) -> Iterator[Sequence[Any]]:
    """Yield the items in slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class KeySample:
    """Evenly spaced `_id`s of a collection, noted while it is written: to ask the server for them walks its index each time."""

    def __init__(self) -> None:
        self.step = _SAMPLE_STEP
        self.ids: list[str] = []
        self._count = 0

    def add(self, keys: Sequence[bytes]) -> None:
        """Note some of the keys that come next."""
        first = -self._count % self.step
        self.ids += [stored_id(key) for key in keys[first :: self.step]]
        self._count += len(keys)
        while len(self.ids) > _MAX_SAMPLES:
            self.ids, self.step = self.ids[::2], self.step * 2


class _NewCollection:
    """What writer and patcher share: where they write, what is in it, and how it becomes visible."""

    def __init__(self, server: MongoServer, name: str, physical: str) -> None:
        self.server = server
        self.collection = server.database[physical]
        self.digest = Digest()
        self.bytes = 0
        self.is_committed = False
        self._name = name
        self._physical = physical

    async def commit(self) -> CollectionInfo:
        found = await self.server.run(lambda: self.collection.count_documents({}))
        if found != self.digest.count:
            raise EngineUnavailable(
                f"Collection {self._name!r} has {found} of {self.digest.count} documents: the server lost some of them, or this "
                "process slept for so long that others took it for dead. The job has to begin again.",
                collection=self._name,
            )
        info = CollectionInfo(name=self._name, count=found, digest=self.digest.hex(), size=self.bytes)
        row = await insert_row(self.server, info, collection=self._physical)
        # If the same job ran twice and the first run committed, its collection stays.
        self.is_committed = row.get("collection") == self._physical
        return read_info(row)


class Segment(NamedTuple):
    """A physical collection, and from which `_id` on it has the documents."""

    collection: str
    first: str


def segments_of(row: Stored) -> list[Segment]:
    """Return the physical collections of a row of `documents.collections`, in key order."""
    if "segments" in row:
        return [Segment(**segment) for segment in row["segments"]]
    return [Segment(row["collection"], "")]


async def insert_row(server: MongoServer, info: CollectionInfo, **where: Any) -> Stored:
    """Make a collection visible; return its row, or that of another which has the name already."""
    infos = server.database["documents.collections"]
    row = {"_id": info.name, **where, **info.model_dump(exclude={"name"})}
    try:
        await server.run(lambda: infos.insert_one(dict(row)))
    except DuplicateKeyError:
        return await server.run(lambda: infos.find_one({"_id": info.name})) or row
    return row


def read_info(row: Stored) -> CollectionInfo:
    """Return what a row of `documents.collections` says."""
    return CollectionInfo(name=row["_id"], count=row["count"], digest=row["digest"], size=row["size"])


class MongoWriter(_NewCollection):
    """Fills one new collection from nothing."""

    _last = b""

    def __init__(self, server: MongoServer, name: str, physical: str) -> None:
        super().__init__(server, name, physical)
        self._sample = KeySample()

    async def commit(self) -> CollectionInfo:
        row = {"_id": self._physical, "step": self._sample.step, "ids": self._sample.ids}
        samples = self.server.database[SAMPLES]
        await self.server.run(lambda: samples.replace_one({"_id": self._physical}, row, upsert=True))
        return await super().commit()

    async def write(self, records: Sequence[Record]) -> None:
        if not records:
            return
        if records[0][0] <= self._last and self.digest.count:
            raise ValueError(f"key {records[0][0]!r} does not follow {self._last!r}")
        if any(first[0] >= second[0] for first, second in pairwise(records)):
            raise ValueError("keys of a collection must strictly ascend")
        for batch in _batches(records):
            await self._insert(batch)
        self._last = records[-1][0]
        self._sample.add([key for key, _ in records])
        self.digest.add([value for _, value in records])
        self.bytes += sum(len(key) + len(value) for key, value in records)

    async def _insert(self, batch: list[Stored]) -> None:
        is_first_try = True

        async def insert() -> None:
            nonlocal is_first_try
            ordered, is_first_try = is_first_try, False
            try:
                await self.collection.insert_many(batch, ordered=ordered)
            except BulkWriteError as error:
                problems = error.details["writeErrors"]
                # Nobody else writes here: what is there already was written by a try whose answer was lost.
                if ordered or any(item["code"] != _DUPLICATE for item in problems):
                    raise EngineUnavailable(f"MongoDB refused a document: {_first_problem(error)}.") from error

        await self.server.run(insert)


class MongoPatcher(_NewCollection):
    """Changes a copy of another collection before it is visible."""

    def begin(self, base: CollectionInfo) -> None:
        """Take over what is known of the collection that was copied."""
        self.digest = Digest(base.count, base.digest)
        self.bytes = base.size

    async def put(self, records: Sequence[Record]) -> None:
        unique = dict(records)
        await self._forget(list(unique))
        for batch in _batches(list(unique.items())):
            requests = [ReplaceOne({"_id": item["_id"]}, item, upsert=True) for item in batch]
            await self._send(requests)
        self.digest.add(unique.values())
        self.bytes += sum(len(key) + len(value) for key, value in unique.items())

    async def delete(self, keys: Sequence[bytes]) -> None:
        unique = list(dict.fromkeys(keys))
        await self._forget(unique)
        for chunk in chunks(unique):
            await self._send([DeleteMany({"_id": {"$in": [stored_id(key) for key in chunk]}})])

    async def _send(self, requests: list[Any]) -> None:
        # Replacing and deleting by `_id` may be repeated.
        try:
            await self.server.run(lambda: self.collection.bulk_write(requests, ordered=True))
        except BulkWriteError as error:
            raise EngineUnavailable(f"MongoDB refused a change: {_first_problem(error)}.") from error

    async def _forget(self, keys: Sequence[bytes]) -> None:
        """Take what is stored under the keys out of digest and size."""
        for chunk in chunks(keys):
            wanted = {"_id": {"$in": [stored_id(key) for key in chunk]}}
            rows = await self.server.run(lambda: self.collection.find(wanted).to_list(None))  # noqa: B023
            found = [from_stored(row) for row in rows]
            self.digest.remove([value for _, value in found])
            self.bytes -= sum(len(key) + len(value) for key, value in found)


def _first_problem(error: BulkWriteError) -> str:
    problems = error.details.get("writeErrors") or error.details.get("writeConcernErrors") or [{}]
    return str(problems[0].get("errmsg", error))


def _batches(records: Sequence[Record]) -> Iterator[list[Stored]]:
    batch: list[Stored] = []
    size = 0
    for record in records:
        if len(record[1]) > _MAX_BYTES:
            name = record[0].decode(errors="replace")
            raise DocumentError(
                f"Document {name!r} has {len(record[1]) - HASH_BYTES:,} bytes as JSON; MongoDB holds "
                f"documents of at most 16 MB ({_MAX_BYTES:,} bytes). Split it in the parser, or use the LMDB store.",
                id=name,
            )
        if batch and size + len(record[1]) > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(to_stored(record))
        size += len(record[1])
    if batch:
        yield batch
