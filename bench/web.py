"""Measures the query API over HTTP, beside BioThings' web server on the same documents.

    python bench/web.py [--documents 20000] [--large-corpus 1000000] [--seconds 3] [--no-peer] [--json out.json] [--no-write]

Needs `wrk` (Debian: `apt-get install wrk`). Both sides run as one process each on the loopback interface and are asked the same
requests by 16 and by 64 connections. Then Sourcebook alone serves a large corpus to one connection, for the time that one
answer takes. The tables go into docs/benchmarks.md between their own markers, unless `--no-write` says otherwise. Everything
that was made below `.bench/web` is removed again; the peer's virtual environment stays for the next run.
"""

import argparse
import datetime as dt
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import generate
import report
from measure import describe_machine
from web_data import LARGE_DOCUMENTS, large_id, thing_id
from web_servers import Server, serve_peer, serve_sourcebook

SCRATCH = Path(__file__).resolve().parent.parent / ".bench" / "web"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- web:begin -->", "<!-- web:end -->"
SEED = 20240229
VARIANTS = 2000  # requests of a kind; a server may remember answers, so they differ
CONNECTIONS = (16, 64)
ROUNDS = 2
GET_TARGET, QUERY_TARGET = 10, 5
TERM_P99_MS, FACET_P99_MS = 5, 60
SCRIPT = """local requests, at = {}, 0
init = function()
  for line in io.lines("%(file)s") do
    requests[#requests + 1] = wrk.format("%(method)s", "%(path)s" .. (%(is_post)s and "" or line),
      {["Content-Type"] = "application/json"}, %(is_post)s and line or nil)
  end
end
request = function()
  at = at %% #requests + 1
  return requests[at]
end
done = function(summary, latency)
  local bad = summary.errors
  print(string.format('RESULT {"requests": %%d, "microseconds": %%d, "p50": %%d, "p99": %%d, "bytes": %%d, "bad": %%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.bytes,
    bad.status + bad.connect + bad.read + bad.write + bad.timeout))
end
"""


@dataclass(frozen=True)
class Kind:
    """A kind of request: its variants are paths, or the bodies of a POST to `path`. `target`: how many times the peer.

    `for_peer` are the connections by which the peer is asked; what takes it seconds is asked one after the other.
    """

    name: str
    variants: Sequence[str]
    method: str = "GET"
    path: str = ""
    target: float = QUERY_TARGET
    connections: Sequence[int] = CONNECTIONS
    for_peer: Sequence[int] = CONNECTIONS


def make_kinds(documents: int) -> list[Kind]:
    """Return what both sides are asked; the same for the same number of documents."""
    rng = random.Random(SEED)
    ids = [thing_id(rng.randrange(documents)) for _ in range(VARIANTS)]
    large = [large_id(number) for number in range(LARGE_DOCUMENTS)]
    words = [rng.choice(generate.WORDS) for _ in range(VARIANTS)]
    batches = [list(map(thing_id, rng.sample(range(documents), 1000))) for _ in range(5)]
    bodies = [json.dumps({"ids": batch}) for batch in batches]
    return [
        Kind("GET by id, 1 kB", [f"/thing/{item}" for item in ids], target=GET_TARGET),
        Kind("GET by id, 80 kB", [f"/thing/{item}" for item in large], target=GET_TARGET),
        Kind(
            "GET with `fields`",
            [f"/thing/{item}?fields=symbol,location.chromosome" for item in ids],
            target=GET_TARGET,
        ),
        Kind("query, one term", [f"/query?q=symbol:{item}" for item in ids]),
        Kind("query, a word of a text, 10 hits", [f"/query?q=title:{word}" for word in words]),
        Kind("query with a facet", [f"/query?q=title:{word}&facets=category&size=1" for word in words]),
        Kind("POST of 1,000 ids", bodies, method="POST", path="/thing", connections=(1, *CONNECTIONS), for_peer=(1,)),
    ]


