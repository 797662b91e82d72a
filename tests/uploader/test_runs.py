"""Runs: written and merged again, they are the sorted records, with equal keys in the parser's order."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.hub.documents.record import Record, make_record
from sourcebook_uploader import runs as runs_module
from sourcebook_uploader.runs import Run, merge_runs, write_run
from sourcebook_uploader.upload import iter_merged_batches
from sourcebook_uploader.validate import merge_duplicates


def write(folder: Path, records: list[Record], number: int = 0) -> Run:
    ordered = sorted(records, key=lambda record: record[0])
    return write_run(folder / f"run{number}", ordered)


def records_of(keys: list[int], tag: str = "") -> list[Record]:
    return [(b"%06d" % key, b"%s-%d" % (tag.encode(), position)) for position, key in enumerate(keys)]


many_keys = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=40), min_size=1, max_size=6)


@given(many_keys, st.integers(1, 9), st.integers(1, 300))
def test_merged_runs_are_the_stable_sort_of_all_records(keys: list[list[int]], frame: int, frame_bytes: int) -> None:
    parts = [records_of(part, str(number)) for number, part in enumerate(keys)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "FRAME_RECORDS", frame)
        patch.setattr(runs_module, "FRAME_BYTES", frame_bytes)
        runs = [write(Path(folder), part, number) for number, part in enumerate(parts)]
        steps = list(merge_runs(runs))
    flat = [record for step in steps for record in step]
    assert flat == sorted((r for part in parts for r in part), key=lambda record: record[0])
    # All records of a key are in one step.
    assert all(left[-1][0] < right[0][0] for left, right in pairwise(steps))


@given(many_keys, st.integers(1, 50))
def test_ignore_keeps_the_first_of_each_key_and_batches_are_full(keys: list[list[int]], size: int) -> None:
    parts = [records_of(part, str(number)) for number, part in enumerate(keys)]
    expected: dict[bytes, bytes] = {}
    for part in parts:
        for key, value in part:
            expected.setdefault(key, value)
    with tempfile.TemporaryDirectory() as folder:
        runs = [write(Path(folder), part, number) for number, part in enumerate(parts)]
        batches = list(iter_merged_batches(runs, on_duplicates="ignore", size=size))
    assert [record for batch in batches for record in batch] == sorted(expected.items())
    assert all(len(batch) == size for batch in batches[:-1])


def test_runs_that_do_not_overlap_are_read_one_after_the_other(tmp_path: Path) -> None:
    first = write(tmp_path, records_of(list(range(5000))), 0)
    second = write(tmp_path, records_of(list(range(5000, 6000))), 1)
    steps = merge_runs([second, first])
    second.path.rename(tmp_path / "away")
    assert len(next(steps)) == runs_module.FRAME_RECORDS  # the second run is not opened yet
    (tmp_path / "away").rename(second.path)
    assert sum(len(step) for step in steps) == 6000 - runs_module.FRAME_RECORDS


def test_long_documents_make_short_frames(tmp_path: Path) -> None:
    records = [(b"%06d" % n, b"x" * (400_000 if n % 100 == 0 else 10)) for n in range(1000)]
    run = write(tmp_path, records)
    steps = list(merge_runs([run]))
    assert [record for step in steps for record in step] == records
    assert max(sum(len(value) for _, value in step) for step in steps) <= 2 * runs_module.FRAME_BYTES


def test_merged_duplicates_are_folded_in_order() -> None:
    records = [make_record({"_id": "a", "v": value}) for value in (1, 2, 1, 3)] + [make_record({"_id": "b"})]
    assert merge_duplicates(records, merge=True) == [
        make_record({"_id": "a", "v": [1, 2, 3]}),
        make_record({"_id": "b"}),
    ]
    assert merge_duplicates(records, merge=False) == [records[0], records[-1]]
    assert merge_duplicates([], merge=True) == []


@pytest.mark.parametrize(
    ("ids", "padded"),
    [
        (["A1", "B 2", "Ärzte", "x\u00a0y"], ""),
        (["A1 ", "B2"], "A1 "),
        (["A1", "\tB2"], "\tB2"),
        (["Ä\n"], "Ä\n"),
        (["x\u00a0"], "x\u00a0"),
        (["\ufeffx"], "\ufeffx"),
        ([" "], " "),
    ],
)
def test_a_run_names_an_id_that_begins_or_ends_with_white_space(tmp_path: Path, ids: list[str], padded: str) -> None:
    assert write(tmp_path, [make_record({"_id": identifier}) for identifier in ids]).padded_id == padded
