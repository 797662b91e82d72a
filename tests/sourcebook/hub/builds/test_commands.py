"""Build configurations, builds and APIs as people see them."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import Busy, Conflict, InvalidName, MissingUpload, NotFound
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.releases import answers as release_answers
from sourcebook.hub.releases import commands as release_commands
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.sources.model import Plugin


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    async def with_source(context: Context) -> None:
        await context.state.put("a", Plugin(name="a", folder="plugins/a"))
        await scenario(context)

    run_in_context(home, with_source)


def config(name: str = "c", **fields: object) -> BuildConfig:
    return BuildConfig.model_validate({"name": name, "doc_type": "thing", "sources": ["a"], **fields})


async def add_build(context: Context, name: str, *, finished_at: float = 0.0) -> Build:
    collection = f"build~c~{name}"
    async with context.documents.create(collection) as writer:
        await writer.write([make_record({"_id": "1"})])
        info = await writer.commit()
    made = Build(
        name=name,
        config="c",
        doc_type="thing",
        collection=collection,
        count=info.count,
        digest=info.digest,
        uploads=[],
        finished_at=finished_at,
    )
    await context.state.put(name, made)
    return made


async def add_release(context: Context, build: Build) -> Release:
    index = f"c~{build.name}~1"
    async with context.search.create(index, collection=build.collection, properties={}, settings={}) as writer:
        await writer.commit()
    made = Release(
        name=build.name,
        build=build.name,
        config="c",
        doc_type="thing",
        collection=build.collection,
        index=index,
        count=1,
    )
    await context.state.put(made.name, made)
    return made


def test_a_configuration_is_stored_if_its_sources_exist(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await build_commands.put_build_config(context, config(_meta={"x": 1}))
        stored = await build_answers.get_build_config(context, "c")
        assert (stored.meta, await build_answers.list_build_configs(context)) == ({"x": 1}, [stored])
        await build_commands.put_build_config(context, config("d", sources=["*"]))
        with pytest.raises(NotFound, match="no registered source matches 'nope'"):
            await build_commands.put_build_config(context, config(sources=["a", "nope"]))
        with pytest.raises(InvalidName):
            await build_commands.put_build_config(context, config("../c"))
        await build_commands.delete_build_config(context, "d")
        with pytest.raises(NotFound, match="There are: c"):
            await build_answers.get_build_config(context, "d")

    play(tmp_path, scenario)


def test_a_build_is_started_once_and_named_after_its_version(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await build_commands.put_build_config(context, config(build_version="v1"))
        await add_build(context, "c_v1")
        job = await build_commands.start_build(context, "c")
        assert job.command == {"config": "c", "build": "c_v1_2", "mode": "auto"}
        with pytest.raises(Busy):
            await build_commands.start_build(context, "c")
        with pytest.raises(NotFound):
            await build_commands.start_build(context, "unknown")

    play(tmp_path, scenario)


def test_builds_are_listed_newest_first(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await build_commands.put_build_config(context, config())
        with pytest.raises(MissingUpload, match="sourcebook build c"):
            await build_answers.newest_build(context, "c")
        await add_build(context, "c_2", finished_at=1)
        await add_build(context, "c_1", finished_at=2)
        assert [build.name for build in await build_answers.list_builds(context, "c")] == ["c_1", "c_2"]
        assert (await build_answers.newest_build(context, "c")).name == "c_1"
        job = await build_commands.start_release(context, "c_1")
        assert (job.kind, job.command["build"], job.command["api"]) == ("index", "c_1", "c")
        with pytest.raises(Conflict, match="works with build"):
            await build_commands.delete_build(context, "c_1")

    play(tmp_path, scenario)


def test_what_an_api_serves_or_keeps_is_not_deleted(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first = await add_release(context, await add_build(context, "c_1"))
        second = await add_release(context, await add_build(context, "c_2"))
        await context.state.put("c", Api(name="c", config="c", release=second.name, history=[first.name]))
        for name in ("c_1", "c_2"):
            with pytest.raises(Conflict, match="'c' serves build"):
                await build_commands.delete_build(context, name)
        await release_commands.delete_api(context, "c")
        assert await context.search.names() == []
        await build_commands.delete_build(context, "c_1")
        assert await context.documents.names() == ["build~c~c_2"]
        with pytest.raises(NotFound):
            await build_answers.get_build(context, "c_1")

    play(tmp_path, scenario)


def test_rollback_goes_back_and_forth(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await context.state.put("c", Api(name="c", config="c", release="r3", history=["r2", "r1"]))
        api = await release_commands.rollback(context, "c")
        assert (api.release, api.history) == ("r2", ["r3", "r1"])
        api = await release_commands.rollback(context, "c", "r1")
        assert (api.release, api.history) == ("r1", ["r2", "r3"])
        with pytest.raises(Conflict, match="kept are: r2, r3"):
            await release_commands.rollback(context, "c", "r9")
        with pytest.raises(Conflict, match=r"was not rolled back already; say which to serve \(--to\): r2, r3"):
            await release_commands.rollback(context, "c")
        with pytest.raises(NotFound, match="There are: c"):
            await release_commands.rollback(context, "d")
        await context.state.put("new", Api(name="new", config="c"))
        with pytest.raises(Conflict, match="none"):
            await release_commands.rollback(context, "new")

    play(tmp_path, scenario)


def test_rolling_back_twice_goes_back_two_releases(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await _put_releases(context, "r1", "r2", "r3")
        await context.state.put("c", Api(name="c", config="c", release="r3", history=["r2", "r1"]))
        assert (await release_commands.rollback(context, "c")).release == "r2"
        api = await release_commands.rollback(context, "c")
        assert (api.release, api.rolled_back) == ("r1", ["r2", "r3"])

    play(tmp_path, scenario)


def test_a_release_that_someone_chose_again_is_gone_back_to(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await _put_releases(context, "r1", "r2", "r3")
        await context.state.put("c", Api(name="c", config="c", release="r3", history=["r2", "r1"]))
        await release_commands.rollback(context, "c", "r1")
        api = await release_commands.rollback(context, "c", "r3")
        assert (api.release, api.rolled_back) == ("r3", [])
        assert (await release_commands.rollback(context, "c")).release == "r1"

    play(tmp_path, scenario)


async def _put_releases(context: Context, *names: str) -> None:
    for number, name in enumerate(names):
        release = Release(name=name, build=name, config="c", doc_type="d", collection=name, index=name, count=0)
        await context.state.put(name, release.model_copy(update={"released_at": float(number)}))


def test_putting_an_api_does_not_move_its_release(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await context.state.put("c", Api(name="c", config="c", release="r1", history=["r0"]))
        api = await release_commands.put_api(context, Api(name="c", config="c", release="r9", max_age=5))
        assert (api.release, api.history, api.max_age) == ("r1", ["r0"], 5)
        fresh = await release_commands.put_api(context, Api(name="d", config="c", release="r9"))
        assert fresh.release is None
        assert [item.name for item in await release_answers.list_apis(context)] == ["c", "d"]
        with pytest.raises(InvalidName):
            await release_commands.put_api(context, Api(name="a/b", config="c"))

    play(tmp_path, scenario)
