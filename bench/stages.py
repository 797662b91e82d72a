"""One stage of Sourcebook in a process of its own, for `run.py` to measure. SOURCEBOOK_HOME says where the data are.

python bench/stages.py register FOLDER | dump | upload SOURCE | uploads | build [CONFIG] [--full] | index [CONFIG]
python bench/stages.py get N | query N

`uploads` has the workers of the broker that the settings name upload all sources at once.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import generate

from sourcebook.backends.inline.bus import InlineBus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.builds.answers import list_builds
from sourcebook.hub.builds.commands import put_build_config, start_build, start_release
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.releases.answers import get_api
from sourcebook.hub.releases.model import Release
from sourcebook.hub.sources.commands import add_plugin, start_dump, start_upload
from sourcebook.language.requests import FacetRequest, MatchQuery, SearchRequest
from sourcebook.logging import configure_logging
from sourcebook.settings import load_settings
from sourcebook.worker import run_queued_jobs

CONFIG = "things"
ALONE = "alpha_alone"  # one source as it is: documents of 10 fields
SEED = 20240229
# What the indexer does with a mapping is the same for every query: these are the shapes that people send.
QUERIES: dict[str, Callable[[random.Random], SearchRequest]] = {
    "one keyword": lambda rng: SearchRequest(query=f"symbol:GEN{rng.randrange(10_000)}"),
    "words, ranked": lambda rng: SearchRequest(
        query=(MatchQuery(f"{rng.choice(generate.WORDS)} {rng.choice(generate.WORDS)}", ("title", "summary")),)
    ),
    "keyword and word": lambda rng: SearchRequest(
        query=f"category:{rng.choice(generate.CATEGORIES)} AND title:{rng.choice(generate.WORDS)}"
    ),
    "range": lambda rng: SearchRequest(query=f"count:[{(low := rng.randrange(90_000))} TO {low + 500}]"),
    "all, one facet": lambda rng: SearchRequest(size=rng.randrange(1, 5), facets=(FacetRequest("category"),)),
}


@asynccontextmanager
async def open_hub() -> AsyncIterator[tuple[Context, InlineBus]]:
    """Open the engines under SOURCEBOOK_HOME, with a bus that runs the jobs here."""
    settings = load_settings()
    configure_logging(settings.log_level, as_json=settings.log_json)
    bus = InlineBus()
    async with open_context(settings, ANONYMOUS, bus=bus) as context:
        yield context, bus


async def run_jobs(start: Callable[[Context], Awaitable[Job | list[Job]]]) -> None:
    """Start jobs, run them to their end, and fail if one of them did."""
    async with open_hub() as (context, bus):
        started = await start(context)
        await run_queued_jobs(context, bus)
        for job in started if isinstance(started, list) else [started]:
            ended = await get_job(context, job.id)
            if ended.state is not JobState.SUCCEEDED:
                raise SystemExit(f"{ended.kind} {ended.target} {ended.state}: {ended.error}")
            print(json.dumps(ended.result))


async def register(folder: Path) -> None:
    async with open_hub() as (context, _):
        for source in generate.MAKERS:
            await add_plugin(context, folder / source)
        await put_build_config(context, BuildConfig(name=CONFIG, doc_type="thing", sources=list(generate.MAKERS)))
        await put_build_config(context, BuildConfig(name=ALONE, doc_type="thing", sources=["alpha"], builder="link"))


async def dump(context: Context) -> list[Job]:
    return [await start_dump(context, source, then_upload=False) for source in generate.MAKERS]


async def uploads() -> None:
    """Wait until workers have uploaded every source; print the seconds from the first start to the last end."""
    async with open_context(load_settings(), ANONYMOUS) as context:
        started = [job for source in generate.MAKERS for job in await start_upload(context, source)]
        while True:
            ended = [await get_job(context, job.id) for job in started]
            if all(job.is_finished for job in ended):
                break
            await asyncio.sleep(0.2)
    if any(job.state is not JobState.SUCCEEDED for job in ended):
        raise SystemExit("\n".join(f"{job.kind} {job.target} {job.state}: {job.error}" for job in ended))
    seconds = max(job.finished_at or 0.0 for job in ended) - min(job.started_at or 0.0 for job in ended)
    print(json.dumps({"seconds": seconds}))


async def index(context: Context, config: str) -> Job:
    newest = (await list_builds(context, config))[0]
    return await start_release(context, newest.name)


async def served_release(context: Context) -> Release:
    """Return the release that the API serves."""
    api = await get_api(context, CONFIG)
    release = await context.state.get(Release, api.release or "")
    if release is None:
        raise SystemExit("nothing is served yet: run `index` first")
    return release


async def get(documents: int) -> None:
    """Read documents by id, one at a time and a thousand at a time, in random order."""
    async with open_hub() as (context, _):
        collection = (await served_release(context)).collection
        numbers = random.Random(SEED).sample(range(documents), min(documents, 20_000))
        ids = [generate.document_id(number) for number in numbers]
        read = partial(context.documents.get_many, collection)
        alone = await timed_calls([partial(read, [key]) for key in ids])
        batches = [ids[start : start + 1000] for start in range(0, len(ids), 1000)]
        together = await timed_calls([partial(read, keys) for keys in batches], items=1000)
    print(json.dumps({"one id": alone, "1,000 ids": together}))


async def query(repeats: int) -> None:
    """Send each kind of query, a new one every time."""
    async with open_hub() as (context, _):
        name = (await served_release(context)).index
        results = {}
        for kind, make in QUERIES.items():
            rng = random.Random(SEED)
            requests = [make(rng) for _ in range(repeats)]
            await context.search.search(name, requests[0])  # the first one opens the index
            results[kind] = await timed_calls([partial(context.search.search, name, request) for request in requests])
    print(json.dumps(results))


async def timed_calls(calls: list[Callable[[], Awaitable[Any]]], items: int = 1) -> dict[str, float]:
    """Await the calls one after the other; return items per second and per processor second, and milliseconds a call."""
    milliseconds = []
    cpu_started, started = time.process_time(), time.perf_counter()
    for call in calls:
        call_started = time.perf_counter()
        await call()
        milliseconds.append((time.perf_counter() - call_started) * 1000)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    count = len(calls) * items
    return {
        "count": count,
        "per_second": count / seconds,
        "per_cpu_second": count / cpu_seconds,
        "median_ms": statistics.median(milliseconds),
        "p99_ms": statistics.quantiles(milliseconds, n=100)[98],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["register", "dump", "upload", "uploads", "build", "index", "get", "query"])
    parser.add_argument("argument", nargs="?", default="")
    parser.add_argument(
        "--full", action="store_true", help="build in full even if little changed since the build before"
    )
    arguments = parser.parse_args()
    stages: dict[str, Callable[[], Awaitable[None]]] = {
        "register": lambda: register(Path(arguments.argument)),
        "dump": lambda: run_jobs(dump),
        "upload": lambda: run_jobs(lambda context: start_upload(context, arguments.argument)),
        "uploads": uploads,
        "build": lambda: run_jobs(
            lambda context: start_build(
                context, arguments.argument or CONFIG, mode="full" if arguments.full else "auto"
            )
        ),
        "index": lambda: run_jobs(lambda context: index(context, arguments.argument or CONFIG)),
        "get": lambda: get(int(arguments.argument)),
        "query": lambda: query(int(arguments.argument)),
    }

    async def run_stage() -> None:
        await stages[arguments.stage]()

    asyncio.run(run_stage())


if __name__ == "__main__":
    main()
