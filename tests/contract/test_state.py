"""The contract of state stores, on every engine."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sourcebook.backends import open_state
from sourcebook.errors import NotFound, RecordTooNew
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.releases.model import Api
from sourcebook.ports import records
from sourcebook.ports.state import INDEXES, StateStore
from sourcebook.settings import Settings

pytestmark = pytest.mark.usefixtures("state_engine")


def run(home: Path, scenario: Callable[[StateStore], Awaitable[None]]) -> None:
    async def main() -> None:
        state = await open_state(Settings(home=home))
        try:
            await scenario(state)
        finally:
            await state.close()

    asyncio.run(main())


def job(name: str, **fields: object) -> Job:
    return Job.model_validate({"id": name, "kind": "dump", "target": "t", "lock": "dump:t", **fields})


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        assert await state.get(Job, "a") is None
        written = job("a", warnings=["ü", "'; DROP TABLE records; --"])
        await state.put("a", written)
        assert await state.get(Job, "a") == written
        assert await state.get(Api, "a") is None

    run(tmp_path, scenario)


def test_insert_writes_only_what_is_not_there(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        assert await state.insert("a", job("a"))
        assert not await state.insert("a", job("a", target="other"))
        found = await state.get(Job, "a")
        assert found is not None
        assert found.target == "t"

    run(tmp_path, scenario)


def test_updates_from_many_tasks_are_all_kept(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        await state.put("a", job("a"))
        other = await open_state(Settings(home=tmp_path))
        await asyncio.gather(
            *(
                store.update(Job, "a", lambda j: j.model_copy(update={"attempt": j.attempt + 1}))
                for store in (state, other)
                for _ in range(20)
            )
        )
        await other.close()
        found = await state.get(Job, "a")
        assert found is not None
        assert found.attempt == 40

    run(tmp_path, scenario)


def test_an_update_that_raises_changes_nothing(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        await state.put("a", job("a", state="succeeded"))
        with pytest.raises(Exception, match="cannot become running"):
            await state.update(Job, "a", lambda j: j.move_to(JobState.RUNNING))
        with pytest.raises(NotFound):
            await state.update(Job, "b", lambda j: j)
        created = await state.update(Job, "b", lambda j: j.model_copy(update={"attempt": 1}), default=job("b"))
        assert created.attempt == 1
        assert (await state.get(Job, "b")) == created

    run(tmp_path, scenario)


def test_find_filters_sorts_and_limits(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        for name, now in (("a", "queued"), ("b", "failed"), ("c", "running"), ("d", "queued")):
            await state.put(name, job(name, state=now))
        assert [j.id for j in await state.find(Job)] == ["a", "b", "c", "d"]
        assert [j.id for j in await state.find(Job, {"state": "queued"})] == ["a", "d"]
        assert [j.id for j in await state.find(Job, {"state": ("queued", "running")}, newest_first=True, limit=2)] == [
            "d",
            "c",
        ]
        assert await state.find(Job, {"state": "queued", "kind": "x"}) == []

    run(tmp_path, scenario)


def test_pages_go_on_behind_the_last_record_also_where_it_is_gone(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        for name in "abcdef":
            await state.put(name, job(name, state="failed" if name == "c" else "queued"))
        await state.put("c", Api(name="c", config="x"))
        for where, expected in (
            (None, "abcdef"),
            ({"state": "queued"}, "abdef"),
            ({"state": ("queued", "failed")}, "abcdef"),
        ):
            for newest_first in (False, True):
                names, last = "", None
                while page := await state.find(Job, where, newest_first=newest_first, after=last, limit=2):
                    names += "".join(j.id for j in page)
                    last = page[-1].id
                assert names == (expected[::-1] if newest_first else expected)
        await state.delete(Job, "d")
        assert [j.id for j in await state.find(Job, after="d")] == ["e", "f"]
        assert [j.id for j in await state.find(Job, newest_first=True, after="d", limit=1)] == ["c"]
        assert await state.find(Job, after="f") == []

    run(tmp_path, scenario)


def test_a_record_of_an_earlier_version_is_migrated_and_rewritten_at_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shout(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "output": f"{fields['output']}!"}

    async def scenario(state: StateStore) -> None:
        await state.put("a", job("a", output="old"))
        await state.put("b", job("b", output="old"))
        with monkeypatch.context() as later:
            later.setattr(records, "MIGRATIONS", {Job: (shout,)})
            assert [j.output for j in await state.find(Job, {"state": "queued"})] == ["old!", "old!"]
            assert [j.output for j in (await state.changes(Job, 0))[1]] == ["old!", "old!"]
            written = await state.update(Job, "a", lambda j: j.model_copy(update={"attempt": 1}))
            assert await state.get(Job, "a") == written
            assert (written.output, written.attempt) == ("old!", 1)
        # Which an earlier program, or this one before the upgrade, does not take for one of its own.
        with pytest.raises(RecordTooNew, match="kind Job"):
            await state.get(Job, "a")
        with pytest.raises(RecordTooNew):
            await state.update(Job, "a", lambda j: j)
        with pytest.raises(RecordTooNew):
            await state.find(Job)
        found = await state.get(Job, "b")
        assert found is not None
        assert found.output == "old"

    run(tmp_path, scenario)


def test_changes_are_seen_once_in_order(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        await state.put("a", job("a"))
        await state.put("b", job("b"))
        position, jobs = await state.changes(Job, 0)
        assert [j.id for j in jobs] == ["a", "b"]
        assert await state.changes(Job, position) == (position, [])
        await state.delete(Job, "b")
        await state.put("a", job("a", attempt=1))
        await state.put("c", job("c"))
        _, jobs = await state.changes(Job, position)
        assert [j.id for j in jobs] == ["a", "c"]

    run(tmp_path, scenario)


def test_the_position_is_where_new_changes_begin(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        assert await state.position(Job) == 0
        await state.put("a", job("a"))
        await state.put("x", Api(name="x", config="x"))
        position = await state.position(Job)
        assert (position, [j.id for j in (await state.changes(Job, 0))[1]]) == (
            (await state.changes(Job, 0))[0],
            ["a"],
        )
        assert await state.changes(Job, position) == (position, [])
        await state.put("b", job("b"))
        assert [j.id for j in (await state.changes(Job, position))[1]] == ["b"]
        assert await state.position(Job) > await state.position(Api) > position

    run(tmp_path, scenario)


def test_delete_says_whether_it_was_there(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        await state.put("a", job("a"))
        assert await state.delete(Job, "a")
        assert not await state.delete(Job, "a")

    run(tmp_path, scenario)


def test_records_are_counted_without_being_read(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        for name, now in (("a", "queued"), ("b", "failed"), ("c", "running"), ("d", "queued")):
            await state.put(name, job(name, state=now))
        await state.put("x", Api(name="x", config="x"))
        assert await state.count(Job) == 4
        assert await state.count(Job, {"state": ("queued", "running")}) == 3
        assert await state.count(Job, {"state": JobState.QUEUED, "kind": "dump"}) == 2
        assert await state.count(Job, {"state": JobState.QUEUED, "kind": "x"}) == 0

    run(tmp_path, scenario)


def test_every_declared_field_can_be_looked_for(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        await state.put("a", job("a", parent="p", parts_open=True, state="running"))
        await state.put("b", job("b", parent="q"))
        for where in ({"parent": "p"}, {"parts_open": True}, {"lock": "dump:t", "state": "running"}):
            assert [j.id for j in await state.find(Job, where)] == ["a"], where
        for kind, indexes in INDEXES.items():
            for fields in indexes:
                assert await state.find(kind, dict.fromkeys(fields, "nothing")) == []

    run(tmp_path, scenario)


def test_a_search_that_would_read_every_record_is_refused(tmp_path: Path) -> None:
    async def scenario(state: StateStore) -> None:
        for ask in (state.find, state.count):
            with pytest.raises(ValueError, match="no index of Job begins with one of attempt"):
                await ask(Job, {"attempt": 1})
            with pytest.raises(ValueError, match="no index of Api begins with one of release"):
                await ask(Api, {"release": "x"})

    run(tmp_path, scenario)
