"""One pass over a MongoDB collection in key order: with one cursor, and another one behind the last key if that is lost.

A query for each page would be as good on a server that has an index. One that sorts instead, as FerretDB on SQLite does, would
read the whole collection for each.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from sourcebook.backends.mongo.server import MongoServer
from sourcebook.backends.mongo.writer import from_stored, stored_id
from sourcebook.hub.documents.record import Record
from sourcebook.ports.documents import BATCH_BYTES

# CursorNotFound (a server forgets one that rests for ten minutes), QueryPlanKilled (its collection was dropped), CursorKilled.
_CURSOR_LOST = {43, 175, 237}
_STEP = 32  # documents that are taken before their size is looked at


class MongoScan:
    """Reads the records with start <= key < stop once; a page has at most `size` of them and about `max_bytes`."""

    def __init__(
        self,
        server: MongoServer,
        physical: str,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        size: int,
        max_bytes: int = BATCH_BYTES,
    ) -> None:
        self._server = server
        self._collection = server.database[physical]
        self._bounds = ({} if not start else {"$gte": stored_id(start)}) | (
            {} if stop is None else {"$lt": stored_id(stop)}
        )
        self._size = size
        self._max_bytes = max_bytes
        self._cursor: Any = None
        self._is_over = False

    async def pages(self) -> AsyncGenerator[list[Record], None]:
        """Yield full pages, and at last one that is not full, perhaps an empty one."""
        page = self._begin_page()
        try:
            while True:
                batch = await page
                if self._is_over:
                    break
                page = self._begin_page()  # it is on its way while the caller works on this one
                yield batch
            yield batch
        finally:
            page.cancel()
            await self._close_cursor()

    def _begin_page(self) -> asyncio.Task[list[Record]]:
        return asyncio.create_task(self._server.run(self._fetch))

    async def _fetch(self) -> list[Record]:
        if self._cursor is None:
            self._cursor = self._collection.find(_within(self._bounds), sort=[("_id", 1)], batch_size=self._size)
        try:
            rows, is_full = await self._take()
            behind = self._bounds_behind(rows)
            # FerretDB says of a cursor that it lost while it was reading that it came to its end.
            if not is_full and await self._has_any(behind):
                raise AutoReconnect("the server ended the cursor early")
        except PyMongoError as error:
            await self._close_cursor()  # one that failed looks like one that came to its end
            if isinstance(error, OperationFailure) and error.code in _CURSOR_LOST:
                raise AutoReconnect("the server lost the cursor") from error
            raise
        self._bounds, self._is_over = behind, not is_full
        return [from_stored(row) for row in rows]

    async def _take(self) -> tuple[list[dict[str, Any]], bool]:
        """Return what makes a page, and whether that is full; the driver holds what the server sent, 16 MB at most."""
        rows: list[dict[str, Any]] = []
        used = 0
        while len(rows) < self._size and used < self._max_bytes:
            fitting = max(1, (self._max_bytes - used) * len(rows) // max(used, 1))
            wanted = min(_STEP, self._size - len(rows), fitting)
            more = await self._cursor.to_list(wanted)
            rows += more
            used += sum([len(row["json"]) for row in more])
            if len(more) < wanted:
                return rows, False
        return rows, True

    def _bounds_behind(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        if not rows:
            return self._bounds
        rest = {name: bound for name, bound in self._bounds.items() if name == "$lt"}
        return rest | {"$gt": rows[-1]["_id"]}

    async def _has_any(self, bounds: dict[str, Any]) -> bool:
        return await self._collection.find_one(_within(bounds), projection={"_id": 1}) is not None

    async def _close_cursor(self) -> None:
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            with contextlib.suppress(PyMongoError):
                await cursor.close()


def _within(bounds: dict[str, Any]) -> dict[str, Any]:
    return {"_id": bounds} if bounds else {}
