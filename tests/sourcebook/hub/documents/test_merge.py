"""The deep merge: its rules one by one, and its laws."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.hub.documents.merge import deep_merge


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (1, 1, 1),
        (1, 2, [1, 2]),
        ("a", "b", ["a", "b"]),
        (True, 1, [True, 1]),
        (1, 1.0, [1, 1.0]),
        (None, 1, [None, 1]),
        ([1, 2], [3, 2], [1, 2, 3]),
        ([1], [2, 2], [1, 2, 2]),
        ([1, 2], 2, [1, 2]),
        ([1, 2], 3, [1, 2, 3]),
        (3, [1, 3, 2], [3, 1, 2]),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}, {"a": 2}], [{"a": 1, "b": 2}, {"a": 2}]),
        ([[1]], [[1], [2]], [[1], [2]]),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}, {"a": {"b": [1, 2], "c": 3}}),
        ({"a": 1}, "x", [{"a": 1}, "x"]),
        ([1], {"a": 1}, [1, {"a": 1}]),
    ],
)
def test_values_are_merged(first: Any, second: Any, expected: Any) -> None:
    assert orjson.dumps(deep_merge({"v": first}, {"v": second})) == orjson.dumps({"v": expected})


scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"])
lists = st.lists(scalars | st.dictionaries(st.sampled_from("xy"), scalars, max_size=2), max_size=4)
documents = st.recursive(
    st.dictionaries(st.sampled_from("abc"), scalars | lists, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(documents)
def test_a_document_merged_with_itself_or_nothing_stays(document: dict[str, Any]) -> None:
    assert deep_merge(document, document) == document
    assert deep_merge(document, {}) == document
    assert deep_merge({}, document) == document


@settings(deadline=None)
@given(documents, documents)
def test_merging_again_changes_nothing_and_neither_side_is_changed(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    before = orjson.dumps([first, second])
    merged = deep_merge(first, second)
    assert orjson.dumps([first, second]) == before
    assert set(merged) == set(first) | set(second)


flat = st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 5), max_size=4), max_size=3)


@settings(deadline=None)
@given(flat, flat, flat)
def test_lists_may_be_merged_in_any_grouping(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    assert deep_merge(deep_merge(a, b), c) == deep_merge(a, deep_merge(b, c))


def test_long_lists_are_not_compared_pair_by_pair() -> None:
    first = {"v": [{"n": n} for n in range(50_000)]}
    second = {"v": [{"n": n} for n in range(25_000, 75_000)]}
    started = time.process_time()
    assert len(deep_merge(first, second)["v"]) == 75_000
    assert time.process_time() - started < 5
