"""Mappings that people write, and how inferred ones differ from them."""

from typing import Any

import pytest

from sourcebook.errors import MappingError
from sourcebook.hub.mappings.model import (
    FIELD_TYPES,
    Properties,
    add_new_fields,
    check_properties,
    compare_mappings,
    merge_properties,
)

KEYWORD: dict[str, Any] = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}


def test_equal_mappings_have_no_differences() -> None:
    mapping: Properties = {"a": KEYWORD, "o": {"properties": {"b": {"type": "long"}}}}
    assert compare_mappings(mapping, mapping).count == 0


def test_differences_are_named_by_path() -> None:
    committed: Properties = {"a": KEYWORD, "gone": KEYWORD, "o": {"properties": {"b": {"type": "integer"}}}}
    inferred: Properties = {"a": KEYWORD, "new": KEYWORD, "o": {"properties": {"b": {"type": "text"}, "c": KEYWORD}}}
    differences = compare_mappings(committed, inferred)
    assert differences.added == ["new", "o.c"]
    assert differences.missing == ["gone"]
    assert differences.changed == {"o.b": ("integer", "text")}
    assert differences.count == 4


@pytest.mark.parametrize(
    ("committed", "inferred", "differs"),
    [
        ("text", "keyword", False),
        ("long", "integer", False),
        ("keyword", "date", False),
        ("float", "integer", False),
        ("keyword", "text", True),
        ("integer", "long", True),
        ("boolean", "keyword", True),
        ("keyword", "boolean", False),
        ("keyword", "float", False),
        ("text", "date", False),
        ("date", "keyword", True),
    ],
)
def test_a_committed_type_that_holds_the_inferred_one_is_no_difference(
    committed: str, inferred: str, differs: bool
) -> None:
    differences = compare_mappings({"a": {"type": committed}}, {"a": {"type": inferred}})
    assert bool(differences.changed) is differs


def test_an_object_that_became_a_scalar_is_a_change() -> None:
    differences = compare_mappings({"a": {"properties": {"b": KEYWORD}}}, {"a": KEYWORD})
    assert differences.changed == {"a": ("object", "keyword")}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("integer", "float", "float"),
        ("integer", "keyword", "keyword"),
        ("boolean", "text", "text"),
        ("date", "keyword", "keyword"),
    ],
)
def test_types_of_two_sources_become_the_one_that_holds_both(left: str, right: str, expected: str) -> None:
    for first, second in ((left, right), (right, left)):
        merged = merge_properties([("one", {"a": {"type": first}}), ("two", {"a": {"type": second}})])
        assert merged == {"a": {"type": expected}}


def test_a_field_that_one_source_only_stores_is_not_indexed() -> None:
    closed: Properties = {"a": {"type": "object", "enabled": False}}
    for other in ({"a": KEYWORD}, {"a": {"properties": {"b": KEYWORD}}}, closed):
        assert merge_properties([("one", closed), ("two", other)]) == closed
        assert merge_properties([("two", other), ("one", closed)]) == closed


def test_an_object_in_one_source_and_a_value_in_another_are_refused_with_a_way_out() -> None:
    with pytest.raises(MappingError, match=r"'a' is object in one and keyword in two.*\"enabled\": false"):
        merge_properties([("one", {"a": {"properties": {"b": KEYWORD}}}), ("two", {"a": KEYWORD})])


def test_what_is_in_a_disabled_object_is_not_compared() -> None:
    committed: Properties = {"a": {"type": "object", "enabled": False}}
    assert compare_mappings(committed, {"a": KEYWORD}).count == 0
    assert compare_mappings(committed, {"a": {"properties": {"b": KEYWORD}}}).count == 0


def test_new_fields_are_added_and_old_ones_stay() -> None:
    committed: Properties = {
        "a": {"type": "text", "copy_to": "all"},
        "o": {"properties": {"b": KEYWORD}},
        "off": {"type": "object", "enabled": False},
    }
    inferred: Properties = {
        "a": KEYWORD,
        "n": KEYWORD,
        "o": {"properties": {"c": {"type": "long"}}},
        "off": {"properties": {"x": KEYWORD}},
    }
    result = add_new_fields(committed, inferred)
    assert result == {**committed, "n": KEYWORD, "o": {"properties": {"b": KEYWORD, "c": {"type": "long"}}}}
    assert "c" not in committed["o"]["properties"]
    assert compare_mappings(result, inferred).added == []


@pytest.mark.parametrize("kind", FIELD_TYPES)
def test_known_types_are_allowed(kind: str) -> None:
    assert check_properties({"a": {"type": kind}}) == {"a": {"type": kind}}


def test_a_biothings_mapping_is_allowed() -> None:
    properties = {
        "symbol": {**KEYWORD, "copy_to": ["all"]},
        "title": {"type": "text", "analyzer": "string_lowercase", "fields": {"raw": {"type": "keyword"}}},
        "o": {"type": "object", "properties": {"n": {"type": "integer", "index": False}}},
        "p": {"properties": {}},
    }
    assert check_properties(properties) == {**properties, "symbol": {**KEYWORD, "copy_to": "all"}}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ([], "The mapping: properties must be an object"),
        ({"a": "keyword"}, "Field 'a': must be an object"),
        ({"a": {}}, "Field 'a' has no type"),
        ({"a": {"type": "string"}}, "Field 'a' has the type 'string'; write keyword or text. Allowed are keyword"),
        ({"a": {"type": ["keyword"]}}, "Field 'a' has the type ['keyword']"),
        ({"a": {"type": "keyword", "copyto": "all"}}, "unknown option 'copyto'; did you mean 'copy_to'?"),
        ({"a": {"type": "keyword", "zzz": 1}}, "unknown option 'zzz'; known are"),
        ({"a": {"type": "keyword", "copy_to": "other"}}, "copy_to must be 'all'"),
        ({"a": {"type": "keyword", "index": "no"}}, "index must be true or false"),
        ({"a": {"type": "keyword", "properties": {}}}, "cannot have properties"),
        ({"o": {"properties": {"b": {"type": "x"}}}}, "Field 'o.b' has the type 'x'"),
        ({"o": {"properties": []}}, "o: properties must be an object"),
        ({"_id": {"type": "keyword"}}, "'_id' cannot be a field"),
        ({"": {"type": "keyword"}}, "'' cannot be a field"),
        ({1: {"type": "keyword"}}, "cannot be a field"),
    ],
)
def test_what_is_wrong_is_named(properties: Any, expected: str) -> None:
    with pytest.raises(MappingError) as caught:
        check_properties(properties)
    assert expected in caught.value.message


def test_endless_nesting_is_refused() -> None:
    spec: dict[str, Any] = {"type": "keyword"}
    for _ in range(200):
        spec = {"properties": {"a": spec}}
    with pytest.raises(MappingError, match="nested"):
        check_properties({"a": spec})
