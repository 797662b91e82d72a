"""Which fields are searched by default, and how a build configuration narrows it."""

from typing import Any

import pytest

from sourcebook.errors import MappingError
from sourcebook.hub.mappings.default_search import choose_default_fields, list_default_fields

PROPERTIES: dict[str, dict[str, Any]] = {
    "symbol": {"type": "keyword", "copy_to": "all"},
    "name": {"type": "text", "copy_to": ["all"]},
    "sequence": {"type": "keyword"},
    "count": {"type": "integer"},
    "pos": {"properties": {"note": {"type": "text", "copy_to": "all"}, "chr": {"type": "keyword"}}},
    "off": {"type": "object", "enabled": False},
}


def test_the_default_fields_are_those_that_are_copied() -> None:
    assert list_default_fields(PROPERTIES) == ["_id", "name", "pos.note", "symbol"]
    assert list_default_fields({}) == ["_id"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ["_id", "name", "pos.note", "symbol"]),
        ([], ["_id"]),
        (["symbol"], ["_id", "symbol"]),
        (["sequence", "count"], ["_id", "count", "sequence"]),
        (["pos"], ["_id", "pos.chr", "pos.note"]),
        (["pos.chr", "off"], ["_id", "pos.chr"]),
    ],
)
def test_a_choice_replaces_what_the_mapping_says(chosen: list[str] | None, expected: list[str]) -> None:
    narrowed = choose_default_fields(PROPERTIES, chosen)
    assert list_default_fields(narrowed) == expected
    assert list(narrowed) == list(PROPERTIES)
    assert list_default_fields(PROPERTIES) == ["_id", "name", "pos.note", "symbol"]


def test_a_field_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(MappingError, match=r"'symbl'.*did you mean 'symbol'"):
        choose_default_fields(PROPERTIES, ["symbl"])
    with pytest.raises(MappingError, match=r"'zzz'.*mapping show"):
        choose_default_fields(PROPERTIES, ["zzz"])
