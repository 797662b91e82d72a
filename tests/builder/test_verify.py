"""`verify` reads everything that is stored and names what is damaged: collections, indices, and whose they are."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from support.context import run_in_context
from support.releases import add_build, make_documents

from sourcebook.context import Context
from sourcebook.errors import NotFound
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.schedules.commands import find_schedules
from sourcebook.hub.sources.model import SourceState, Upload
from sourcebook.hub.upkeep.verify import start_verify
from sourcebook.worker import run_queued_jobs


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    run_in_context(home, scenario)


async def store(context: Context) -> None:
    """An upload, a build, and an API that serves the build."""
    build = await add_build(context, 1, make_documents())
    async with context.search.create("i", collection=build.collection, properties=build.mapping, settings={}) as writer:
        async for batch in context.documents.scan(build.collection):
            await writer.add(batch)
        await writer.commit()
    values = build.model_dump(include={"config", "doc_type", "collection", "count", "mapping", "metadata"})
    await context.state.put("r", Release(name="r", build=build.name, index="i", **values))
    await context.state.put("api", Api(name="api", config="genes", release="r"))
    async with context.documents.create("upload~s.s~1") as collection:
        async for batch in context.documents.scan(build.collection):
            await collection.write(batch)
        info = await collection.commit()
    upload = Upload(
        id="s/s@1", source="s", uploader="s", version="1", collection=info.name, count=info.count, digest=info.digest
    )
    await context.state.put(upload.id, upload)
    await context.state.put("s", SourceState(name="s", uploads={"s": upload.id}))


async def verify(context: Context, name: str | None = None) -> Job:
    job = await start_verify(context, name)
    await run_queued_jobs(context, cast("Any", context.bus))
    return await get_job(context, job.id)


def rot(path: Path, old: bytes = b'"word":"one"', new: bytes = b'"word":"two"') -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new, 1))
    assert path.read_bytes() != data


def test_what_is_whole_is_said_to_be(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await store(context)
        job = await verify(context)
        assert (job.state, job.result) == (JobState.SUCCEEDED, {"checked": 3, "documents": 75})
        for name, checked in (("s", 1), ("s/s", 1), ("genes_1", 2), ("genes", 1), ("api", 2)):
            assert ((await verify(context, name)).result or {})["checked"] == checked
        with pytest.raises(NotFound, match="Nothing is stored under 'x'"):
            await verify(context, "x")

    play(tmp_path, scenario)


def test_damaged_documents_are_named_with_the_upload_or_build_that_has_them(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await store(context)
        rot(tmp_path / "documents" / "upload~s.s~1" / "data.mdb")
        job = await verify(context)
        assert job.error
        assert (job.state, job.error.code) == (JobState.FAILED, "store_damaged")
        assert "1 of 3 collections and indices are damaged. upload s/s (upload~s.s~1): " in job.error.message
        assert "the document 'id" in job.error.message
        assert (await verify(context, "genes_1")).state is JobState.SUCCEEDED
        (tmp_path / "documents" / "build~genes~1" / "data.mdb").write_bytes(b"")
        job = await verify(context)
        assert job.error
        assert "build genes_1 (build~genes~1): data.mdb has 0 bytes instead of" in job.error.message

    play(tmp_path, scenario)


def test_damaged_files_of_an_index_are_named(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await store(context)
        for path in sorted((tmp_path / "search" / "i").iterdir()):
            if path.name in {"sourcebook.json", ".lock"} or path.suffix == ".lock":
                continue
            data = path.read_bytes()
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
            job = await verify(context, "api")
            assert job.error, path.name
            assert f"index of release r (API api) (i): {path.name} has the checksum" in job.error.message
            path.write_bytes(data)
        assert (await verify(context)).state is JobState.SUCCEEDED

    play(tmp_path, scenario)


def test_what_is_gone_although_the_state_names_it_is_damage(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await store(context)
        await context.documents.drop("upload~s.s~1")
        await context.search.drop("i")
        job = await verify(context)
        assert job.error
        assert "There is no collection 'upload~s.s~1'" in job.error.message
        assert "There is no index i" in job.error.message

    play(tmp_path, scenario)


def test_everything_is_verified_once_a_week(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        (found,) = [item for item in await find_schedules(context) if item.kind == "verify"]
        assert (found.target, found.cron) == ("home", "40 2 * * 0")

    play(tmp_path, scenario)
