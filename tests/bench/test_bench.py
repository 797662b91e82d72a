"""The benchmark's own parts: what is generated, what the limit merges, and how it is reported."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(name="bench")
def bench_folder_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCH)):
            del sys.modules[name]


def test_generated_documents_are_the_same_every_time(bench: Any, tmp_path: Path) -> None:
    generate = bench("generate")
    first = generate.write_plugin(tmp_path / "1", "alpha", 100)
    second = generate.write_plugin(tmp_path / "2", "alpha", 100)
    assert (first / "alpha.ndjson").read_bytes() == (second / "alpha.ndjson").read_bytes()


def test_generated_documents_have_ten_fields_in_about_400_bytes(bench: Any) -> None:
    generate = bench("generate")
    for source in generate.MAKERS:
        lines = list(generate.document_lines(source, 1000, in_id_order=False))
        assert 380 <= sum(map(len, lines)) / len(lines) <= 420
        assert {len(orjson.loads(line)) for line in lines} == {11}


def test_generated_sources_share_four_of_five_ids(bench: Any) -> None:
    generate = bench("generate")
    alpha, beta = ({generate.document_id(n) for n in generate.document_numbers(s, 1000)} for s in generate.MAKERS)
    assert (len(alpha), len(beta), len(alpha & beta)) == (1000, 1000, 800)


@pytest.mark.parametrize("in_id_order", [True, False])
def test_generated_file_is_in_id_order_only_if_asked(bench: Any, in_id_order: bool) -> None:
    lines = bench("generate").document_lines("alpha", 100, in_id_order=in_id_order)
    ids = [orjson.loads(line)["_id"] for line in lines]
    assert (ids == sorted(ids)) is in_id_order


def test_the_round_with_the_middle_ratio_is_reported(bench: Any) -> None:
    run = bench("run")
    rates = [
        ({"documents_per_cpu_second": fast}, {"documents_per_cpu_second": slow})
        for fast, slow in [(9, 3), (4, 4), (8, 4)]
    ]
    rounds = [(run.ratio(fast, slow), {"fast": fast, "slow": slow}) for fast, slow in rates]
    assert [number for number, _ in rounds] == [3, 1, 2]
    assert run.middle(rounds)["fast"] == {"documents_per_cpu_second": 8}
    assert run.ratio(rates[0][0], None) == 9


def test_merge_limit_merges_root_keys(bench: Any) -> None:
    left = [{"_id": "a", "x": 1}, {"_id": "b", "x": 1, "y": 1}, {"_id": "d", "x": 1}]
    right = [{"_id": "b", "y": 2}, {"_id": "c", "y": 2}, {"_id": "e", "y": 2}]
    merged = list(bench("limits").merge(iter(left), iter(right)))
    assert [document["_id"] for document in merged] == ["a", "b", "c", "d", "e"]
    assert merged[1] == {"_id": "b", "x": 1, "y": 2}


def test_measuring_sees_time_memory_and_children(bench: Any, tmp_path: Path) -> None:
    measure = bench("measure")
    child = "import time; block = b'x' * 50_000_000; time.sleep(0.5)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True); print('done')"
    measured, output = measure.run_measured("sleep", 10, [sys.executable, "-c", script], folder=tmp_path)
    assert output == "done\n"
    assert measured.peak_bytes > 50_000_000
    assert measured.cpu_seconds < measured.seconds


def test_measuring_fails_with_the_commands_output(bench: Any, tmp_path: Path) -> None:
    measure = bench("measure")
    with pytest.raises(measure.CommandFailedError, match=r"(?s)ended with 3.*oops"):
        measure.run_measured("bad", 1, [sys.executable, "-c", "print('oops'); exit(3)"], folder=tmp_path)


def test_report_replaces_only_what_is_between_the_markers(bench: Any, tmp_path: Path) -> None:
    report, measure = bench("report"), bench("measure")
    row = measure.Measurement("x", 100, 2.0, 1.0, 1024, 1024).as_json()
    numbers = {"count": 1, "per_second": 1.0, "per_cpu_second": 1.0, "median_ms": 1.0, "p99_ms": 1.0}
    operations = {"operations": {"one": numbers}}
    run = {**dict.fromkeys((*report.LIMITS, *report.STAGES), row), "get": operations, "query": operations}
    results = {"date": "2024-02-29", "command": "c", "machine": measure.describe_machine(), "runs": {"100": run}}
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_page(page, results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| x | 100 | 2.0 | 50 | 100 | 0 | 0 |" in text


def measured(documents: int, seconds: float) -> dict[str, Any]:
    rate = round(documents / seconds)
    return {
        "documents": documents,
        "seconds": seconds,
        "documents_per_second": rate,
        "documents_per_cpu_second": 2 * rate,
    }


def test_production_table_has_the_peer_beside_us_and_what_it_could_not_do(bench: Any) -> None:
    production = bench("production")
    results = {
        "date": "2026-01-31",
        "command": "make bench ENGINES=production",
        "machine": bench("measure").describe_machine(),
        "servers": "a server",
        "documents": 1000,
        "stages": {name: measured(1000, 2.0) for name in production.STAGES},
        "uploads": {"1": 4.0, "2": 2.5},
        "peer": {"stages": {"upload alpha": measured(1000, 4.0)}, "problems": ["It ends with an error."]},
    }
    lines = production.render(results).splitlines()
    assert "| upload alpha | 1,000 | 2.0 | 500 | 1,000 |" in lines
    assert lines[lines.index("| upload alpha | 1,000 | 2.0 | 500 | 1,000 |") + 1].startswith(
        "| BioThings: upload alpha"
    )
    assert "| 1 worker | 4.0 | 500 | 1.00 |" in lines
    assert "| 2 workers | 2.5 | 800 | 1.60 |" in lines
    assert lines[-1] == "It ends with an error."


def test_the_last_line_of_a_traceback_is_the_problem(bench: Any) -> None:
    output = "Traceback (most recent call last):\n  File\nOperationFailure: no $where, full error: {'ok': 0.0}\n"
    assert bench("hub_peer").last_problem(output) == "OperationFailure: no $where"
