"""Measures what new releases cost when a part of the documents changed, beside building and indexing everything.

    python bench/release.py [--documents 1000000] [--peer] [--json out.json] [--no-write]

Two generated sources are built, indexed and served; then come new versions of both, one after the other: 0.3% updated; 5%
updated, 1% added and 1% deleted; 70% updated. Each step runs in a fresh process and is measured from outside. `--peer` runs
BioThings' own jsondiff on the same pairs of documents. The tables go into docs/benchmarks.md, unless `--no-write`.
"""

import argparse
import datetime as dt
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import generate
import report
from measure import describe_machine
from peer import SCRATCH as PEER_SCRATCH
from peer import install_peer
from revise import Revision, write_revision
from run import BENCH, SCRATCH, Run

BEGIN, END = "<!-- bench-release:begin -->", "<!-- bench-release:end -->"
REVISIONS = (Revision(1, update=0.003), Revision(2, update=0.05, add=0.01, delete=0.01), Revision(3, update=0.7))
PAIRS = 20_000
WANTED_DIFF = (
    400_000  # documents a second, where 7% differ; those of both builds are read, as in the tables of the stages
)
WANTED_SHARE = 0.05  # of the time of a full build and index, where 0.3% changed


class ReleaseRun(Run):
    """The measurements of all revisions, in a folder of their own."""

    def __init__(self, documents: int, folder: Path, *, with_peer: bool) -> None:
        super().__init__(documents, folder)
        self.with_peer = with_peer
        self.plugins = folder / "plugins"
        self.builds: list[str] = []

    def measure_releases(self) -> dict[str, Any]:
        """Return the measurements: `full`, and one entry for each revision."""
        for source in generate.MAKERS:
            generate.write_plugin(self.plugins, source, self.documents)
        self._stage("register", 0, str(self.plugins))
        full = self._release("full")
        revisions = [self._measure_revision(number) for number in range(1, len(REVISIONS) + 1)]
        return {"full": full, "revisions": revisions}

    def _measure_revision(self, number: int) -> dict[str, Any]:
        revisions = list(REVISIONS[:number])
        for source in generate.MAKERS:
            write_revision(self.plugins / source, source, self.documents, revisions)
        measured = self._release(f"{revisions[-1].share:.1%}")
        old, new = self.builds[-2:]
        measured["diff"] = self._step("diff", old, new)
        measured["hashes"] = self._step("hashes", old, new)
        if self.with_peer:
            measured["peer"] = self._measure_peer_diff(old, new)
        return measured

    def _release(self, name: str) -> dict[str, Any]:
        """Dump, upload, build, index and check what is served; return seconds by step, and how it was built and released."""
        self._stage("dump", 2 * self.documents)
        for source in generate.MAKERS:
            self._stage("upload", self.documents, source)
        built = last_json(self._stage("build", 2 * self.documents))
        self.builds.append(built["build"])
        released = last_json(self._stage("index", built["count"]))
        answered = self._step("answer", str(self.plugins / "alpha" / "alpha.ndjson"))
        steps = ("dump", "upload alpha", "upload beta", "build", "index")
        seconds = {step: self.measured[step]["seconds"] for step in steps}
        print(f"{name}: {built['reason']} {answered['release']} is served.", flush=True)
        return {"seconds": seconds, "build": built, "release": released, "checked": answered["checked"]}

    def _step(self, *arguments: str) -> dict[str, Any]:
        return last_json(self._script("release_stages.py", arguments[0], 0, *arguments))

    def _measure_peer_diff(self, old: str, new: str) -> dict[str, Any]:
        path = self.folder / "pairs.ndjson"
        self._step("pairs", old, new, str(path), str(PAIRS))
        python = install_peer(PEER_SCRATCH) / "python"
        output = subprocess.run(
            [python, str(BENCH / "peer_diff.py"), str(path)], check=True, capture_output=True, text=True
        )
        return last_json(output.stdout)


def last_json(output: str) -> dict[str, Any]:
    """Return the last line of a step's output that is a JSON object."""
    found: dict[str, Any] = json.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))
    return found


