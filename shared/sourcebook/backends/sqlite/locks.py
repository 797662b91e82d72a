"""Locks in the state's SQLite file, or in one of their own."""

import asyncio
import sqlite3
import time
from datetime import timedelta
from pathlib import Path

from sourcebook.backends.sqlite.state import SqliteFile, sqlite_path
from sourcebook.settings import Settings


class SqliteLocks:
    """The locks port on SQLite; expiries compare by the machine's clock, which all processes of the file share."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def acquire(self, name: str, owner: str, ttl: timedelta) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            now = time.time()
            return (
                db.execute(
                    "INSERT INTO locks VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
                    "SET owner=excluded.owner, expires=excluded.expires WHERE expires < ? OR owner = excluded.owner",
                    (name, owner, now + ttl.total_seconds(), now),
                ).rowcount
                > 0
            )

        return bool(await self._file.run(work, write=True))

    async def renew(self, name: str, owner: str, ttl: timedelta) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            expires = time.time() + ttl.total_seconds()
            return (
                db.execute("UPDATE locks SET expires=? WHERE name=? AND owner=?", (expires, name, owner)).rowcount > 0
            )

        return bool(await self._file.run(work, write=True))

    async def release(self, name: str, owner: str) -> None:
        await self._file.run(
            lambda db: db.execute("DELETE FROM locks WHERE name=? AND owner=?", (name, owner)), write=True
        )

    async def holder(self, name: str) -> str | None:
        row = await self._file.run(
            lambda db: db.execute(
                "SELECT owner FROM locks WHERE name=? AND expires >= ?", (name, time.time())
            ).fetchone()
        )
        return None if row is None else str(row[0])

    async def close(self) -> None:
        await self._file.close()


async def open_sqlite_locks(settings: Settings) -> SqliteLocks:
    """Open the locks in the file of `SOURCEBOOK_LOCKS_URL`; `sqlite:` alone means the state's, or HOME/locks.sqlite."""
    return SqliteLocks(await asyncio.to_thread(SqliteFile, _locks_path(settings)))


def _locks_path(settings: Settings) -> Path:
    path = settings.locks_url.partition(":")[2].removeprefix("//")
    if path:
        return Path(path)
    # The address of another engine is not a file name.
    return sqlite_path(settings) if settings.state_url.startswith("sqlite:") else settings.home / "locks.sqlite"
