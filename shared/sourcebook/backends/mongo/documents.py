"""Documents in MongoDB: an immutable collection for each of ours, and a row of `documents.collections` that makes it visible.

<name of the database>
  documents.collections                 name -> physical collections, count, digest, size: what is complete
  documents.leases                      who reads or writes which physical collection
  documents.samples                     some keys of each physical collection, for those who divide it
  documents.data.<name>.<random>        {_id: key, hash: 16 bytes, json: canonical JSON as bytes}

A collection is filled under a physical name of its own and becomes visible with its row. One that was joined has those of its
pieces: its row lists them, with the first key of each (`segments`), and no document is copied. Dropping removes the row; the
physical collections go when no row names them and nobody reads them any more. What has neither row nor lease was left by a
process that died: the next writer removes it.
"""

import asyncio
import re
import secrets
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from pymongo.errors import PyMongoError

from sourcebook.backends.mongo.leases import MongoLeases
from sourcebook.backends.mongo.scan import MongoScan
from sourcebook.backends.mongo.server import MongoServer, open_mongo_server
from sourcebook.backends.mongo.writer import (
    IDS_PER_REQUEST,
    SAMPLES,
    MongoPatcher,
    MongoWriter,
    Segment,
    Stored,
    chunks,
    from_stored,
    insert_row,
    read_info,
    segments_of,
    stored_id,
    stored_key,
)
from sourcebook.errors import EngineUnavailable, NotFound, StoreDamaged
from sourcebook.hub.documents.record import Digest, Record, describe_damage, record_key
from sourcebook.logging import get_logger
from sourcebook.ports.documents import BATCH_BYTES, CollectionInfo
from sourcebook.settings import Settings

log = get_logger(__name__)

_DATA = "documents.data."
_UNSAFE = re.compile(r"[^A-Za-z0-9_.~+-]")
_NAME_CHARACTERS = 150  # MongoDB's limit for database and collection together is 255 bytes
_REQUESTS_AT_ONCE = 4
_COPY_SIZE = 2000


