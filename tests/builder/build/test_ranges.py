"""A build over ranges of ids equals the build in one go, whatever the sources, and survives what happens to its parts."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.hub.builds.commands import put_build_config, start_build
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.sources.model import Plugin, SourceState, Upload
from sourcebook.worker import Outcome, execute_job, run_queued_jobs
from sourcebook_builder.build import ranges

Documents = dict[str, dict[str, Any]]
SOURCES = ("a", "b", "c")
FIELDS = {"v": {"type": "integer"}, "w": {"type": "keyword"}}


class Built(NamedTuple):
    """What a build is, apart from its name and the time."""

    records: list[Record]
    total: int
    digest: str
    dropped: dict[str, int]
    dropped_examples: dict[str, list[str]]
    mapping: dict[str, Any]
    root_keys: Any


async def add_upload(context: Context, source: str, documents: Documents, *, merge: bool = False, turn: int = 1) -> str:
    name = f"upload~{source}.{source}~{turn}"
    async with context.documents.create(name) as writer:
        await writer.write(sorted(make_record({"_id": key, **body}) for key, body in documents.items()))
        info = await writer.commit()
    upload = Upload(
        id=f"{source}/{source}@{turn}",
        source=source,
        uploader=source,
        version=str(turn),
        collection=name,
        count=info.count,
        digest=info.digest,
        merge=merge,
    )
    await context.state.put(upload.id, upload)
    await context.state.put(source, SourceState(name=source, uploads={source: upload.id}))
    await context.state.insert(source, Plugin(name=source, folder=f"plugins/{source}"))
    await context.state.insert(f"{source}/{source}", Mapping(name=f"{source}/{source}", committed=FIELDS))
    return name


async def start(context: Context, config: str = "c", **options: Any) -> Job:
    values = {"name": config, "doc_type": "thing", "sources": ["*"], **options}
    await put_build_config(context, BuildConfig.model_validate(values))
    return await start_build(context, config, mode="full")


async def read_build(context: Context, job: Job) -> Built:
    ended = await get_job(context, job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error
    assert ended.result
    build = await context.state.get(Build, ended.result["build"])
    assert build
    records = [record async for batch in context.documents.scan(build.collection) for record in batch]
    info = await context.documents.info(build.collection)
    assert info
    assert (info.count, info.digest) == (build.count, build.digest)
    told = (build.count, build.digest, build.dropped, build.dropped_examples, build.mapping)
    return Built(records, *told, build.metadata["_root_keys"])


async def build(context: Context, config: str = "c", **options: Any) -> Built:
    job = await start(context, config, **options)
    await run_queued_jobs(context, cast("Any", context.bus))
    return await read_build(context, job)


async def parts_of(context: Context, job: Job) -> list[Job]:
    return await context.state.find(Job, {"parent": job.id})


async def check_nothing_left(context: Context) -> None:
    kinds = {name.partition("~")[0] for name in await context.documents.names()}
    assert kinds <= {"upload", "build"}


def number_documents(first: int, count: int) -> Documents:
    return {f"id{number:04}": {"v": number} for number in range(first, first + count)}


ids = st.text("abcdé~", min_size=1, max_size=3) | st.sampled_from(["x" * 511, "x" * 512])
bodies = st.fixed_dictionaries({}, optional={"v": st.integers(0, 3), "w": st.sampled_from(["k", "l"])})


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sources=st.lists(st.tuples(st.dictionaries(ids, bodies, max_size=25), st.booleans()), min_size=1, max_size=3),
    root=st.sampled_from([[], ["a"], ["!a"], ["b", "c"]]),
    parts=st.integers(2, 8),
    size=st.integers(1, 9),
)
@example(sources=[({"k": {}}, False), ({f"k{n:03}": {} for n in range(60)}, True)], root=["a"], parts=6, size=4)
def test_ranges_make_the_same_build_as_one_go(
    tmp_path_factory: pytest.TempPathFactory,
    sources: list[tuple[Documents, bool]],
    root: list[str],
    parts: int,
    size: int,
) -> None:
    sources[0][0]["k"] = {"v": 1}
    root = root if len(sources) == len(SOURCES) else [rule for rule in root if rule == "a"]
    home = tmp_path_factory.mktemp("home")
    found: dict[int, Built] = {}

    async def scenario(context: Context) -> None:
        if not found:
            for name, (documents, merge) in zip(SOURCES, sources, strict=False):
                await add_upload(context, name, documents, merge=merge)
        job = await start(context, f"c{context.settings.parts}", root=root)
        await run_queued_jobs(context, cast("Any", context.bus))
        if (await get_job(context, job.id)).state is JobState.FAILED:  # the root has no documents
            assert sources[0][0]
            return
        found[context.settings.parts] = await read_build(context, job)
        await check_nothing_left(context)

    for count in (1, parts):
        run_in_context(home, scenario, parts=count, part_documents=1, batch_documents=size)
    assert found.get(1) == found.get(parts)


@pytest.mark.parametrize(("parts", "part_documents", "expected"), [(4, 50, 4), (4, 150, 2), (4, 201, 0), (1, 1, 0)])
def test_a_build_is_split_only_where_its_parts_are_large(
    tmp_path: Path, parts: int, part_documents: int, expected: int
) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", number_documents(0, 200))
        await add_upload(context, "b", number_documents(100, 200))
        job = await start(context)
        await run_queued_jobs(context, cast("Any", context.bus))
        assert (await read_build(context, job)).total == 300
        read = [part.progress.done for part in await parts_of(context, job)]
        assert len(read) == expected
        assert all(0.8 * 400 / expected < count < 1.2 * 400 / expected for count in read)

    run_in_context(tmp_path, scenario, parts=parts, part_documents=part_documents)


def test_an_upload_that_is_replaced_while_a_part_waits_begins_the_build_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sourcebook.worker.RETRY_SECONDS", 0.01)
    merge, replaced = ranges._merge, list[str]()

    async def scenario(context: Context) -> None:
        old = await add_upload(context, "a", number_documents(0, 100))

        async def replace_first(*arguments: Any, **options: Any) -> Any:
            if options["start"] is not None and not replaced:
                replaced.append(await add_upload(context, "a", number_documents(50, 100), turn=2))
                await context.documents.drop(old)
            return await merge(*arguments, **options)

        monkeypatch.setattr(ranges, "_merge", replace_first)
        built = await build(context)
        assert [key for key, _ in built.records] == [f"id{number:04}".encode() for number in range(50, 150)]
        await check_nothing_left(context)

    run_in_context(tmp_path, scenario, parts=3, part_documents=10)


def test_a_build_that_died_after_the_join_begins_again_from_its_parts(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", number_documents(0, 100))
        job = await start(context)
        join = type(context.documents).join

        async def die(*arguments: Any) -> None:
            await join(*arguments)
            raise asyncio.CancelledError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(context.documents), "join", die)
            with pytest.raises(asyncio.CancelledError):
                await execute_job(context, job.id)
        assert sum(name.startswith("part~") for name in await context.documents.names()) == 4
        assert await execute_job(context, job.id) is Outcome.DONE
        assert (await read_build(context, job)).total == 100
        assert [part.attempt for part in await parts_of(context, job)] == [1, 1, 1, 1]
        await check_nothing_left(context)

    run_in_context(tmp_path, scenario, parts=4, part_documents=10, lock_ttl=timedelta(seconds=1))


def test_the_next_build_may_be_incremental_on_one_that_was_joined(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", number_documents(0, 100))
        await build(context)
        job = await start_build(context, "c")
        await run_queued_jobs(context, cast("Any", context.bus))
        assert (await read_build(context, job)).total == 100
        ended = await get_job(context, job.id)
        assert ended.result
        assert ended.result["incremental"]

    run_in_context(tmp_path, scenario, parts=4, part_documents=10)
