"""Measures upload, build and index on production engines: MongoDB or what speaks its protocol, a real OpenSearch, Redis.

    python bench/production.py [--documents 50000] [--no-peer] [--json out.json] [--no-write]

Servers whose URL is in the environment (SOURCEBOOK_TEST_MONGODB_URL and so on) are used as they are; the others are started as
`make test-engines` does. BioThings' own hub code (uploader and builder) stores the same documents on the same MongoDB-compatible
server. The table goes into docs/benchmarks.md, unless `--no-write` says otherwise.
"""

import argparse
import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import generate
import report
from hub_peer import measure_hub
from measure import CommandFailedError, describe_machine
from pymongo import MongoClient
from run import BENCH, SCRATCH, Run

sys.path.insert(0, str(BENCH.parent / "tests"))
from run_engines import SERVERS, start_servers

BEGIN, END = "<!-- bench-production:begin -->", "<!-- bench-production:end -->"
WORKERS = (1, 2)
START_SECONDS = STOP_SECONDS = 30
STAGES = ("upload alpha", "upload beta", "build", "index")


class ProductionRun(Run):
    """The stages on one set of servers: each run has databases, indices and a folder of its own."""

    def __init__(self, documents: int, folder: Path, urls: dict[str, str], name: str) -> None:
        super().__init__(documents, folder)
        self.plugins = folder / "plugins"
        opensearch = urls["SOURCEBOOK_TEST_OPENSEARCH_URL"].removeprefix("opensearch+").rstrip("/")
        self.environment |= {
            "SOURCEBOOK_HOME": str(folder / name),
            "SOURCEBOOK_DOCUMENTS_URL": mongodb_url(urls, f"{name}_documents"),
            "SOURCEBOOK_STATE_URL": mongodb_url(urls, f"{name}_state"),
            "SOURCEBOOK_SEARCH_URL": f"opensearch+{opensearch}/{name}",
            "SOURCEBOOK_LOG_LEVEL": "INFO",  # a worker says that it is ready
            "SOURCEBOOK_BROKER_URL": urls["SOURCEBOOK_TEST_REDIS_URL"],
        }

    def prepare(self) -> None:
        """Write the plugins, register them and load their files."""
        for source in generate.MAKERS:
            generate.write_plugin(self.plugins, source, self.documents)
        self._stage("register", 0, str(self.plugins))
        self._stage("dump", 2 * self.documents)

    def measure_stages(self) -> dict[str, Any]:
        """Measure each stage in one process."""
        self.prepare()
        for source in generate.MAKERS:
            self._stage("upload", self.documents, source)
        self._stage("build", 2 * self.documents)
        self._stage("index", self._documents_in_build())
        return self.measured

    def measure_two_uploads(self, workers: int) -> float:
        """Return the seconds from the start of the first of two uploads to the end of the second."""
        self.prepare()
        with self._upload_workers(workers):
            output = self._stage("uploads", 2 * self.documents)
        return float(json.loads(output.splitlines()[-1])["seconds"])

    @contextmanager
    def _upload_workers(self, count: int) -> Iterator[None]:
        command = [sys.executable, "-m", "sourcebook.cli", "worker", "upload"]
        environment = {**os.environ, **self.environment}
        path = self.folder / f"workers-{count}.log"
        with path.open("wb") as log:
            workers = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for _ in range(count)]
        try:
            wait_until_ready(path, count)
            yield
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
            for worker in workers:
                worker.wait(STOP_SECONDS)


