"""Turns measurements into the tables of docs/benchmarks.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
MIB = 1024 * 1024
GB = 1_000_000_000
STAGES = ("upload alpha", "upload beta", "build", "index alpha", "index")
LIMITS = ("read limit", "merge limit")


def render_tables(results: dict[str, Any]) -> str:
    """Return the measured tables: targets, then every stage for each number of documents."""
    machine = results["machine"]
    made = f"Made on {results['date']} by `{results['command']}` with Python {machine['python']}"
    parts = [
        f"{made} on {machine['cores']} cores ({machine['processor']}) and {machine['memory_gib']} GiB of memory.",
        "### Targets",
        table(("target", "wanted", "measured", "reached"), target_rows(results)),
    ]
    for documents, run in results["runs"].items():
        parts += [f"### Two sources of {int(documents):,} documents", stage_table(run), operation_table(run)]
    if "peer" in results:
        parts += [f"### {results['peer']['package']}", peer_table(results["peer"])]
    return "\n\n".join(parts)


def target_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Compare the first run with what the project wants to reach; memory is compared for all."""
    runs = {int(documents): run for documents, run in results["runs"].items()}
    first = next(iter(runs.values()))
    rows = []
    if "peer" in results:
        rate = first["upload alpha"]["documents_per_cpu_second"] / results["peer"]["both"]["documents_per_cpu_second"]
        rows.append(
            target("upload with inference, documents per CPU second against BioThings' upload + inspect", 8, rate)
        )
    name = "build of two sources against the merge of two sorted NDJSON files"
    for unit, key in (("second", "documents_per_second"), ("CPU second", "documents_per_cpu_second")):
        rows.append(target(f"{name}, documents per {unit}", 0.6, first["build"][key] / first["merge limit"][key]))
    rate = first["index alpha"]["documents_per_second"]
    rows.append(("index of documents of 10 fields, documents per second", "40,000", f"{rate:,}", yes(rate >= 40_000)))
    for documents, run in runs.items():
        peaks = {stage: run[stage]["peak_bytes"] for stage in STAGES}
        worst = max(peaks, key=lambda stage: peaks[stage])
        name = f"peak memory of any stage, {documents:,} documents in each source"
        rows.append((name, "below 1 GB", f"{peaks[worst] / GB:.2f} GB ({worst})", yes(peaks[worst] < GB)))
    return rows


def target(name: str, wanted: float, measured: float) -> tuple[str, ...]:
    return name, f"{wanted:g} times", f"{measured:.2f} times", yes(measured >= wanted)


def yes(reached: bool) -> str:
    return "yes" if reached else "**no**"


def stage_table(run: dict[str, Any]) -> str:
    """Return one line for each stage and limit."""
    head = ("", "documents read", "seconds", "documents/s", "documents/CPU s", "peak memory, MiB", "mapped files, MiB")
    return table(head, [measurement_row(run[name]) for name in (*LIMITS, *STAGES)])


def measurement_row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        f"{row['documents']:,}",
        f"{row['seconds']:.1f}",
        f"{row['documents_per_second']:,}",
        f"{row['documents_per_cpu_second']:,}",
        f"{row['peak_bytes'] / MIB:,.0f}",
        f"{row['peak_mapped_bytes'] / MIB:,.0f}",
    )


def operation_table(run: dict[str, Any]) -> str:
    """Return one line for each kind of reading by id and of query."""
    head = ("one after the other, one process", "per second", "per CPU second", "median, ms", "99th percentile, ms")
    rows = [
        (
            f"{stage}: {kind}",
            f"{numbers['per_second']:,.0f}",
            f"{numbers['per_cpu_second']:,.0f}",
            f"{numbers['median_ms']:.2f}",
            f"{numbers['p99_ms']:.2f}",
        )
        for stage in ("get", "query")
        for kind, numbers in run[stage]["operations"].items()
    ]
    return table(head, rows)


def peer_table(peer: dict[str, Any]) -> str:
    head = ("", "documents", "seconds", "documents/s", "documents/CPU s", "peak memory, MiB", "mapped files, MiB")
    return table(head, [measurement_row(peer[name]) for name in ("upload", "inspect", "both")])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns after the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(path: Path, results: dict[str, Any]) -> None:
    """Write the tables into their part of a page."""
    replace_part(path, BEGIN, END, render_tables(results))


def replace_part(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two markers of a page."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