def make_latency_kinds(documents: int) -> list[Kind]:
    """Return what the large corpus is asked, one request after the other."""
    rng = random.Random(SEED)
    ids = [thing_id(rng.randrange(documents)) for _ in range(VARIANTS)]
    words = [rng.choice(generate.WORDS) for _ in range(VARIANTS)]
    categories = [rng.choice(generate.CATEGORIES) for _ in range(VARIANTS)]
    several = zip(categories, words, strict=True)
    variants: dict[str, list[str]] = {
        "GET by id": [f"/thing/{item}" for item in ids],
        "term": [f"/query?q=symbol:{item}" for item in ids],
        "two keywords and a range": [f"/query?q=category:{a}+AND+tags:{b}+AND+count:%3E500" for a, b in several],
        "two words of a text, ranked": [f"/query?q=title:({a}+{b})" for a, b in pairwise(words)],
        "facet of 8 values, all documents": [f"/query?facets=category&size={size}" for size in range(10)],
        "facet of 64 values, an eighth of them": [
            f"/query?q=category:{item}&facets=tags&size=0" for item in categories
        ],
        "leading wildcard": [f"/query?q=symbol:*{number}" for number in range(100, 999)],
    }
    return [Kind(name, paths, connections=(1,)) for name, paths in variants.items()]


