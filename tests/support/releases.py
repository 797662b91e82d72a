"""Two machines: one that publishes builds, one that installs them; and a job whose process is killed in the middle."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.publishing.commands import start_install, start_publish
from sourcebook.settings import Settings
from sourcebook.worker import JobRun, execute_job, run_queued_jobs

MAPPING: dict[str, dict[str, Any]] = {"word": {"type": "keyword"}, "number": {"type": "integer"}}
Documents = dict[str, dict[str, Any]]


@asynccontextmanager
async def open_machine(home: Path, **settings: Any) -> AsyncIterator[Context]:
    """Open the engines of one machine, with a queue of its own."""
    options = {"lock_ttl": timedelta(seconds=1), "batch_documents": 10, **settings}
    async with open_context(Settings(home=home, **options), ANONYMOUS, bus=open_inline_bus()) as context:
        yield context


def play(tmp_path: Path, scenario: Callable[[Context, Context], Awaitable[None]], **settings: Any) -> None:
    """Run a scenario with a machine that publishes and one that installs."""

    async def main() -> None:
        async with (
            open_machine(tmp_path / "a", **settings) as publisher,
            open_machine(tmp_path / "b", **settings) as other,
        ):
            await scenario(publisher, other)

    asyncio.run(main())


def make_documents(count: int = 25, **changed: dict[str, Any]) -> Documents:
    """Documents `id000`, `id001` ...; `changed` replaces some, an empty one removes it."""
    documents: Documents = {f"id{n:03}": {"_id": f"id{n:03}", "word": "one", "number": n} for n in range(count)}
    for key, values in changed.items():
        documents[key] = {"_id": key, **values}
        if not values:
            del documents[key]
    return documents


async def add_build(context: Context, number: int, documents: Documents, **fields: Any) -> Build:
    """Store documents as build `genes_<number>`."""
    name = f"genes_{number}"
    async with context.documents.create(f"build~genes~{number}") as writer:
        await writer.write(sorted(make_record(document) for document in documents.values()))
        info = await writer.commit()
    values: dict[str, Any] = {
        "name": name,
        "config": "genes",
        "doc_type": "gene",
        "collection": info.name,
        "uploads": [],
    }
    values |= {"count": info.count, "digest": info.digest, "mapping": MAPPING, "finished_at": float(number)}
    build = Build.model_validate({**values, "metadata": {"build_version": str(number)}, **fields})
    await context.state.put(name, build)
    return build


async def read_all(context: Context, collection: str) -> dict[bytes, bytes]:
    """Return every record of a collection."""
    records: list[Record] = []
    async for batch in context.documents.scan(collection):
        records += batch
    return dict(records)


async def run(context: Context, job: Job) -> Job:
    """Run a job and those that it starts; return it as it ended."""
    await run_queued_jobs(context, cast("Any", context.bus))
    return await get_job(context, job.id)


async def publish(context: Context, build: str, url: str, mode: str = "auto") -> Job:
    """Publish a build and wait."""
    return await run(context, await start_publish(context, build, url, mode=mode))


async def install(context: Context, url: str, **options: Any) -> Job:
    """Install a release and wait until it is served."""
    return await run(context, await start_install(context, url, **options))


async def finish_killed(context: Context, job_id: str) -> Job:
    """Run a job whose worker was killed, as soon as its lock is free."""
    while not (await get_job(context, job_id)).is_finished:
        await execute_job(context, job_id)
        await asyncio.sleep(0.1)
    await run_queued_jobs(context, cast("Any", context.bus))
    return await get_job(context, job_id)


def run_until_killed(home: Path, job_id: str, *, step: str) -> int:
    """Run a job in a process of its own that kills itself when it reports a step; return its exit status."""
    command = [sys.executable, str(Path(__file__)), str(home), job_id, step]
    return subprocess.run(command, check=False, timeout=60, capture_output=True).returncode


async def _run_and_die(home: Path, job_id: str, step: str) -> None:
    progress = JobRun.progress

    async def report(self: JobRun, name: str, *arguments: Any, **options: Any) -> None:
        await progress(self, name, *arguments, **options)
        if name.startswith(step):
            signal.raise_signal(signal.SIGKILL)

    JobRun.progress = report  # type: ignore[method-assign,assignment]
    async with open_machine(home) as context:
        await execute_job(context, job_id)


if __name__ == "__main__":
    asyncio.run(_run_and_die(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
