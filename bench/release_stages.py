"""One step of a release in a process of its own, for `release.py` to measure. SOURCEBOOK_HOME says where the data are.

python bench/release_stages.py diff OLD NEW | hashes OLD NEW | pairs OLD NEW FILE COUNT | answer ID SOURCE
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from stages import CONFIG, open_hub, served_release

from sourcebook.context import Context
from sourcebook.flow.stages import STAGES
from sourcebook.hub.builds.answers import get_build
from sourcebook.hub.changes.commands import start_diff
from sourcebook.hub.changes.compare import compare_collections
from sourcebook.hub.documents.record import HASH_BYTES, Record
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.model import JobState
from sourcebook.hub.names import build_changes_key
from sourcebook.references import load_reference
from sourcebook.worker import run_queued_jobs


async def diff(old: str, new: str) -> dict[str, Any]:
    """Compare two builds from end to end, as if nothing were known of what changed."""
    async with open_hub() as (context, bus):
        await context.files.delete(build_changes_key(new, old))
        load_reference(STAGES["diff"].handler)  # a worker has imported it long since
        started, cpu_started = time.perf_counter(), time.process_time()
        job = await start_diff(context, old, new)
        await run_queued_jobs(context, bus)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        ended = await get_job(context, job.id)
        if ended.state is not JobState.SUCCEEDED or ended.result is None:
            raise SystemExit(f"diff {ended.state}: {ended.error}")
        counts = {kind: ended.result[kind] for kind in ("add", "update", "delete")}
        read = sum([(await get_build(context, name)).count for name in (old, new)])
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "read": read, **counts}


async def hashes(old: str, new: str) -> dict[str, Any]:
    """Read two builds side by side and find which documents differ, by what is stored beside them; nothing is decoded."""
    async with open_hub() as (context, _):
        names = [(await get_build(context, name)).collection for name in (old, new)]
        size = context.settings.batch_documents
        started, cpu_started = time.perf_counter(), time.process_time()
        different = read = 0
        async for step in compare_collections(context.documents, names[0], names[1], size=size):
            different += len(step.differences)
            read += step.read
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "read": read, "different": different}


async def pairs(old: str, new: str, path: Path, count: int) -> dict[str, Any]:
    """Write documents that differ, old and new, to an NDJSON file; at most `count`."""
    async with open_hub() as (context, _):
        names = [(await get_build(context, name)).collection for name in (old, new)]
        written = 0
        with path.open("wb") as file:
            async for left, right in _updated(context, *names):
                if written == count:
                    break
                file.write(b"[" + left[1][HASH_BYTES:] + b"," + right[1][HASH_BYTES:] + b"]\n")
                written += 1
        return {"pairs": written}


async def _updated(context: Context, old: str, new: str) -> AsyncIterator[tuple[Record, Record]]:
    async for step in compare_collections(context.documents, old, new, size=5000):
        for left, right in step.differences:
            if left is not None and right is not None:
                yield left, right


async def answer(path: Path) -> dict[str, Any]:
    """Read the first documents of a source's file from the API's release; fail if one of them is not served as it is there."""
    with path.open("rb") as file:
        expected = [orjson.loads(line) for line in islice(file, 1000)]
    async with open_hub() as (context, _):
        release = await served_release(context)
        bodies = await context.documents.get_many(release.collection, [document["_id"] for document in expected])
        for document, body in zip(expected, bodies, strict=True):
            served = orjson.loads(body or b"{}")
            wrong = [key for key in document if key != "updated" and served.get(key) != document[key]]
            if wrong:  # `updated` is in both sources: the later one wins
                raise SystemExit(f"{CONFIG} serves {document['_id']} with another {wrong}")
        return {"release": release.name, "checked": len(expected)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("diff", "hashes", "pairs", "answer"))
    parser.add_argument("arguments", nargs="+")
    parsed = parser.parse_args()
    step, given = parsed.step, parsed.arguments
    if step == "diff":
        result = asyncio.run(diff(*given))
    elif step == "hashes":
        result = asyncio.run(hashes(*given))
    elif step == "pairs":
        result = asyncio.run(pairs(given[0], given[1], Path(given[2]), int(given[3])))
    else:
        result = asyncio.run(answer(Path(given[0])))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
