"""The state in SQLite finds records by its indexes, also in a file of an earlier version."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sourcebook.backends import open_state
from sourcebook.backends.sqlite.state import SqliteState
from sourcebook.errors import EngineUnavailable
from sourcebook.hub.jobs.model import Job
from sourcebook.ports.state import INDEXES
from sourcebook.settings import Settings

SEARCHES = [
    ({"state": "succeeded"}, "records_job_state"),
    ({"state": ("queued", "running")}, "records_job_state"),
    ({"kind": "dump", "state": "queued"}, "records_job_state_kind"),
    ({"lock": "dump:s", "state": ("queued", "running")}, "records_job_lock_state"),
    ({"parent": "p"}, "records_job_parent"),
    ({"kind": "dump"}, "records_job_kind"),
]


@pytest.mark.parametrize(("where", "index"), SEARCHES)
def test_a_search_uses_its_index(tmp_path: Path, where: dict[str, Any], index: str) -> None:
    asked: list[str] = []

    async def scenario() -> None:
        state = await open_state(Settings(home=tmp_path))
        assert isinstance(state, SqliteState)
        await state._file.run(lambda db: db.set_trace_callback(asked.append))
        await state.find(Job, where, newest_first=True, limit=5)
        await state.count(Job, where)
        await state.close()

    asyncio.run(scenario())
    assert len(asked) == 2
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as database:
        for statement in asked:
            plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert f"INDEX {index} (<expr>=?" in plan[0]
            # One value for each field: the records come in the order of keys, and a limit ends the search.
            is_exact = not any(isinstance(value, tuple) for value in where.values())
            assert len(plan) == 1 or not is_exact


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        state = await open_state(Settings(home=tmp_path))
        assert isinstance(state, SqliteState)
        await state._file.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchall())
        record = Job(id="a", kind="dump", target="x" * 1_000_000, lock="l")
        with pytest.raises(EngineUnavailable, match=r"disk is full\. Free some space"):
            await state.put("a", record)
        await state.close()

    asyncio.run(scenario())


def test_the_file_of_an_earlier_version_gets_its_indexes(tmp_path: Path) -> None:
    old = Job(id="a", kind="dump", target="s", lock="dump:s", parent="p")
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as database:
        database.execute(
            "CREATE TABLE records (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, position INTEGER NOT NULL, "
            "PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )
        database.execute("INSERT INTO records VALUES ('Job', 'a', ?, 1)", (old.model_dump_json(),))
        database.commit()

    async def scenario() -> None:
        state = await open_state(Settings(home=tmp_path))
        assert await state.find(Job, {"parent": "p"}) == [old]
        await state.close()

    asyncio.run(scenario())
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert len(names & {f"records_{k.__name__.lower()}_{'_'.join(f)}" for k, i in INDEXES.items() for f in i}) == sum(
        len(indexes) for indexes in INDEXES.values()
    )
