"""Two machines with nothing but the engines in common, stand-ins of those in production, share an upload and a build in parts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.flow.messages import BuildDocuments, Message, UploadDump
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.documents.record import Record
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs import commands as job_commands
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.sources.model import Dump, DumpFile, Plugin, SourceState, Upload
from sourcebook.settings import Settings
from sourcebook.worker import execute_job

# Each call waits until both have begun: two machines must have taken one each.
PARSER = """
import time
from pathlib import Path

def jobs(self):
    return [(number, self.data_folder + "/data.txt") for number in range(2)]

def load_data(number, path):
    here = Path(__file__).parent
    (here / f"begun-{number}").touch()
    while len(list(here.glob("begun-*"))) < 2:
        time.sleep(0.02)
    for line in open(path):
        yield {"_id": line.strip() if line.startswith("s") else f"{line.strip()}{number}", "number": number}
"""
LINES = [f"id{number:03}" for number in range(100)] + ["shared"]


@asynccontextmanager
async def machine(home: Path, **settings: Any) -> AsyncIterator[Context]:
    async with open_context(
        Settings(home=home, batch_documents=20, **settings), ANONYMOUS, bus=open_inline_bus()
    ) as context:
        yield context


async def prepare(context: Context, plugin: Path) -> None:
    plugin.mkdir(exist_ok=True)
    (plugin / "parser.py").write_text(PARSER)
    uploader = {"parser": "parser:load_data", "parallelizer": "parser:jobs", "on_duplicates": "ignore"}
    (plugin / "manifest.json").write_text(json.dumps({"dumper": {"data_url": "data.txt"}, "uploader": uploader}))
    staging = await context.files.staging("archive/p/1")
    (staging / "data.txt").write_text("\n".join(LINES))
    await context.files.publish("archive/p/1")
    files = [DumpFile(name="data.txt", size=1, sha256="")]
    dump = Dump(id="p@1", source="p", version="1", folder="archive/p/1", files=files)
    await context.state.put(dump.id, dump)
    await context.state.put("p", SourceState(name="p", dump=dump.id))
    await context.state.put("p", Plugin(name="p", folder=str(plugin)))
    await context.state.put("c", BuildConfig(name="c", doc_type="thing", sources=["p"]))


async def serve(queue: "asyncio.Queue[tuple[str, str]]", context: Context) -> None:
    while True:
        _, job_id = await queue.get()
        await execute_job(context, job_id)


async def run(context: Context, command: Message) -> Job:
    job = await job_commands.submit(context, command)
    async for seen in job_answers.watch_job(context, job.id):
        job = seen
    assert job.state is JobState.SUCCEEDED, job.error
    return job


async def load(context: Context) -> tuple[Upload, dict[str, Any], Build, list[Record]]:
    """Upload and build; return what that made."""
    uploaded = await run(context, UploadDump(source="p", uploader="p"))
    upload = await context.state.get(Upload, (uploaded.result or {})["upload"])
    mapping = await context.state.get(Mapping, "p/p")
    await run(context, BuildDocuments(config="c", build="c_1", mode="full"))
    build = await context.state.get(Build, "c_1")
    assert upload
    assert mapping
    assert build
    records = [record async for batch in context.documents.scan(build.collection) for record in batch]
    return upload, mapping.inferred, build, records


@pytest.mark.parametrize(
    ("documents_engine", "state_engine", "locks_engine", "files_engine"),
    [("secantus", "secantus", "valkey", "s3")],
    indirect=True,
)
@pytest.mark.usefixtures("documents_engine", "state_engine", "locks_engine", "files_engine")
def test_two_machines_make_what_one_makes(tmp_path: Path) -> None:
    async def main() -> None:
        one = {"documents_url": "lmdb:", "state_url": "sqlite:", "locks_url": "sqlite:", "files_url": "file:"}
        async with machine(tmp_path / "one", **one) as alone:
            await prepare(alone, tmp_path / "p")
            serving = asyncio.create_task(serve(alone.bus.queue, alone))  # type: ignore[attr-defined]
            upload, mapping, build, records = await load(alone)
            serving.cancel()
        for flag in (tmp_path / "p").glob("begun-*"):
            flag.unlink()
        options = {"parts": 2, "part_documents": 50}
        async with machine(tmp_path / "a", **options) as first, machine(tmp_path / "b", **options) as second:
            await prepare(first, tmp_path / "p")
            queue = first.bus.queue  # type: ignore[attr-defined]
            workers = [asyncio.create_task(serve(queue, context)) for context in (first, second)]
            found = await load(first)
            for worker in workers:
                worker.cancel()
            assert (found[0].count, found[0].digest, found[1]) == (upload.count, upload.digest, mapping)
            assert (found[2].count, found[2].digest, found[3]) == (build.count, build.digest, records)
            kinds = [job.kind for job in await first.state.find(Job) if job.parent]
            assert sorted(kinds) == ["merge"] * 2 + ["parse"] * 2
            assert sorted(await first.documents.names()) == sorted([found[0].collection, found[2].collection])
            assert await second.files.keys("parts") == []
            await second.documents.drop(found[2].collection)
            assert await first.documents.names() == [found[0].collection]

    asyncio.run(main())
