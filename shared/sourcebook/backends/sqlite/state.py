"""The state in one SQLite file: a table of JSON records, shared by all processes of one machine."""

import asyncio
import fcntl
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sourcebook.errors import EngineUnavailable, NotFound, StoreDamaged
from sourcebook.ports.records import decode_record, encode_record
from sourcebook.ports.state import INDEXES, RecordT, choose_index
from sourcebook.settings import Settings

_FEW = 20  # records that take less to decode than to hand to a thread
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_position ON records (kind, position);
CREATE TABLE IF NOT EXISTS counter (position INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL);
"""


def sqlite_path(settings: Settings) -> Path:
    """Return the file that `SOURCEBOOK_STATE_URL` names; `sqlite:` alone means HOME/catalog.sqlite."""
    path = settings.state_url.partition(":")[2].removeprefix("//")
    return Path(path) if path else settings.home / "catalog.sqlite"


class SqliteFile:
    """One connection to the file; calls run in a thread, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        # Two processes that create the file at once get "database is locked" whatever the busy timeout: create it alone.
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as guard, self._explained_errors():
            fcntl.flock(guard, fcntl.LOCK_EX)
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA + "\n".join(_indexes()))

    async def run(self, work: Callable[[sqlite3.Connection], Any], *, write: bool = False) -> Any:
        """Run `work` in a thread, for `write` in one transaction that holds the file's write lock from its start."""
        return await asyncio.to_thread(self._run, work, write)

    def _run(self, work: Callable[[sqlite3.Connection], Any], write: bool) -> Any:
        with self._explained_errors(), self._mutex, _transaction(self._connection, write):
            return work(self._connection)

    @contextmanager
    def _explained_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            advice = " Free some space on its disk." if error.sqlite_errorcode == sqlite3.SQLITE_FULL else ""
            raise EngineUnavailable(f"The state store {self._path} does not answer: {error}.{advice}") from error
        # Its subclasses are mistakes of ours, but the class itself says that the file is not a database, or a torn one.
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise StoreDamaged(
                f"The state store {self._path} is damaged ({error}). Put back a copy of it, or begin with an empty HOME.",
                path=str(self._path),
            ) from error

    async def close(self) -> None:
        """Close the connection once nobody uses it."""
        with self._mutex:
            self._connection.close()


@contextmanager
def _transaction(connection: sqlite3.Connection, write: bool) -> Any:
    if not write:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