def measure(server: Server, kind: Kind, connections: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Ask one kind of request for some seconds, ROUNDS times; return the best round: the others were disturbed more."""
    variants, script = folder / "requests.txt", folder / "requests.lua"
    is_post = kind.method == "POST"
    lines = kind.variants if is_post else [server.prefix + variant for variant in kind.variants]
    variants.write_text("\n".join(lines) + "\n")
    values = {"file": variants, "method": kind.method, "path": server.prefix + kind.path if is_post else ""}
    script.write_text(SCRIPT % {**values, "is_post": str(is_post).lower()})
    server.settle()
    _run_wrk(server, script, connections, 1)
    rounds = [_measure_round(server, script, connections, seconds) for _ in range(ROUNDS)]
    return max(rounds, key=lambda numbers: numbers["per_second"])


def _measure_round(server: Server, script: Path, connections: int, seconds: int) -> dict[str, Any]:
    server.settle()
    cpu_started = server.cpu_seconds()
    numbers = _run_wrk(server, script, connections, seconds)
    count = max(numbers["requests"], 1)
    return {
        "requests": numbers["requests"],
        "per_second": numbers["requests"] * 1e6 / numbers["microseconds"],
        "p50_ms": numbers["p50"] / 1000,
        "p99_ms": numbers["p99"] / 1000,
        "cpu_ms": (server.cpu_seconds() - cpu_started) * 1000 / count,
        "bytes": numbers["bytes"] // count,
        "bad": numbers["bad"],
    }


def _run_wrk(server: Server, script: Path, connections: int, seconds: int) -> dict[str, int]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), server.url]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"wrk did not finish:\n{output}")
    numbers: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    return numbers


def measure_side(server: Server, kinds: list[Kind], seconds: int, folder: Path) -> dict[str, Any]:
    """Measure every kind of request on one server."""
    measured: dict[str, Any] = {}
    for kind in kinds:
        measured[kind.name] = {}
        for count in kind.for_peer if server.is_peer else kind.connections:
            row = measured[kind.name][str(count)] = measure(server, kind, count, seconds, folder)
            print(f"{'BioThings' if server.is_peer else 'Sourcebook':10} {kind.name:40} {count:3}", end=" ")
            print(
                f"{row['per_second']:10,.0f} per s  p50 {row['p50_ms']:8.2f} ms  p99 {row['p99_ms']:8.2f} ms"
                f"  CPU {row['cpu_ms']:8.3f} ms  {row['bytes']:9,} bytes  bad {row['bad']}",
                flush=True,
            )
    return measured


def render(results: dict[str, Any]) -> str:
    """Return what stands between the markers of the page."""
    machine = results["machine"]
    made = f"Made on {results['date']} by `{results['command']}` with Python {machine['python']} on {machine['cores']} cores"
    parts = [
        f"{made} ({machine['processor']}) and {machine['memory_gib']} GiB of memory.",
        f"### {results['documents']:,} documents of 1 kB and {LARGE_DOCUMENTS} of 80 kB, one process each",
        _comparison_table(results),
    ]
    if results["latency"]:
        parts += [f"### {results['large_corpus']:,} documents, one connection", _latency_table(results["latency"])]
    return "\n\n".join(parts)


def _comparison_table(results: dict[str, Any]) -> str:
    side = ("requests/s", "p50, ms", "p99, ms", "CPU, ms")
    head = (
        "request",
        "connections",
        *side,
        *(f"BioThings: {title}" for title in side),
        "times",
        "times, CPU",
        "wanted",
        "reached",
    )
    rows = []
    for name, measured in results["sourcebook"].items():
        for connections, ours in measured.items():
            theirs = results["peer"].get(name, {}).get(connections)
            target = results["targets"][name]
            cells = [name, connections, *_numbers(ours), *(_numbers(theirs) if theirs else ("",) * 4)]
            rows.append((*cells, *(_compare(ours, theirs, target) if theirs else ("", "", f"{target}", ""))))
    return report.table(head, rows)


def _compare(ours: dict[str, Any], theirs: dict[str, Any], target: float) -> tuple[str, ...]:
    ratio = ours["per_second"] / theirs["per_second"] if theirs["per_second"] else 0
    of_cpu = theirs["cpu_ms"] / ours["cpu_ms"]
    return f"{ratio:.1f}", f"{of_cpu:.1f}", f"{target}", report.yes(ratio >= target)


def _numbers(row: dict[str, Any]) -> tuple[str, ...]:
    bad = f" ({row['bad']} failed)" if row["bad"] else ""
    return f"{row['per_second']:,.0f}{bad}", f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['cpu_ms']:.3f}"


def _latency_table(latency: dict[str, Any]) -> str:
    rows = []
    for name, measured in latency.items():
        limit = TERM_P99_MS if name == "term" else FACET_P99_MS if name.startswith("facet") else None
        row = measured["1"]
        wanted = ("", "") if limit is None else (f"below {limit}", report.yes(row["p99_ms"] < limit))
        rows.append((name, *_numbers(row), *wanted))
    return report.table(("request", "requests/s", "p50, ms", "p99, ms", "CPU, ms", "p99 wanted, ms", "reached"), rows)


def measure_all(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure both sides, then the large corpus."""
    kinds = make_kinds(arguments.documents)
    results: dict[str, Any] = {"targets": {kind.name: kind.target for kind in kinds}, "peer": {}, "latency": {}}
    with serve_sourcebook(folder, arguments.documents) as server:
        results["sourcebook"] = measure_side(server, kinds, arguments.seconds, folder)
    if not arguments.no_peer:
        with serve_peer(folder, arguments.documents) as server:
            results["peer"] = measure_side(server, kinds, arguments.seconds, folder)
    if arguments.large_corpus:
        with serve_sourcebook(folder, arguments.large_corpus) as server:
            latency_kinds = make_latency_kinds(arguments.large_corpus)
            results["latency"] = measure_side(server, latency_kinds, arguments.seconds, folder)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="of 1 kB each, on both sides")
    parser.add_argument(
        "--large-corpus", type=int, default=1_000_000, help="documents for the latency (0: leave it out)"
    )
    parser.add_argument("--seconds", type=int, default=3, help="of each round of a measurement")
    parser.add_argument("--no-peer", action="store_true", help="measure Sourcebook alone")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    try:
        results = measure_all(arguments, SCRATCH)
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    results |= {
        "command": " ".join(["python", "bench/web.py", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": describe_machine(),
        "documents": arguments.documents,
        "large_corpus": arguments.large_corpus,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(render(results))
    if not arguments.no_write:
        report.replace_part(PAGE, BEGIN, END, render(results))


if __name__ == "__main__":
    main()