def wait_until_ready(log: Path, workers: int) -> None:
    """Wait until the workers that write this log take jobs."""
    deadline = time.monotonic() + START_SECONDS
    while len(re.findall(rb"upload@\S+ ready", log.read_bytes())) < workers:
        if time.monotonic() > deadline:
            raise CommandFailedError(f"The workers did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def mongodb_url(urls: dict[str, str], database: str) -> str:
    head, mark, options = urls["SOURCEBOOK_TEST_MONGODB_URL"].partition("?")
    return f"{head.rstrip('/')}/bench_{database}{mark}{options}"


def describe_servers(urls: dict[str, str]) -> str:
    url = urls["SOURCEBOOK_TEST_MONGODB_URL"]
    with MongoClient[dict[str, Any]](url) as client:
        about = client.admin.command("buildInfo")
    # What a MongoDB says of its build, mongo-java-server leaves out.
    kind = f"MongoDB {about['version']}" if "gitVersion" in about else "mongo-java-server, which keeps all in memory"
    return f"{kind}, a real OpenSearch, Redis, all on the same machine"


def drop_databases(urls: dict[str, str]) -> None:
    with MongoClient[dict[str, Any]](urls["SOURCEBOOK_TEST_MONGODB_URL"]) as client:
        for name in client.list_database_names():
            if name.startswith("bench_"):
                client.drop_database(name)


def measure(documents: int, urls: dict[str, str], *, with_peer: bool) -> dict[str, Any]:
    """Return everything that was measured on these servers."""
    folder = SCRATCH / "production"
    results: dict[str, Any] = {"documents": documents, "servers": describe_servers(urls), "uploads": {}}
    drop_databases(urls)
    for name in ("stages", *map(str, WORKERS)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run = ProductionRun(documents, folder, urls, f"run{name}")
        if name == "stages":
            results["stages"] = run.measure_stages()
        else:
            results["uploads"][name] = run.measure_two_uploads(int(name))
    if with_peer:
        results["peer"] = measure_hub(documents, urls["SOURCEBOOK_TEST_MONGODB_URL"])
    drop_databases(urls)
    shutil.rmtree(folder, ignore_errors=True)
    return results


def render(results: dict[str, Any]) -> str:
    """Return the measured tables."""
    machine, documents = results["machine"], results["documents"]
    made = (
        f"Made on {results['date']} by `{results['command']}` with Python {machine['python']} on {machine['cores']} cores "
        f"({machine['processor']}) and {machine['memory_gib']} GiB of memory: {results['servers']}."
    )
    parts = [
        made,
        f"### Two sources of {documents:,} documents",
        report.table(("", "documents read", "seconds", "documents/s", "documents/CPU s"), stage_rows(results)),
        report.table(("two uploads at once", "seconds", "documents/s", "times"), upload_rows(results)),
    ]
    return "\n\n".join([*parts, *results.get("peer", {}).get("problems", [])])


def stage_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one line for each stage, and one for each of BioThings' beside it."""
    peer = results.get("peer", {}).get("stages", {})
    rows: list[tuple[str, ...]] = []
    for stage in STAGES:
        for who, measured in (("", results["stages"]), ("BioThings: ", peer)):
            row = measured.get(stage)
            if row is not None:
                seconds = (f"{row['seconds']:.1f}", f"{row['documents_per_second']:,}")
                rows.append(
                    (f"{who}{stage}", f"{row['documents']:,}", *seconds, f"{row['documents_per_cpu_second']:,}")
                )
    return rows


def upload_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    total, first = 2 * results["documents"], results["uploads"][str(WORKERS[0])]
    return [
        (
            f"{workers} worker{'s' * (workers != '1')}",
            f"{seconds:.1f}",
            f"{total / seconds:,.0f}",
            f"{first / seconds:.2f}",
        )
        for workers, seconds in results["uploads"].items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=50_000, help="of each of the two sources")
    parser.add_argument("--no-peer", action="store_true", help="leave BioThings' hub out")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sourcebook-bench-") as servers, ExitStack() as stack:
        urls = start_servers(stack, Path(servers))
        missing = [name for name, (variable, _) in SERVERS.items() if variable not in urls]
        if missing:
            print(f"Nothing is measured: there is no {' and no '.join(missing)}.")
            return 1
        results = measure(arguments.documents, urls, with_peer=not arguments.no_peer)
    results |= {
        "command": "make bench ENGINES=production" + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": describe_machine(),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(render(results))
    if not arguments.no_write:
        report.replace_part(BENCH.parent / "docs" / "benchmarks.md", BEGIN, END, render(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
