"""A source in a temporary folder, uploaded with the embedded stores."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVar, cast

import pytest

from sourcebook.backends import open_documents, open_files, open_inline_bus, open_locks, open_search, open_state
from sourcebook.context import Context
from sourcebook.errors import SourcebookError
from sourcebook.flow.messages import UploadDump, UploadReady
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.documents.record import read_document
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.sources.model import Dump, DumpFile, Plugin, SourceState, Upload
from sourcebook.settings import Settings
from sourcebook.worker import JobRun
from sourcebook_uploader.tasks import upload

ResultT = TypeVar("ResultT")


@dataclass
class Outcome:
    """What an upload left."""

    message: UploadReady
    documents: list[dict[str, Any]]
    mapping: Mapping
    record: Upload
    warnings: list[str]


class SourceBench:
    """One source `bench` whose parser the test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plugin = folder / "plugins" / "bench"
        self.plugin.mkdir(parents=True)
        self.overrides: dict[str, Any] = {"run_bytes": 64 * 1024}

    def write(self, parser: str, **uploader: Any) -> None:
        """Write parser.py and the manifest; `uploader` are further keys of its uploader section."""
        (self.plugin / "parser.py").write_text(dedent(parser))
        manifest = {
            "__metadata__": {"url": "https://example.org", "license": "CC0"},
            "dumper": {"data_url": "data.txt"},
            "uploader": {"parser": "parser:load_data", **uploader},
        }
        (self.plugin / "manifest.json").write_text(json.dumps(manifest))

    def settings(self) -> Settings:
        return Settings(home=self.folder / "home", **self.overrides)

    @asynccontextmanager
    async def open(self, *, with_dump: bool = True) -> AsyncIterator[Context]:
        """Open the stores, with the plugin registered and its dump in place."""
        settings = self.settings()
        settings.home.mkdir(parents=True, exist_ok=True)
        documents = await open_documents(settings)
        state = await open_state(settings)
        engines: Any = {
            "state": state,
            "documents": documents,
            "files": await open_files(settings),
            "locks": await open_locks(settings),
            "search": await open_search(settings, documents),
            "bus": open_inline_bus(),
        }
        context = Context(settings, **engines, caller=ANONYMOUS)
        try:
            await state.put("bench", Plugin(name="bench", folder=str(self.plugin)))
            if with_dump:
                await self._add_dump(context)
            yield context
        finally:
            await documents.close()
            await state.close()

    async def _add_dump(self, context: Context) -> None:
        key = "archive/bench/1"
        if not await context.files.exists(key):
            staging = await context.files.staging(key)
            (staging / "data.txt").write_text("one\ntwo\n")
            await context.files.publish(key)
        await self.make_dump(context, "1", key)

    async def make_dump(self, context: Context, version: str, folder: str = "archive/bench/1") -> None:
        """Make a dump of this version the current one."""
        files = [DumpFile(name="data.txt", size=8, sha256="")]
        dump = Dump(id=f"bench@{version}", source="bench", version=version, folder=folder, files=files)
        await context.state.put(dump.id, dump)
        await context.state.update(
            SourceState,
            "bench",
            lambda s: s.model_copy(update={"dump": dump.id}),
            default=SourceState(name="bench"),
        )

    async def start(self, context: Context, job_id: str | None = None) -> JobRun:
        """Return the run of a new job."""
        job = Job(kind="upload", target="bench/bench", lock="upload:bench/bench", state=JobState.RUNNING)
        if job_id is not None:
            job = job.model_copy(update={"id": job_id})
        await context.state.put(job.id, job)
        return JobRun(context, job)

    async def upload(self, context: Context, *, job_id: str | None = None, **options: bool) -> Outcome:
        """Upload, and return what it left; `options` are those of the command."""
        run = await self.start(context, job_id)
        message = await upload(context, run, UploadDump(source="bench", uploader="bench", **options))
        record = await context.state.get(Upload, message.upload)
        mapping = await context.state.get(Mapping, "bench/bench")
        assert record is not None
        assert mapping is not None
        documents = [read_document(r) async for batch in context.documents.scan(record.collection) for r in batch]
        return Outcome(message, documents, mapping, record, run.warnings)

    def run(self, work: Callable[[Context], Awaitable[ResultT]], *, with_dump: bool = True) -> ResultT:
        """Run `work` with open stores."""

        async def main() -> ResultT:
            async with self.open(with_dump=with_dump) as context:
                return await work(context)

        return asyncio.run(main())

    def upload_once(self) -> Outcome:
        """Open the stores, upload, close them."""
        return self.run(self.upload)

    def upload_fails(self, kind: type[SourcebookError]) -> SourcebookError:
        """Upload, and return the error with which that fails."""
        with pytest.raises(kind) as caught:
            self.upload_once()
        return caught.value

    def state(self) -> SourceState:
        """Return what is current."""

        async def read(context: Context) -> SourceState:
            return cast("SourceState", await context.state.get(SourceState, "bench"))

        return self.run(read)
