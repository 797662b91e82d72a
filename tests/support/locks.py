"""Looks at the locks of a HOME without its event loop."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path


def ask_locks(home: Path, sql: str, *values: object) -> float | None:
    """Run one statement in the file of the locks; return the first value of its first row."""
    with closing(sqlite3.connect(home / "catalog.sqlite", timeout=30)) as database:
        row = database.execute(sql, values).fetchone()
        database.commit()
    return float(row[0]) if row and row[0] is not None else None


def block_until_renewed(home: Path, lock: str, ttl: timedelta) -> None:
    """Keep the event loop standing still until a lock lives for twice as long as it would if nobody renewed it."""
    first = expiry_of(home, lock)
    while expiry_of(home, lock) < first + 2 * ttl.total_seconds():
        pass


def expiry_of(home: Path, lock: str) -> float:
    """Return when a lock runs out."""
    expires = ask_locks(home, "SELECT expires FROM locks WHERE name = ?", lock)
    assert expires is not None, f"nobody holds {lock}"
    return expires
