"""A build configuration builds and releases by itself, once for each thing that is new."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.builds.news import find_news
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.schedules.commands import follow_chains
from sourcebook.hub.schedules.model import ChainState
from sourcebook.hub.sources.model import Plugin, SourceState, Upload


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    async def with_sources(context: Context) -> None:
        for name in ("a", "b"):
            await context.state.put(name, Plugin(name=name, folder=f"plugins/{name}"))
        await scenario(context)

    run_in_context(home, with_sources)


async def put_config(context: Context, **fields: Any) -> None:
    values = {"name": "c", "doc_type": "thing", "sources": ["*"], **fields}
    await build_commands.put_build_config(context, BuildConfig.model_validate(values))


async def upload(context: Context, source: str, number: int, digest: str = "") -> None:
    made = Upload(
        id=f"{source}/{source}@{number}",
        source=source,
        uploader=source,
        version=str(number),
        collection=f"upload~{source}.{source}~{number}",
        count=1,
        digest=digest or str(number),
        finished_at=float(number),
    )
    await context.state.put(made.id, made)
    await context.state.put(source, SourceState(name=source, uploads={source: made.id}))


async def finish(context: Context, job_id: str, state: JobState = JobState.SUCCEEDED) -> None:
    job = await context.state.get(Job, job_id)
    assert job
    if job.kind == "build" and state is JobState.SUCCEEDED:
        states = await context.state.find(SourceState)
        await add_build(context, job.command["build"], [upload for item in states for upload in item.uploads.values()])
    await context.state.put(job.id, job.move_to(JobState.RUNNING).move_to(state))


async def add_build(context: Context, name: str, uploads: list[str] | None = None) -> None:
    async with context.documents.create(f"build~c~{name}") as writer:
        await writer.write([make_record({"_id": "1"})])
        info = await writer.commit()
    fields = {"collection": info.name, "count": 1, "digest": info.digest, "uploads": uploads or []}
    made = Build.model_validate({"name": name, "config": "c", "doc_type": "thing", **fields})
    await context.state.put(name, made)


async def kinds(context: Context) -> list[str]:
    started = await follow_chains(context)
    found = [await context.state.get(Job, job_id) for job_id in started]
    return [job.kind for job in found if job]


def test_new_uploads_are_built_together_and_once(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await put_config(context, on_new_upload=True, build_version="%Y%m%d%H%M%S")
        assert await follow_chains(context) == []
        await upload(context, "a", 1)
        loading = Job(kind="upload", target="b/b", lock="upload:b/b")
        await context.state.put(loading.id, loading)
        await upload(context, "b", 1)
        assert await follow_chains(context) == []
        await context.state.delete(Job, loading.id)
        (job_id,) = await follow_chains(context)
        assert await follow_chains(context) == []
        await finish(context, job_id)
        assert await follow_chains(context) == []
        await upload(context, "a", 2, digest="1")  # the same documents
        assert await follow_chains(context) == []
        await upload(context, "b", 2)
        (job_id,) = await follow_chains(context)
        await finish(context, job_id, JobState.FAILED)
        assert await follow_chains(context) == []

    play(tmp_path, scenario)


def test_an_upload_while_a_build_runs_is_built_afterwards(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await put_config(context, on_new_upload=True)
        await upload(context, "a", 1)
        (job_id,) = await follow_chains(context)
        await upload(context, "a", 2)
        assert await follow_chains(context) == []  # busy
        await context.state.put("a", SourceState(name="a", uploads={"a": "a/a@1"}))
        await finish(context, job_id)
        await upload(context, "a", 2)
        assert await kinds(context) == ["build"]

    play(tmp_path, scenario)


def test_what_is_new_is_listed(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await put_config(context, sources=["a", "b/b"])
        await upload(context, "a", 1)
        (news,) = await find_news(context)
        assert (news.build, [(item.upload, item.version, item.built) for item in news.newer]) == (
            None,
            [("a/a", "1", None)],
        )
        await add_build(context, "c_1", ["a/a@1"])
        await upload(context, "a", 2)
        await upload(context, "b", 7)
        (news,) = await find_news(context, "c")
        assert news.build == "c_1"
        assert [(item.upload, item.version, item.built) for item in news.newer] == [
            ("a/a", "2", "1"),
            ("b/b", "7", None),
        ]
        assert await find_news(context, "d") == []

    play(tmp_path, scenario)


def test_a_new_build_is_released_to_every_api_of_its_configuration(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await put_config(context)
        await add_build(context, "c_0")
        await put_config(context, release="auto")
        assert await follow_chains(context) == []  # made before this was asked for
        await add_build(context, "c_1")
        (job_id,) = await follow_chains(context)
        job = await context.state.get(Job, job_id)
        assert job
        assert (job.kind, job.command["api"]) == ("index", "c")
        assert await follow_chains(context) == []
        await finish(context, job_id, JobState.FAILED)
        assert await follow_chains(context) == []
        for name in ("x", "y"):
            await context.state.put(name, Api(name=name, config="c"))
        await add_build(context, "c_2")
        assert await kinds(context) == ["index", "index"]

    play(tmp_path, scenario)


def test_what_a_person_released_is_not_released_again(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await put_config(context, release="auto")
        await add_build(context, "c_1")
        release = Release(
            name="c_1", build="c_1", config="c", doc_type="thing", collection="build~c~c_1", index="i", count=1
        )
        await context.state.put("c_1", release)
        await context.state.put("c", Api(name="c", config="c", release="c_1"))
        assert await follow_chains(context) == []

    play(tmp_path, scenario)


def test_a_chain_that_cannot_go_on_says_why_and_is_not_tried_again(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await put_config(context, on_new_upload=True, build_version="no/slash")
        await upload(context, "a", 1)
        assert await follow_chains(context) == []
        state = await context.state.get(ChainState, "c")
        assert state
        assert "cannot name a build" in (state.last_error or "")
        assert state.uploads == ["a/a@1"]

    play(tmp_path, scenario)
