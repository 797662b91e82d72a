"""Documents in MongoDB: an immutable collection for each of ours, and a row of `documents.collections` that makes it visible.

<name of the database>
  documents.collections                 name -> physical collection, count, digest, size: what is complete
  documents.leases                      who reads or writes which physical collection
  documents.data.<name>.<random>        {_id: key, hash: 16 bytes, json: canonical JSON as bytes}

A collection is filled under a physical name of its own and becomes visible with its row. Dropping removes the row; the physical
collection goes when nobody reads it any more. What has neither row nor lease was left by the dead: the next writer removes it.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pymongo.errors import PyMongoError

from sourcebook.backends.mongo_leases import MongoLeases
from sourcebook.backends.mongo_server import MongoServer, open_mongo_server
from sourcebook.backends.mongo_writer import (
    MongoPatcher,
    MongoWriter,
    Stored,
    chunks,
    from_stored,
    read_info,
    stored_id,
)
from sourcebook.errors import EngineUnavailable, NotFound
from sourcebook.logging import get_logger
from sourcebook.model.document import Record, record_key
from sourcebook.ports.documents import CollectionInfo
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
        self._known: dict[str, str] = {}

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

    async def _copy(self, base: str, patcher: MongoPatcher, physical: str) -> CollectionInfo:
        async with self._reading(base) as (row, _):
            source = self._server.database[row["collection"]]
            try:
                await source.aggregate([{"$out": physical}]).to_list(None)
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

    async def scan(
        self, name: str, *, start: bytes | None = None, stop: bytes | None = None, size: int = 5000
    ) -> AsyncIterator[list[Record]]:
        async with self._reading(name) as (row, lease):
            bounds = {"$gte": stored_id(start or b"")} | ({} if stop is None else {"$lt": stored_id(stop)})
            page: asyncio.Task[list[Record]] | None = self._fetch(row, bounds, size)
            try:
                while page is not None:
                    batch = await page
                    page = None
                    if len(batch) == size:
                        # The next page is on its way while the caller works on this one.
                        del bounds["$gt" if "$gt" in bounds else "$gte"]
                        bounds["$gt"] = stored_id(batch[-1][0])
                        page = self._fetch(row, bounds, size)
                    elif not await self._leases.check(lease):
                        raise EngineUnavailable(
                            f"Collection {name!r} was removed while it was read: this process was taken for dead.",
                            collection=name,
                        )
                    if batch:
                        yield batch
            finally:
                if page is not None:
                    page.cancel()

    def _fetch(self, row: Stored, bounds: dict[str, str], size: int) -> asyncio.Task[list[Record]]:
        collection, wanted = self._server.database[row["collection"]], {"_id": dict(bounds)}

        async def fetch() -> list[Record]:
            cursor = collection.find(wanted, sort=[("_id", 1)], limit=size, batch_size=size)
            return [from_stored(stored) for stored in await cursor.to_list(None)]

        return asyncio.create_task(self._server.run(fetch))

    @asynccontextmanager
    async def _reading(self, name: str) -> AsyncIterator[tuple[Stored, str]]:
        """Hold a lease on a collection: one that is dropped meanwhile is read to its end."""
        row = await self._row(name)
        if row is None:
            raise _not_found(name)
        async with self._leases.hold(row["collection"]) as lease:
            again = await self._row(name)  # who drops it now sees the lease
            if again is None or again["collection"] != row["collection"]:
                raise _not_found(name)
            yield row, lease

    async def get_many(self, name: str, ids: Sequence[str]) -> list[bytes | None]:
        wanted = list({stored_id(record_key(item)) for item in ids if item})
        physical = self._known.get(name)
        if physical is None:
            physical = await self._find_physical(name)
        found = await self._get(physical, wanted)
        if len(found) < len(wanted):
            # Some are not there, or nothing is there any more.
            current = await self._find_physical(name)
            if current != physical:
                found = await self._get(current, wanted)
        return [found.get(stored_id(record_key(item))) if item else None for item in ids]

    async def _get(self, physical: str, wanted: Sequence[str]) -> dict[str, bytes]:
        collection = self._server.database[physical]

        async def get(chunk: Sequence[str]) -> list[Stored]:
            query = {"_id": {"$in": list(chunk)}}
            return await self._server.run(lambda: collection.find(query, {"json": 1}).to_list(None))

        found: dict[str, bytes] = {}
        for group in chunks(list(chunks(wanted)), _REQUESTS_AT_ONCE):
            for rows in await asyncio.gather(*(get(chunk) for chunk in group)):
                found.update((row["_id"], row["json"]) for row in rows)
        return found

    async def _find_physical(self, name: str) -> str:
        row = await self._row(name)
        if row is None:
            self._known.pop(name, None)
            raise _not_found(name)
        physical: str = row["collection"]
        self._known[name] = physical
        return physical

    async def _row(self, name: str) -> Stored | None:
        row: Stored | None = await self._server.run(lambda: self._infos.find_one({"_id": name}))
        return row

    async def names(self) -> list[str]:
        rows = await self._server.run(lambda: self._infos.find({}, {"_id": 1}).to_list(None))
        return sorted(row["_id"] for row in rows)

    async def drop(self, name: str) -> None:
        row: Any = await self._server.run(lambda: self._infos.find_one_and_delete({"_id": name}))
        self._known.pop(name, None)
        if row is not None and row["collection"] not in await self._leases.held_collections():
            await self._server.run(lambda: self._server.database.drop_collection(row["collection"]))

    async def _remove_leftovers(self) -> None:
        """Remove collections that nobody fills, nobody reads and nobody can find."""
        # In this order: a writer that commits in between has its row before it gives its lease back.
        names = await self._server.run(self._server.database.list_collection_names)
        held = await self._leases.held_collections()
        rows = await self._server.run(lambda: self._infos.find({}, {"collection": 1}).to_list(None))
        known = held | {row["collection"] for row in rows}
        for physical in names:
            if physical.startswith(_DATA) and physical not in known:
                log.info("leftover_removed", collection=physical)
                await self._server.run(lambda: self._server.database.drop_collection(physical))  # noqa: B023

    async def close(self) -> None:
        self._leases.close()
        await self._server.close()


def _not_found(name: str) -> NotFound:
    return NotFound(f"There is no collection {name!r}.", collection=name)


async def open_mongo_documents(settings: Settings) -> MongoDocumentStore:
    """Open the documents of `SOURCEBOOK_DOCUMENTS_URL`; it connects at the first call."""
    return MongoDocumentStore(open_mongo_server(settings, "documents_url"))
