"""The state in MongoDB: records as JSON text with a revision, replaced by compare-and-swap; no transactions needed.

`changes` must not miss a record whose writer took a position before others and wrote after them. So a writer announces itself
with a position that its own will exceed, takes a position, writes the record, and withdraws. Readers look no further than the
lowest announced position; one whose writer died is removed after a while, and a writer that was only slow sees that and takes
another position.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError

from sourcebook.backends.mongo.server import MongoServer
from sourcebook.errors import NotFound
from sourcebook.ports.records import decode_record, encode_record
from sourcebook.ports.state import INDEXES, RecordT, choose_index
from sourcebook.settings import Settings

T = TypeVar("T")

_ANNOUNCED_SECONDS = 15.0  # a writer that is silent this long is taken for dead
_LONGEST_PAUSE_SECONDS = 0.05
_MAX_BSON_INTEGER = 2**63
_FEW = 20  # records that take less to decode than to hand to a thread


class MongoState:
    """The state port on MongoDB and servers that speak its protocol."""

    def __init__(self, server: MongoServer) -> None:
        self._server = server
        self._records = server.database["catalog.records"]
        self._writers = server.database["catalog.writers"]
        self._counter = server.database["catalog.counter"]
        self._is_prepared = False
        self._tasks: set[asyncio.Task[Any]] = set()
        # Tasks of this process take turns for a key: losing a compare-and-swap to oneself is work for nothing.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, kind: type[RecordT], key: str) -> RecordT | None:
        found = await self._find(kind, key)
        return None if found is None else decode_record(kind, found["body"])

    async def put(self, key: str, record: BaseModel) -> None:
        async def write(position: int, token: str) -> bool:
            fields = _fields(record, position, token)
            try:
                await self._records.update_one(
                    {"_id": _record_id(type(record), key)}, {"$set": fields, "$inc": {"revision": 1}}, upsert=True
                )
            except DuplicateKeyError:  # another process created it in between
                return False
            return True

        while not await self._write(_record_id(type(record), key), write):
            pass

    async def insert(self, key: str, record: BaseModel) -> bool:
        record_id = _record_id(type(record), key)
        if await self._find(type(record), key) is not None:
            return False
        return await self._insert(record_id, record)

    async def _insert(self, record_id: str, record: BaseModel) -> bool:
        async def write(position: int, token: str) -> bool:
            try:
                await self._records.insert_one({"_id": record_id, "revision": 1, **_fields(record, position, token)})
            except DuplicateKeyError:
                return await self._is_ours(record_id, token)
            return True

        return await self._write(record_id, write)

    async def _replace(self, record_id: str, revision: int, record: BaseModel) -> bool:
        async def write(position: int, token: str) -> bool:
            fields = {"revision": revision + 1, **_fields(record, position, token)}
            result = await self._records.update_one({"_id": record_id, "revision": revision}, {"$set": fields})
            return result.matched_count > 0 or await self._is_ours(record_id, token)

        return await self._write(record_id, write)

    async def _is_ours(self, record_id: str, token: str) -> bool:
        """Whether our own first try, whose answer was lost with the connection, wrote the record."""
        found = await self._records.find_one({"_id": record_id}, {"token": 1})
        return found is not None and found["token"] == token

    async def update(
        self, kind: type[RecordT], key: str, change: Callable[[RecordT], RecordT], *, default: RecordT | None = None
    ) -> RecordT:
        record_id = _record_id(kind, key)
        turn = self._turns.setdefault(record_id, asyncio.Lock())
        async with turn:
            while True:
                found = await self._find(kind, key)
                known = default if found is None else decode_record(kind, found["body"])
                if known is None:
                    raise NotFound(f"There is no {kind.__name__.lower()} {key!r}.", kind=kind.__name__, key=key)
                changed = change(known)
                if found is None:
                    written = await self._insert(record_id, changed)
                else:
                    written = changed == known or await self._replace(record_id, found["revision"], changed)
                if written:
                    return changed
                await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311 - hides nothing

    async def delete(self, kind: type[BaseModel], key: str) -> bool:
        result = await self._run(lambda: self._records.delete_one({"_id": _record_id(kind, key)}))
        return bool(result.deleted_count)

    async def find(
        self,
        kind: type[RecordT],
        where: Mapping[str, Any] | None = None,
        *,
        newest_first: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[RecordT]:
        wanted = _filter(kind, where or {})
        if after is not None:
            wanted["_id"] = {**wanted.get("_id", {}), "$lt" if newest_first else "$gt": _record_id(kind, after)}
        direction = DESCENDING if newest_first else ASCENDING
        if limit == 0:  # which MongoDB takes for "all"
            return []
        return await _decode(kind, await self._read(wanted, [("_id", direction)], limit or 0))

    async def count(self, kind: type[BaseModel], where: Mapping[str, Any] | None = None) -> int:
        wanted = _filter(kind, where or {})
        return await self._run(lambda: self._records.count_documents(wanted))

    async def changes(self, kind: type[RecordT], since: int) -> tuple[int, list[RecordT]]:
        settled = await self._settled_position()
        wanted = {"kind": kind.__name__, "position": {"$gt": since, "$lte": settled}}
        rows = await self._read(wanted, [("position", ASCENDING)], 0)
        position = rows[-1]["position"] if rows else since
        return position, await _decode(kind, rows)

    async def position(self, kind: type[BaseModel]) -> int:
        settled = await self._settled_position()
        wanted = {"kind": kind.__name__, "position": {"$lte": settled}}
        rows = await self._read(wanted, [("position", DESCENDING)], 1)
        return int(rows[0]["position"]) if rows else 0

    async def close(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.close()

    async def _find(self, kind: type[BaseModel], key: str) -> dict[str, Any] | None:
        wanted = {"_id": _record_id(kind, key)}
        found: dict[str, Any] | None = await self._run(
            lambda: self._records.find_one(wanted, {"body": 1, "revision": 1})
        )
        return found

    async def _read(self, wanted: dict[str, Any], order: list[tuple[str, int]], limit: int) -> list[dict[str, Any]]:
        async def read() -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = await self._records.find(
                wanted, {"body": 1, "position": 1}, sort=order, limit=limit
            ).to_list(None)
            return rows

        return await self._run(read)

    # Positions

    async def _write(self, record_id: str, write: Callable[[int, str], Awaitable[bool]]) -> bool:
        """Run `write(position, token)`; when the caller is cancelled, the write still comes to its end."""
        task = asyncio.create_task(self._write_announced(record_id, write))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was raised to the caller, if there still is one

    async def _write_announced(self, record_id: str, write: Callable[[int, str], Awaitable[bool]]) -> bool:
        await self._prepare()
        token = secrets.token_hex(8)
        position = await self._announce(token)
        written = await self._run(lambda: write(position, token))
        while not await self._withdraw(token) and written:
            # A reader took us for dead and has read past our position: move the record to a new one.
            await self._move(record_id, token, await self._announce(token))
        return written

    async def _announce(self, token: str) -> int:
        lowest = await self._counted_position()

        async def announce() -> None:
            announced = {"lowest": lowest, "at": time.time()}
            await self._writers.update_one({"_id": token}, {"$set": announced}, upsert=True)

        await self._run(announce)
        counter = await self._run(
            lambda: self._counter.find_one_and_update(
                {"_id": "position"}, {"$inc": {"position": 1}}, return_document=ReturnDocument.AFTER
            )
        )
        return int(counter["position"])

    async def _withdraw(self, token: str) -> bool:
        result = await self._run(lambda: self._writers.delete_one({"_id": token}))
        return bool(result.deleted_count)

    async def _move(self, record_id: str, token: str, position: int) -> None:
        wanted, change = {"_id": record_id, "token": token}, {"$set": {"position": position}}
        await self._run(lambda: self._records.update_one(wanted, change))

    async def _counted_position(self) -> int:
        counter = await self._run(lambda: self._counter.find_one({"_id": "position"}))
        return int(counter["position"]) if counter else 0

    async def _settled_position(self) -> int:
        """Return a position up to which every record is written."""
        settled = await self._counted_position()  # before the writers: who comes later gets a higher position
        for writer in await self._run(lambda: self._writers.find({}).to_list(None)):
            if time.time() - writer["at"] > _ANNOUNCED_SECONDS:
                await self._withdraw(writer["_id"])
            else:
                settled = min(settled, writer["lowest"])
        return settled

    async def _prepare(self) -> None:
        if self._is_prepared:
            return

        async def prepare() -> None:
            await self._records.create_index([("kind", ASCENDING), ("position", ASCENDING)])
            for fields in sorted({fields for indexes in INDEXES.values() for fields in indexes}):
                names = ["kind", *(f"fields.{field}" for field in fields), "_id"]
                await self._records.create_index([(name, ASCENDING) for name in names])
            try:
                await self._counter.insert_one({"_id": "position", "position": 0})
            except DuplicateKeyError:
                return

        await self._run(prepare)
        self._is_prepared = True

    async def _run(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self._server.run(call)


def _record_id(kind: type[BaseModel], key: str) -> str:
    return f"{kind.__name__}/{key}"


def _fields(record: BaseModel, position: int, token: str) -> dict[str, Any]:
    """Return what is stored of a record: its JSON, and beside it the top-level values that `find` compares."""
    values = record.model_dump(mode="json", by_alias=True)
    return {
        "kind": type(record).__name__,
        "position": position,
        "token": token,
        "body": encode_record(record),
        "fields": {name: value for name, value in values.items() if _is_comparable(value)},
    }


def _filter(kind: type[BaseModel], where: Mapping[str, Any]) -> dict[str, Any]:
    if not where:
        # By the ids of a kind, which come in the order that is asked for: of the newest few, no more than these are read.
        return {"_id": {"$gte": f"{kind.__name__}/", "$lt": f"{kind.__name__}0"}}  # "0" is what follows "/"
    choose_index(kind, where)
    wanted: dict[str, Any] = {"kind": kind.__name__}
    for field, value in where.items():
        options = [_plain(item) for item in (value if isinstance(value, tuple) else (value,)) if item is not None]
        wanted[f"fields.{field}"] = options[0] if len(options) == 1 else {"$in": options}
    return wanted


async def _decode(kind: type[RecordT], rows: list[dict[str, Any]]) -> list[RecordT]:
    def decode() -> list[RecordT]:
        return [decode_record(kind, row["body"]) for row in rows]

    return decode() if len(rows) <= _FEW else await asyncio.to_thread(decode)


def _is_comparable(value: Any) -> bool:
    if isinstance(value, int):
        return -_MAX_BSON_INTEGER <= value < _MAX_BSON_INTEGER
    return isinstance(value, str | float)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value  # an enum's member as what it stands for


async def open_mongo_state(settings: Settings) -> MongoState:
    """Open the state store of `SOURCEBOOK_STATE_URL`; it connects at the first call."""
    return MongoState(MongoServer("state_url", settings.state_url, settings.engine_patience))
