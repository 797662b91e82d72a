"""The contract of catalogues, on every engine."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sourcebook.backends import open_catalog
from sourcebook.errors import NotFound
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.releases.model import Api
from sourcebook.ports.catalog import INDEXES, Catalog
from sourcebook.settings import Settings

pytestmark = pytest.mark.usefixtures("catalog_engine")


def run(home: Path, scenario: Callable[[Catalog], Awaitable[None]]) -> None:
    async def main() -> None:
        catalog = await open_catalog(Settings(home=home))
        try:
            await scenario(catalog)
        finally:
            await catalog.close()

    asyncio.run(main())


def job(name: str, **fields: object) -> Job:
    return Job.model_validate({"id": name, "kind": "dump", "target": "t", "lock": "dump:t", **fields})


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        assert await catalog.get(Job, "a") is None
        written = job("a", warnings=["ü", "'; DROP TABLE records; --"])
        await catalog.put("a", written)
        assert await catalog.get(Job, "a") == written
        assert await catalog.get(Api, "a") is None

    run(tmp_path, scenario)


def test_insert_writes_only_what_is_not_there(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        assert await catalog.insert("a", job("a"))
        assert not await catalog.insert("a", job("a", target="other"))
        found = await catalog.get(Job, "a")
        assert found is not None
        assert found.target == "t"

    run(tmp_path, scenario)


def test_updates_from_many_tasks_are_all_kept(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        await catalog.put("a", job("a"))
        other = await open_catalog(Settings(home=tmp_path))
        await asyncio.gather(
            *(
                store.update(Job, "a", lambda j: j.model_copy(update={"attempt": j.attempt + 1}))
                for store in (catalog, other)
                for _ in range(20)
            )
        )
        await other.close()
        found = await catalog.get(Job, "a")
        assert found is not None
        assert found.attempt == 40

    run(tmp_path, scenario)


def test_an_update_that_raises_changes_nothing(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        await catalog.put("a", job("a", state="succeeded"))
        with pytest.raises(Exception, match="cannot become running"):
            await catalog.update(Job, "a", lambda j: j.move_to(JobState.RUNNING))
        with pytest.raises(NotFound):
            await catalog.update(Job, "b", lambda j: j)
        created = await catalog.update(Job, "b", lambda j: j.model_copy(update={"attempt": 1}), default=job("b"))
        assert created.attempt == 1
        assert (await catalog.get(Job, "b")) == created

    run(tmp_path, scenario)


def test_find_filters_sorts_and_limits(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        for name, state in (("a", "queued"), ("b", "failed"), ("c", "running"), ("d", "queued")):
            await catalog.put(name, job(name, state=state))
        assert [j.id for j in await catalog.find(Job)] == ["a", "b", "c", "d"]
        assert [j.id for j in await catalog.find(Job, {"state": "queued"})] == ["a", "d"]
        assert [
            j.id for j in await catalog.find(Job, {"state": ("queued", "running")}, newest_first=True, limit=2)
        ] == ["d", "c"]
        assert await catalog.find(Job, {"state": "queued", "kind": "x"}) == []

    run(tmp_path, scenario)


def test_changes_are_seen_once_in_order(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        await catalog.put("a", job("a"))
        await catalog.put("b", job("b"))
        position, jobs = await catalog.changes(Job, 0)
        assert [j.id for j in jobs] == ["a", "b"]
        assert await catalog.changes(Job, position) == (position, [])
        await catalog.delete(Job, "b")
        await catalog.put("a", job("a", attempt=1))
        await catalog.put("c", job("c"))
        _, jobs = await catalog.changes(Job, position)
        assert [j.id for j in jobs] == ["a", "c"]

    run(tmp_path, scenario)


def test_the_position_is_where_new_changes_begin(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        assert await catalog.position(Job) == 0
        await catalog.put("a", job("a"))
        await catalog.put("x", Api(name="x", config="x"))
        position = await catalog.position(Job)
        assert (position, [j.id for j in (await catalog.changes(Job, 0))[1]]) == (
            (await catalog.changes(Job, 0))[0],
            ["a"],
        )
        assert await catalog.changes(Job, position) == (position, [])
        await catalog.put("b", job("b"))
        assert [j.id for j in (await catalog.changes(Job, position))[1]] == ["b"]
        assert await catalog.position(Job) > await catalog.position(Api) > position

    run(tmp_path, scenario)


def test_delete_says_whether_it_was_there(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        await catalog.put("a", job("a"))
        assert await catalog.delete(Job, "a")
        assert not await catalog.delete(Job, "a")

    run(tmp_path, scenario)


def test_records_are_counted_without_being_read(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        for name, state in (("a", "queued"), ("b", "failed"), ("c", "running"), ("d", "queued")):
            await catalog.put(name, job(name, state=state))
        await catalog.put("x", Api(name="x", config="x"))
        assert await catalog.count(Job) == 4
        assert await catalog.count(Job, {"state": ("queued", "running")}) == 3
        assert await catalog.count(Job, {"state": JobState.QUEUED, "kind": "dump"}) == 2
        assert await catalog.count(Job, {"state": JobState.QUEUED, "kind": "x"}) == 0

    run(tmp_path, scenario)


def test_every_declared_field_can_be_looked_for(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        await catalog.put("a", job("a", parent="p", parts_open=True, state="running"))
        await catalog.put("b", job("b", parent="q"))
        for where in ({"parent": "p"}, {"parts_open": True}, {"lock": "dump:t", "state": "running"}):
            assert [j.id for j in await catalog.find(Job, where)] == ["a"], where
        for kind, indexes in INDEXES.items():
            for fields in indexes:
                assert await catalog.find(kind, dict.fromkeys(fields, "nothing")) == []

    run(tmp_path, scenario)


def test_a_search_that_would_read_every_record_is_refused(tmp_path: Path) -> None:
    async def scenario(catalog: Catalog) -> None:
        for ask in (catalog.find, catalog.count):
            with pytest.raises(ValueError, match="no index of Job begins with one of attempt"):
                await ask(Job, {"attempt": 1})
            with pytest.raises(ValueError, match="no index of Api begins with one of release"):
                await ask(Api, {"release": "x"})

    run(tmp_path, scenario)
