"""What a field holds is counted in documents and in values, with bounded memory."""

from typing import Any

import pytest

from sourcebook.hub.documents import fields
from sourcebook.hub.documents.fields import FieldCounter, FieldStatistics


def count(*documents: dict[str, Any], field: str = "a.b") -> FieldStatistics:
    counter = FieldCounter(field)
    for number, document in enumerate(documents):
        counter.add({"_id": f"d{number}", **document})
    return counter.statistics()


def test_documents_are_counted_once_and_values_one_by_one() -> None:
    told = count({"a": [{"b": [1, 2]}, {"b": 1}]}, {"a.b": 2.5}, {"a": {"b": None}}, {"a": {"c": 1}}, {"a": {"b": "x"}})
    assert (told.documents, told.count, told.values, told.distinct) == (5, 3, 5, 4)
    assert told.types == {"integer": 3, "float": 1, "string": 1}
    assert (told.min, told.max, told.examples, told.example_ids) == (1, 2.5, [1, 2, 2.5, "x"], ["d0", "d1", "d4"])


def test_strings_have_a_smallest_and_a_largest() -> None:
    told = count({"a": {"b": ["pear", "fig"]}}, {"a": {"b": True}})
    assert (told.min, told.max, told.types) == ("fig", "pear", {"string": 2, "boolean": 1})


def test_different_values_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_MAX_DISTINCT", 10)
    told = count({"a": {"b": [*range(10), *range(10)]}})
    assert (told.distinct, told.distinct_is_exact) == (10, True)
    told = count({"a": {"b": [*range(11)]}})
    assert (told.distinct, told.distinct_is_exact, told.values, told.max) == (10, False, 11, 10)


def test_objects_are_values_too() -> None:
    assert count({"a": {"b": {"c": 1}}}).types == {"object": 1}
    assert count({"a": 1}).count == 0