def render(results: dict[str, Any]) -> str:
    """Return the measured tables."""
    machine = results["machine"]
    made = f"Made on {results['date']} by `{results['command']}` with Python {machine['python']}"
    parts = [
        f"{made} on {machine['cores']} cores ({machine['processor']}) and {machine['memory_gib']} GiB of memory.",
        report.table(("target", "wanted", "measured", "reached"), target_rows(results)),
        report.table(
            ("seconds", "upload", "build", "index", "from changed file to answer", "built"), step_rows(results)
        ),
        report.table(
            ("diff of two builds, end to end", "differ", "documents read", "seconds", "read/s", "of the new build/s"),
            diff_rows(results),
        ),
    ]
    peer = peer_rows(results)
    if peer:
        head = ("making patches of documents that differ", "pairs/s", "pairs/CPU s")
        parts.append(report.table(head, peer))
    return "\n\n".join(parts)


def target_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Compare with what the project wants to reach."""
    full, (small, middle, large) = results["full"], results["revisions"]
    rate = middle["diff"]["read"] / middle["diff"]["seconds"]
    share = work_seconds(small) / work_seconds(full)
    is_full = not large["build"]["incremental"]
    return [
        ("diff where 7% differ, documents read/s", f"{WANTED_DIFF:,}", f"{rate:,.0f}", report.yes(rate >= WANTED_DIFF)),
        (
            "0.3% changed: build and index, of the full ones' time",
            f"at most {WANTED_SHARE:.0%}",
            f"{share:.1%}",
            report.yes(share <= WANTED_SHARE),
        ),
        ("70% changed: the rule picks", "full", "full" if is_full else "incremental", report.yes(is_full)),
    ]


def work_seconds(measured: dict[str, Any]) -> float:
    """Return the seconds of build and index."""
    seconds = measured["seconds"]
    return float(seconds["build"] + seconds["index"])


def step_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, measured in zip(("everything new", *names()), (results["full"], *results["revisions"]), strict=True):
        seconds = measured["seconds"]
        upload = seconds["upload alpha"] + seconds["upload beta"]
        numbers = (upload, seconds["build"], seconds["index"], sum(seconds.values()))
        how = "incrementally" if measured["build"]["incremental"] else "in full"
        rows.append((name, *(f"{number:,.1f}" for number in numbers), how))
    return rows


def diff_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, measured in zip(names(), results["revisions"], strict=True):
        count, found, hashes = measured["build"]["count"], measured["diff"], measured["hashes"]
        different = sum(found[kind] for kind in ("add", "update", "delete"))
        rows.append((name, f"{different:,}", *_diff_numbers(found, count)))
        rows.append((f"{name}: keys and hashes compared, nothing else", "", *_diff_numbers(hashes, count)))
    return rows


def _diff_numbers(found: dict[str, Any], count: int) -> tuple[str, ...]:
    rates = (found["read"] / found["seconds"], count / found["seconds"])
    return f"{found['read']:,}", f"{found['seconds']:.1f}", *(f"{rate:,.0f}" for rate in rates)


def peer_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, measured in zip(names(), results["revisions"], strict=True):
        if "peer" in measured:
            found = measured["diff"]
            different = sum(found[kind] for kind in ("add", "update", "delete"))
            rows.append(
                (
                    f"{name}: BioThings' jsondiff, documents in memory",
                    *rates(measured["peer"]["pairs"], measured["peer"]),
                )
            )
            rows.append((f"{name}: Sourcebook, reading and comparing all documents included", *rates(different, found)))
    return rows


def rates(count: int, found: dict[str, Any]) -> tuple[str, str]:
    return f"{count / found['seconds']:,.0f}", f"{count / found['cpu_seconds']:,.0f}"


def names() -> list[str]:
    return [
        f"{item.update:.1%} updated" + (f", {item.add:.0%} added, {item.delete:.0%} deleted" if item.add else "")
        for item in REVISIONS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000, help="of each of the two sources")
    parser.add_argument("--peer", action="store_true", help="measure BioThings' jsondiff too")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    folder = SCRATCH / "release"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        measured = ReleaseRun(arguments.documents, folder, with_peer=arguments.peer).measure_releases()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results = {
        "command": " ".join(["python", "bench/release.py", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": describe_machine(),
        **measured,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(render(results))
    if not arguments.no_write:
        report.replace_part(BENCH.parent / "docs" / "benchmarks.md", BEGIN, END, render(results))


if __name__ == "__main__":
    main()
