"""Measures every stage of Sourcebook on generated sources, beside what NDJSON itself allows.

    python bench/run.py --documents 1000000 2000000 [--peer] [--json out.json] [--no-write]

Each stage runs in a fresh process, so that its memory is its own. `--peer` measures BioThings' command line on the first
number of documents too. What is compared is measured one right after the other, on the first number of documents in
several rounds, because a shared machine is faster in one minute than in the next; the tables have the round with the middle
ratio. They go into docs/benchmarks.md, unless `--no-write` says otherwise.
"""

import argparse
import datetime as dt
import json
import shutil
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import generate
import report
from measure import Measurement, describe_machine, run_measured
from peer import measure_peer

BENCH = Path(__file__).resolve().parent
SCRATCH = BENCH.parent / ".bench"
QUERY_REPEATS = 300
ROUNDS = 5


class Run:
    """The measurements on one number of documents, in a folder of their own."""

    def __init__(self, documents: int, folder: Path, *, rounds: int = 1, peer: bool = False) -> None:
        self.documents = documents
        self.folder = folder
        self.rounds = rounds
        self.peer = peer
        self.measured: dict[str, Any] = {}
        self.environment = {"SOURCEBOOK_HOME": str(folder / "home"), "SOURCEBOOK_LOG_LEVEL": "WARNING"}

    def measure_all(self) -> dict[str, Any]:
        """Generate, measure the limits and every stage; return what was measured by name."""
        plugins = self.folder / "plugins"
        for source in generate.MAKERS:
            generate.write_plugin(plugins, source, self.documents)
        self._script("limits.py", "read limit", self.documents, "read", str(plugins / "alpha" / "alpha.ndjson"))
        self._stage("register", 0, str(plugins))
        self._stage("dump", 2 * self.documents)
        self._measure_uploads()
        self._measure_builds(plugins)
        self._script("stages.py", "link alpha", self.documents, "build", "alpha_alone")
        self._script("stages.py", "index alpha", self.documents, "index", "alpha_alone")
        self._stage("index", self._documents_in_build())
        self._operations("get", str(self.documents))
        self._operations("query", str(QUERY_REPEATS))
        return self.measured

    def _documents_in_build(self) -> int:
        union = {
            *generate.document_numbers("alpha", self.documents),
            *generate.document_numbers("beta", self.documents),
        }
        return len(union)

    def _measure_uploads(self) -> None:
        rounds = []
        for _ in range(self.rounds):
            self._stage("upload", self.documents, "alpha")
            pair = {"upload alpha": self.measured["upload alpha"]}
            if self.peer:
                pair["peer"] = self._measure_peer()
            rounds.append((ratio(pair["upload alpha"], pair["peer"]["both"] if self.peer else None), pair))
        self.measured |= middle(rounds)
        self._stage("upload", self.documents, "beta")

    def _measure_peer(self) -> dict[str, Any]:
        peer = measure_peer(self.documents)
        print(f"{peer['package']:14} {peer['both']['documents_per_cpu_second']:>10,} per CPU s", flush=True)
        return peer

    def _measure_builds(self, plugins: Path) -> None:
        in_order = self.folder / "sorted"
        in_order.mkdir()
        paths = [sort_lines(plugins / source / f"{source}.ndjson", in_order) for source in generate.MAKERS]
        rounds = []
        for number in range(self.rounds):
            # A new file each time, as a build is: to write over an old one takes a quarter of the time less.
            out = in_order / f"merged{number}.ndjson"
            self._script("limits.py", "merge limit", 2 * self.documents, "merge", *map(str, paths), str(out))
            self._stage("build", 2 * self.documents, "--full")
            pair = {name: self.measured[name] for name in ("merge limit", "build")}
            rounds.append((ratio(pair["build"], pair["merge limit"]), pair))
        self.measured |= middle(rounds)
        shutil.rmtree(in_order)

    def _stage(self, stage: str, documents: int, argument: str = "") -> str:
        name = f"{stage} {argument}" if stage == "upload" else stage
        return self._script("stages.py", name, documents, stage, *([argument] if argument else []))

    def _operations(self, stage: str, argument: str) -> None:
        output = self._stage(stage, 0, argument)
        operations = json.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))
        self.measured[stage] = {**self.measured[stage], "operations": operations}
        for kind, numbers in operations.items():
            print(f"  {kind:20} {numbers['per_second']:10,.0f} per s  median {numbers['median_ms']:.2f} ms", flush=True)

    def _script(self, script: str, name: str, documents: int, *arguments: str) -> str:
        command = [sys.executable, str(BENCH / script), *arguments]
        measured, output = run_measured(name, documents, command, folder=self.folder, environment=self.environment)
        self.measured[name] = measured.as_json()
        print_row(measured)
        return output


def ratio(row: dict[str, Any], beside: dict[str, Any] | None) -> float:
    """Return how many times the documents per CPU second of the other row these are."""
    rate: int = row["documents_per_cpu_second"]
    return rate / beside["documents_per_cpu_second"] if beside else rate


def middle(rounds: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """Return what was measured in the round with the middle ratio."""
    return sorted(rounds, key=itemgetter(0))[len(rounds) // 2][1]


def sort_lines(path: Path, folder: Path) -> Path:
    """Write a copy of a file into a folder with its lines sorted; `_id` comes first in each, so that is its order."""
    copy = folder / path.name
    with path.open("rb") as file, copy.open("wb") as target:
        target.writelines(sorted(file))
    return copy


def print_row(row: Measurement) -> None:
    """Print a line while the rest is still being measured."""
    rates = f"{row.per_second:>10,.0f} per s {row.per_cpu_second:>10,.0f} per CPU s" if row.documents else ""
    print(
        f"{row.name:14} {row.documents:>10,} {row.seconds:8.1f} s {row.peak_bytes / 2**20:6,.0f} MiB {rates}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000_000], help="of each of the two sources")
    parser.add_argument("--peer", action="store_true", help="measure BioThings' command line too")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "command": " ".join(["python", "bench/run.py", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": describe_machine(),
        "runs": {},
    }
    folder = SCRATCH / "run"
    for documents in arguments.documents:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            is_first = documents == arguments.documents[0]
            run = Run(documents, folder, rounds=ROUNDS if is_first else 1, peer=arguments.peer and is_first)
            results["runs"][str(documents)] = run.measure_all()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.peer:
        results["peer"] = results["runs"][str(arguments.documents[0])].pop("peer")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(report.render_tables(results))
    if not arguments.no_write:
        report.write_page(BENCH.parent / "docs" / "benchmarks.md", results)


if __name__ == "__main__":
    main()
