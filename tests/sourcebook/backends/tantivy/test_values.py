"""Values of documents and of queries, as the index holds them."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.backends.tantivy.fields import FieldTable, Kind
from sourcebook.backends.tantivy.values import ENCODERS, decode_value, float_at, order_float, plain_text, read_number
from sourcebook.errors import MappingError

DAY = 86_400_000
ENCODED = [
    ("keyword", "Ab", "Ab"),
    ("keyword", 5, "5"),
    ("keyword", 1.5, "1.5"),
    ("keyword", True, "true"),
    ("keyword", "x" * 32766, "x" * 32766),
    ("keyword", "x" * 32767, None),
    ("keyword", "é" * 20000, None),
    ("integer", 5, 5),
    ("integer", 5.9, 5),
    ("integer", "7", 7),
    ("integer", "9007199254740993", 9007199254740993),
    ("integer", "seven", None),
    ("integer", True, None),
    ("integer", 2**63, None),
    ("integer", "1e400", None),
    ("integer", "9007199254740993.0", 9007199254740993),
    ("integer", "1_000", None),
    ("integer", "\u0663", None),
    ("float", 1, order_float(1.0)),
    ("float", "1.5", order_float(1.5)),
    ("float", -0.0, 0),
    ("float", "1e400", None),
    ("float", "nan", None),
    ("float", 10**400, None),
    ("float", [], None),
    ("boolean", True, 1),
    ("boolean", "false", 0),
    ("boolean", "", 0),
    ("boolean", "yes", None),
    ("date", "1970-01-02", DAY),
    ("date", 1234, 1234),
    ("date", "1234567890123", 1234567890123),
    ("date", "soon", None),
    ("date", 1.5, None),
]


@pytest.mark.parametrize(
    ("kind", "value", "encoded"), ENCODED, ids=[f"{kind} {str(value)[:20]}" for kind, value, _ in ENCODED]
)
def test_a_value_is_indexed_as_its_type_or_not_at_all(kind: str, value: Any, encoded: Any) -> None:
    leaf = FieldTable({"f": {"type": kind}}).leaves[0]
    assert ENCODERS[leaf.kind](leaf, value) == encoded


def test_facet_terms_are_json_values() -> None:
    assert decode_value(Kind.DATE, 1.0) == "1970-01-01T00:00:00.001Z"
    assert decode_value(Kind.BOOLEAN, 1) is True
    assert decode_value(Kind.INTEGER, 5.0) == 5
    assert decode_value(Kind.KEYWORD, "a") == "a"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_the_order_of_fractions_is_that_of_their_places_and_loses_nothing(numbers: list[float]) -> None:
    places = [order_float(number) for number in numbers]
    assert [float_at(place) for place in places] == numbers
    assert [float_at(place) for place in sorted(places)] == sorted(numbers)
    assert all(-(2**63) <= place < 2**63 for place in places)


def test_numbers_of_queries() -> None:
    assert read_number("9007199254740993") == 9007199254740993
    assert read_number("9007199254740993.5") == Decimal("9007199254740993.5")
    assert [read_number(text) for text in ("1_0", "infinity", "nan", "1e400", "", "0x10", "9" * 400)] == [None] * 7
    assert [read_number(text) for text in ("5", "-5", "5.5", "1e3", "x", "inf")] == [5, -5, 5.5, 1000.0, None, None]
    assert [plain_text(value) for value in (False, True, 1.5, "x")] == ["false", "true", "1.5", "x"]


@pytest.mark.parametrize(
    "spec",
    [{"type": "geo_shape"}, {"type": "text", "analyzer": "klingon"}, {"type": "keyword", "normalizer": "shouting"}],
    ids=["type", "analyzer", "normalizer"],
)
def test_a_mapping_that_cannot_be_indexed_names_the_field_and_what_is_known(spec: dict[str, Any]) -> None:
    with pytest.raises(MappingError, match=r"'a\.b'") as caught:
        FieldTable({"a": {"properties": {"b": spec}}})
    assert caught.value.details["allowed"]


def test_fields_are_found_by_path_pattern_and_object() -> None:
    table = FieldTable(
        {
            "a": {"properties": {"b": {"type": "keyword"}, "c[": {"type": "integer"}}},
            "ab": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 3}}},
            "no": {"type": "keyword", "index": False},
            "copied": {"type": "keyword", "index": False, "copy_to": "all"},
            "off": {"enabled": False, "properties": {"x": {"type": "keyword"}}},
            "bytes": {"type": "binary"},
        }
    )
    assert [leaf.path for leaf in table.leaves_searched] == ["a.b", "a.c[", "ab", "ab.raw"]
    assert [leaf.path for leaf in table.match("a*")] == ["a.b", "a.c[", "ab", "ab.raw"]
    assert [leaf.path for leaf in table.match("a.c[")] == ["a.c["]
    assert [leaf.path for leaf in table.match("*[")] == ["a.c["]
    assert [leaf.path for leaf in table.under("a")] == ["a.b", "a.c["]
    assert table.get("a") is None
    assert table.get("copied") is None
