"""`kill -9` in the middle of a diff and of an incremental build: what runs again gives the same, and nothing is left over."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.flow.messages import BuildDocuments, DiffBuilds
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.changes.commands import draft_upload_changes, record_changes
from sourcebook.hub.changes.folder import open_changes, read_changes
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.names import build_changes_key, build_upload_changes_key
from sourcebook.hub.sources.model import Plugin, SourceState, Upload
from sourcebook.worker import JobRun
from sourcebook_builder.build.build import build_documents
from sourcebook_builder.diff import diff_builds

DOCUMENTS = 2000
# Runs the command of argv in the home of argv, and stops for ever at the n-th call of a method, so that we can kill it there.
CHILD = """
import asyncio, sys, time
from pathlib import Path
from sourcebook.backends import open_inline_bus
from sourcebook.context import open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.changes import commands
from sourcebook.settings import Settings
sys.path[:0] = [sys.argv[1]]
import test_killed

home, what, owner, method, calls = Path(sys.argv[2]), *sys.argv[3:6], int(sys.argv[6])

async def main():
    async with open_context(Settings(home=home, batch_documents=100, lock_ttl=1), ANONYMOUS, bus=open_inline_bus()) as context:
        target = {"recorder": commands._Recorder, "documents": type(context.documents), "files": type(context.files)}[owner]
        original = getattr(target, method)
        left = [calls]
        def stop(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                print("here", flush=True)
                time.sleep(60)
            return original(*arguments, **options)
        setattr(target, method, stop)
        await getattr(test_killed, what)(context)

asyncio.run(main())
"""


def documents(version: int) -> list[Record]:
    changed = set(range(0, DOCUMENTS, 20)) if version > 1 else set()
    return sorted(
        make_record({"_id": f"id{number:05}", "v": version if number in changed else 1}) for number in range(DOCUMENTS)
    )


async def make_run(context: Context) -> JobRun:
    job = Job(id="job", kind="x", target="x", lock="x")
    await context.state.put(job.id, job)
    return JobRun(context, job)


async def make_diff(context: Context) -> None:
    await diff_builds(context, await make_run(context), DiffBuilds(old="c_1", new="c_2"))


async def make_build(context: Context) -> None:
    await build_documents(context, await make_run(context), BuildDocuments(config="c", build="c_2", mode="incremental"))


async def add_upload(context: Context, version: int, base: Upload | None) -> Upload:
    name = f"upload~a.a~{version}"
    async with context.documents.create(name) as writer:
        await writer.write(documents(version))
        info = await writer.commit()
    upload = Upload(
        id=f"a/a@{version}",
        source="a",
        uploader="a",
        version=str(version),
        collection=name,
        count=info.count,
        digest=info.digest,
    )
    if base is not None:

        async def ignore(*_: Any) -> None:
            pass

        key = build_upload_changes_key("a", "a", str(version))
        metadata = await record_changes(context, key, draft_upload_changes(base, upload), progress=ignore)
        assert metadata is not None
        found = {"base": base.id, "changes": metadata.counts, "changes_key": key}
        upload = upload.model_copy(update=found)
    await context.state.put(upload.id, upload)
    await context.state.put("a", SourceState(name="a", uploads={"a": upload.id}))
    return upload


async def prepare_build(context: Context) -> None:
    await context.state.put("a", Plugin(name="a", folder="a"))
    await context.state.put("a/a", Mapping(name="a/a", committed={"v": {"type": "integer"}}))
    await context.state.put("c", BuildConfig(name="c", doc_type="thing", sources=["a"]))
    first = await add_upload(context, 1, None)
    job = Job(id="first", kind="x", target="x", lock="x")
    await context.state.put(job.id, job)
    await build_documents(context, JobRun(context, job), BuildDocuments(config="c", build="c_1"))
    await add_upload(context, 2, first)


async def prepare_diff(context: Context) -> None:
    for version in (1, 2):
        async with context.documents.create(f"build~c~{version}") as writer:
            await writer.write(documents(version))
            info = await writer.commit()
        build = Build(
            name=f"c_{version}",
            config="c",
            doc_type="thing",
            collection=info.name,
            count=info.count,
            digest=info.digest,
            uploads=[],
        )
        await context.state.put(build.name, build)


def kill_in_the_middle(home: Path, what: str, owner: str, method: str, calls: int) -> None:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(home), what, owner, method, str(calls)]
    path = str(Path(__file__).parents[1])
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": path})
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"here\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()


def leftovers(home: Path) -> list[Path]:
    staged = [path for path in (home / "files" / ".staging").rglob("*") if path.is_file()]
    return [*staged, *(home / "documents" / ".new").iterdir()]


@pytest.mark.parametrize(("owner", "method", "calls"), [("recorder", "add", 10), ("files", "publish", 0)])
def test_a_diff_that_was_killed_is_made_again(tmp_path: Path, owner: str, method: str, calls: int) -> None:
    run_in_context(tmp_path, prepare_diff)
    kill_in_the_middle(tmp_path, "make_diff", owner, method, calls)

    async def scenario(context: Context) -> None:
        key = build_changes_key("c_2", "c_1")
        assert not await context.files.exists(key)
        await make_diff(context)
        folder = await open_changes(context, key)
        assert len(list(read_changes(folder.path))) == DOCUMENTS // 20

    run_in_context(tmp_path, scenario, lock_ttl=1)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("owner", "method", "calls"), [("documents", "get_many", 1), ("recorder", "add", 0), ("files", "publish", 0)]
)
def test_an_incremental_build_that_was_killed_is_made_again(
    tmp_path: Path, owner: str, method: str, calls: int
) -> None:
    run_in_context(tmp_path, prepare_build)
    kill_in_the_middle(tmp_path, "make_build", owner, method, calls)

    async def scenario(context: Context) -> None:
        assert await context.state.get(Build, "c_2") is None
        await make_build(context)
        build = await context.state.get(Build, "c_2")
        assert build is not None
        assert build.incremental
        assert [record async for batch in context.documents.scan(build.collection) for record in batch] == documents(2)
        assert sorted(await context.documents.names()) == sorted(
            ["upload~a.a~1", "upload~a.a~2", "build~c~first", build.collection]
        )

    run_in_context(tmp_path, scenario, lock_ttl=1)
    assert leftovers(tmp_path) == []