class MongoDocumentStore:
    """The documents port on MongoDB and servers that speak its protocol."""

    def __init__(self, server: MongoServer) -> None:
        self._server = server
        self._infos = server.database["documents.collections"]
        self._leases = MongoLeases(server)
        self._known: dict[str, list[Segment]] = {}

    @asynccontextmanager
    async def create(self, name: str) -> AsyncIterator[MongoWriter]:
        async with self._new_collection(name) as physical:
            writer = MongoWriter(self._server, name, physical)
            try:
                yield writer
            finally:
                await self._abandon(writer, physical)

    @asynccontextmanager
    async def derive(self, name: str, base: str) -> AsyncIterator[MongoPatcher]:
        async with self._new_collection(name) as physical:
            patcher = MongoPatcher(self._server, name, physical)
            try:
                patcher.begin(await self._copy(base, patcher, physical))
                yield patcher
            finally:
                await self._abandon(patcher, physical)

    @asynccontextmanager
    async def _new_collection(self, name: str) -> AsyncIterator[str]:
        await self._remove_leftovers()
        physical = f"{_DATA}{_UNSAFE.sub('_', name)[:_NAME_CHARACTERS]}.{secrets.token_hex(4)}"
        async with self._leases.hold(physical):
            yield physical

    async def _abandon(self, writer: MongoWriter | MongoPatcher, physical: str) -> None:
        if writer.is_committed:
            return
        try:
            await self._server.run(lambda: self._server.database.drop_collection(physical))
        except EngineUnavailable as error:  # the next writer removes it
            log.warning("collection_left_behind", collection=physical, problem=error.message)

    async def join(self, name: str, pieces: Sequence[str]) -> CollectionInfo:
        digest, size = Digest(), 0
        segments: list[Segment] = []
        last = ""
        async with AsyncExitStack() as stack:  # until the new row names them too, the leases keep the pieces
            for piece in pieces:
                row, _ = await stack.enter_async_context(self._reading(piece))
                digest.join(row["count"], row["digest"])
                size += row["size"]
                for segment in segments_of(row) if row["count"] else []:
                    first, end = [await self._end_id(segment, order) for order in (1, -1)]
                    if segments and first <= last:
                        raise ValueError(f"key {stored_key(first)!r} does not follow {stored_key(last)!r}")
                    segments.append(Segment(segment.collection, first))
                    last = end
            info = CollectionInfo(name=name, count=digest.count, digest=digest.hex(), size=size)
            return read_info(await insert_row(self._server, info, segments=[item._asdict() for item in segments]))

    async def _end_id(self, segment: Segment, order: int) -> str:
        """Return the smallest (order 1) or largest (-1) `_id` of a segment that is not empty."""
        collection = self._server.database[segment.collection]
        row: Any = await self._server.run(lambda: collection.find_one({}, {"_id": 1}, sort=[("_id", order)]))
        if row is None:
            raise EngineUnavailable(f"Collection {segment.collection!r} has lost its documents. Begin the job again.")
        return str(row["_id"])

    async def sample_keys(self, name: str, step: int) -> list[bytes]:
        keys: list[bytes] = []
        async with self._reading(name) as (row, _):
            for segment in segments_of(row):
                keys += [stored_key(item) for item in await self._sample_segment(segment, step)]
        return keys

    async def _sample_segment(self, segment: Segment, step: int) -> list[str]:
        samples = self._server.database[SAMPLES]
        noted: Any = await self._server.run(lambda: samples.find_one({"_id": segment.collection}))
        if noted is not None and noted["step"] <= step:
            every = step // noted["step"]
            ids: list[str] = noted["ids"][every::every]
            return ids
        # One that was derived from another, or is small.
        found: list[str] = []
        while (later := await self._find_later(segment, found[-1] if found else "", step)) is not None:
            found.append(later)
        return found

    async def _find_later(self, segment: Segment, after: str, step: int) -> str | None:
        """Return the `_id` that comes so many steps after another; the server walks its index and reads no document."""
        collection, wanted = self._server.database[segment.collection], {"_id": {"$gt": after}}
        row: Any = await self._server.run(
            lambda: collection.find_one(wanted, {"_id": 1}, sort=[("_id", 1)], skip=step - 1)
        )
        return None if row is None else str(row["_id"])

    async def _copy(self, base: str, patcher: MongoPatcher, physical: str) -> CollectionInfo:
        async with self._reading(base) as (row, _):
            try:
                for number, segment in enumerate(segments_of(row)):
                    step = {"$merge": {"into": physical}} if number else {"$out": physical}
                    await self._server.database[segment.collection].aggregate([step]).to_list(None)
                if await patcher.collection.count_documents({}) == row["count"]:
                    return read_info(row)
            except PyMongoError as error:  # a server that is only like MongoDB, or one that went away
                log.info("collection_copied_by_client", collection=base, problem=str(error))
        await self._server.run(lambda: self._server.database.drop_collection(physical))
        writer = MongoWriter(self._server, base, physical)
        async for batch in self.scan(base, size=_COPY_SIZE):
            await writer.write(batch)
        return read_info(row)

    async def info(self, name: str) -> CollectionInfo | None:
        row = await self._row(name)
        return None if row is None else read_info(row)

    async def check(self, name: str) -> None:
        if await self._row(name) is None:
            raise _not_found(name)

    async def verify(self, name: str) -> list[str]:
        digest, problems = Digest(), []
        async with self._reading(name) as (row, _):
            for segment in segments_of(row):
                scan = MongoScan(self._server, segment.collection, size=_COPY_SIZE)
                async with aclosing(scan.pages()) as pages:
                    async for batch in pages:
                        digest.add([value for _, value in batch])
                        problems += [problem for record in batch if (problem := describe_damage(record)) is not None]
        if (digest.count, digest.hex()) != (row["count"], row["digest"]):
            problems.append(
                f"{digest.count:,} documents are there, {row['count']:,} were written, or others than were written"
            )
        return problems

    async def scan(
        self,
        name: str,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        size: int = 5000,
        max_bytes: int = BATCH_BYTES,
    ) -> AsyncIterator[list[Record]]:
        first, end = stored_id(start or b""), None if stop is None else stored_id(stop)
        async with self._reading(name) as (row, leases):
            for segment in _choose(segments_of(row), first, end):
                scan = MongoScan(
                    self._server, segment.collection, start=start, stop=stop, size=size, max_bytes=max_bytes
                )
                async with aclosing(scan.pages()) as pages:
                    async for batch in pages:
                        _refuse_damaged(name, batch)
                        if batch:
                            yield batch
            if not all([await self._leases.check(lease) for lease in leases]):
                raise EngineUnavailable(
                    f"Collection {name!r} was removed while it was read: this process was taken for dead.",
                    collection=name,
                )

    @asynccontextmanager
    async def _reading(self, name: str) -> AsyncIterator[tuple[Stored, list[str]]]:
        """Hold leases on a collection: one that is dropped meanwhile is read to its end."""
        row = await self._row(name)
        if row is None:
            raise _not_found(name)
        async with AsyncExitStack() as stack:
            held = [self._leases.hold(segment.collection) for segment in segments_of(row)]
            leases = [await stack.enter_async_context(lease) for lease in held]
            again = await self._row(name)  # who drops it now sees the leases
            if again is None or segments_of(again) != segments_of(row):
                raise _not_found(name)
            yield row, leases

    async def get_many(self, name: str, ids: Sequence[str], *, max_bytes: int | None = None) -> list[bytes | None]:
        if max_bytes is None:
            return await self._get_many(name, ids)
        bodies: list[bytes | None] = []
        used, count = 0, 1
        while len(bodies) < len(ids) and (not bodies or used < max_bytes):
            more = await self._get_many(name, ids[len(bodies) : len(bodies) + count])
            bodies += more
            used += sum(len(body) for body in more if body is not None)
            # As many as fit if they are like those before; few, because they may be larger.
            fitting = (max_bytes - used) * len(bodies) // max(used, 1)
            count = min(IDS_PER_REQUEST, 2 * len(bodies), max(1, fitting))
        return bodies

    async def _get_many(self, name: str, ids: Sequence[str]) -> list[bytes | None]:
        wanted = list({stored_id(record_key(item)) for item in ids if item})
        segments = self._known.get(name)
        if segments is None:
            segments = await self._find_segments(name)
        found = await self._get(name, segments, wanted)
        if len(found) < len(wanted):
            # Some are not there, or nothing is there any more.
            current = await self._find_segments(name)
            if current != segments:
                found = await self._get(name, current, wanted)
        return [found.get(stored_id(record_key(item))) if item else None for item in ids]

    async def _get(self, name: str, segments: Sequence[Segment], wanted: Sequence[str]) -> dict[str, bytes]:
        firsts = [segment.first for segment in segments]
        places: dict[int, list[str]] = defaultdict(list)
        for item in wanted:
            places[bisect_right(firsts, item) - 1].append(item)
        requests = [(place, chunk) for place, items in places.items() if place >= 0 for chunk in chunks(items)]

        async def get(place: int, chunk: Sequence[str]) -> list[Stored]:
            collection = self._server.database[segments[place].collection]
            # FerretDB looks for one id in its index, and for several of them in every document.
            query = {"_id": chunk[0] if len(chunk) == 1 else {"$in": list(chunk)}}
            return await self._server.run(lambda: collection.find(query).to_list(None))

        found: dict[str, bytes] = {}
        for group in chunks(requests, _REQUESTS_AT_ONCE):
            for rows in await asyncio.gather(*(get(*request) for request in group)):
                _refuse_damaged(name, [from_stored(row) for row in rows])
                found.update((row["_id"], row["json"]) for row in rows)
        return found

    async def _find_segments(self, name: str) -> list[Segment]:
        row = await self._row(name)
        if row is None:
            self._known.pop(name, None)
            raise _not_found(name)
        self._known[name] = segments_of(row)
        return self._known[name]

    async def _row(self, name: str) -> Stored | None:
        row: Stored | None = await self._server.run(lambda: self._infos.find_one({"_id": name}))
        return row

    async def names(self) -> list[str]:
        rows = await self._server.run(lambda: self._infos.find({}, {"_id": 1}).to_list(None))
        return sorted(row["_id"] for row in rows)

    async def drop(self, name: str) -> None:
        row: Any = await self._server.run(lambda: self._infos.find_one_and_delete({"_id": name}))
        self._known.pop(name, None)
        if row is not None:
            used = await self._used_collections()
            await self._drop_physical({segment.collection for segment in segments_of(row)} - used)

    async def _remove_leftovers(self) -> None:
        """Remove collections that nobody fills, nobody reads and nobody can find."""
        # In this order: a writer that commits in between has its row before it gives its lease back.
        names = await self._server.run(self._server.database.list_collection_names)
        used = await self._used_collections()
        leftovers = {physical for physical in names if physical.startswith(_DATA)} - used
        for physical in leftovers:
            log.info("leftover_removed", collection=physical)
        await self._drop_physical(leftovers)

    async def _used_collections(self) -> set[str]:
        """Return the physical collections that somebody works on, and those that a row names."""
        held = await self._leases.held_collections()
        rows = await self._server.run(lambda: self._infos.find({}).to_list(None))
        return held | {segment.collection for row in rows for segment in segments_of(row)}

    async def _drop_physical(self, names: set[str]) -> None:
        for physical in sorted(names):
            await self._server.run(lambda: self._server.database.drop_collection(physical))  # noqa: B023
        if names:
            gone = {"_id": {"$in": sorted(names)}}
            await self._server.run(lambda: self._server.database[SAMPLES].delete_many(gone))

    async def close(self) -> None:
        await self._leases.close()
        await self._server.close()


def _choose(segments: list[Segment], start: str, stop: str | None) -> list[Segment]:
    """Return the segments that may have keys with start <= key < stop."""
    firsts = [segment.first for segment in segments]
    begin = max(0, bisect_right(firsts, start) - 1)
    return segments[begin : len(firsts) if stop is None else bisect_left(firsts, stop)]


def _refuse_damaged(name: str, records: Sequence[Record]) -> None:
    problem = next((found for record in records if (found := describe_damage(record)) is not None), None)
    if problem is not None:
        raise StoreDamaged(
            f"The collection {name!r} is damaged: {problem}. Upload the source again, or build again in full; or restore the "
            "database from a backup.",
            collection=name,
            problem=problem,
        )


def _not_found(name: str) -> NotFound:
    return NotFound(f"There is no collection {name!r}.", collection=name)


async def open_mongo_documents(settings: Settings) -> MongoDocumentStore:
    """Open the documents of `SOURCEBOOK_DOCUMENTS_URL`; it connects at the first call."""
    return MongoDocumentStore(open_mongo_server(settings, "documents_url"))