class SqliteState:
    """The state port on SQLite."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def get(self, kind: type[RecordT], key: str) -> RecordT | None:
        row = await self._file.run(lambda db: _body(db, kind, key))
        return None if row is None else decode_record(kind, row)

    async def put(self, key: str, record: BaseModel) -> None:
        await self._file.run(lambda db: _write(db, key, record), write=True)

    async def insert(self, key: str, record: BaseModel) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            if _body(db, type(record), key) is not None:
                return False
            _write(db, key, record)
            return True

        return bool(await self._file.run(work, write=True))

    async def update(
        self, kind: type[RecordT], key: str, change: Callable[[RecordT], RecordT], *, default: RecordT | None = None
    ) -> RecordT:
        def work(db: sqlite3.Connection) -> RecordT:
            row = _body(db, kind, key)
            known = default if row is None else decode_record(kind, row)
            if known is None:
                raise NotFound(f"There is no {kind.__name__.lower()} {key!r}.", kind=kind.__name__, key=key)
            changed = change(known)
            if row is None or changed != known:
                _write(db, key, changed)
            return changed

        record: RecordT = await self._file.run(work, write=True)
        return record

    async def delete(self, kind: type[BaseModel], key: str) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            return db.execute("DELETE FROM records WHERE kind=? AND key=?", (kind.__name__, key)).rowcount > 0

        return bool(await self._file.run(work, write=True))

    async def find(
        self,
        kind: type[RecordT],
        where: Mapping[str, Any] | None = None,
        *,
        newest_first: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[RecordT]:
        condition, values = _condition(kind, where or {})
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        if after is not None:
            condition, values = f"{condition} AND key {beyond} ?", [*values, after]
        sql = f"SELECT body FROM records {condition} ORDER BY key {order} LIMIT ?"  # noqa: S608 - names of ours
        rows = await self._file.run(lambda db: db.execute(sql, (*values, -1 if limit is None else limit)).fetchall())
        return await _decode(kind, [row[0] for row in rows])

    async def count(self, kind: type[BaseModel], where: Mapping[str, Any] | None = None) -> int:
        condition, values = _condition(kind, where or {})
        sql = f"SELECT count(*) FROM records {condition}"  # noqa: S608 - names of ours
        row = await self._file.run(lambda db: db.execute(sql, values).fetchone())
        return int(row[0])

    async def changes(self, kind: type[RecordT], since: int) -> tuple[int, list[RecordT]]:
        sql = "SELECT position, body FROM records WHERE kind=? AND position>? ORDER BY position"
        rows = await self._file.run(lambda db: db.execute(sql, (kind.__name__, since)).fetchall())
        return (rows[-1][0] if rows else since), await _decode(kind, [body for _, body in rows])

    async def position(self, kind: type[BaseModel]) -> int:
        sql = "SELECT coalesce(max(position), 0) FROM records WHERE kind=?"
        row = await self._file.run(lambda db: db.execute(sql, (kind.__name__,)).fetchone())
        return int(row[0])

    async def close(self) -> None:
        await self._file.close()


async def _decode(kind: type[RecordT], bodies: list[str]) -> list[RecordT]:
    def decode() -> list[RecordT]:
        return [decode_record(kind, body) for body in bodies]

    return decode() if len(bodies) <= _FEW else await asyncio.to_thread(decode)


def _condition(kind: type[BaseModel], where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return the index to use, the condition, and the values of its placeholders.

    SQLite knows an index of an expression by the literal text, and without statistics takes the primary key for better.
    """
    index = f"INDEXED BY {_index_name(kind, choose_index(kind, where))} " if where else ""
    clauses, values = [f"kind='{kind.__name__}'"], list[Any]()
    for field, wanted in where.items():
        options = wanted if isinstance(wanted, tuple) else (wanted,)
        clauses.append(f"{_field(field)} IN ({','.join('?' * len(options))})")
        values += options
    return f"{index}WHERE {' AND '.join(clauses)}", values


def _index_name(kind: type[BaseModel], fields: tuple[str, ...]) -> str:
    return "_".join(("records", kind.__name__.lower(), *fields))


def _field(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not a field of a record")
    return f"json_extract(body, '$.\"{name}\"')"


def _indexes() -> Iterator[str]:
    """Yield the statements that make what `INDEXES` declares; each also has the key, the order in which records come."""
    for kind, indexes in INDEXES.items():
        for fields in indexes:
            columns = ", ".join([*map(_field, fields), "key"])
            name = _index_name(kind, fields)
            yield f"CREATE INDEX IF NOT EXISTS {name} ON records ({columns}) WHERE kind='{kind.__name__}';"


def _body(db: sqlite3.Connection, kind: type[BaseModel], key: str) -> str | None:
    row = db.execute("SELECT body FROM records WHERE kind=? AND key=?", (kind.__name__, key)).fetchone()
    return None if row is None else str(row[0])


def _write(db: sqlite3.Connection, key: str, record: BaseModel) -> None:
    db.execute("UPDATE counter SET position = position + 1")
    db.execute(
        "INSERT INTO records SELECT ?, ?, ?, position FROM counter WHERE true "
        "ON CONFLICT (kind, key) DO UPDATE SET body=excluded.body, position=excluded.position",
        (type(record).__name__, key, encode_record(record)),
    )


async def open_sqlite(settings: Settings) -> SqliteState:
    """Open the state store of `SOURCEBOOK_STATE_URL`."""
    return SqliteState(await asyncio.to_thread(SqliteFile, sqlite_path(settings)))
