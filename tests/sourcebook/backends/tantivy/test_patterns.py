"""Wildcards and ranges of strings, compared with python through the engine itself."""

import re

import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.backends.tantivy.patterns import escape, range_regex, wildcard_regex
from sourcebook.errors import QuerySyntaxError

ALPHABET = "ab\x00\n é漢\U0010ffff\ud7ff\ue000.*"
LONG = "abcdefghij" * 4


def python_expression(expression: str) -> "re.Pattern[str]":
    """The expression as python's engine takes it: other escapes, the same meaning."""
    written = re.sub(r"\\x\{([0-9A-F]+)\}", lambda match: f"\\U{int(match[1], 16):08x}", expression)
    return re.compile(written.replace("(?s:.)", "[\\s\\S]"))


def is_accepted(expression: str) -> bool:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("f", tokenizer_name="raw")
    tantivy.Query.regex_query(builder.build(), "f", expression)
    return True


texts = st.text(ALPHABET, max_size=4)


@given(texts | st.none(), texts | st.none(), st.booleans(), st.booleans(), st.lists(texts, min_size=5, max_size=20))
@settings(max_examples=300, deadline=None)
def test_a_range_holds_what_lies_between_in_code_point_order(
    low: str | None, high: str | None, include_low: bool, include_high: bool, values: list[str]
) -> None:
    expression = range_regex(low, high, include_low=include_low, include_high=include_high)
    compiled = None if expression is None else python_expression(expression)
    if expression is not None:
        assert is_accepted(expression)
    for value in [*values, low or "", high or ""]:
        above = low is None or value > low or (include_low and value == low)
        below = high is None or value < high or (include_high and value == high)
        assert (compiled is not None and compiled.fullmatch(value) is not None) == (above and below), (
            value,
            expression,
        )


@pytest.mark.parametrize(
    ("low", "high"), [(LONG, None), (None, LONG), (LONG[:25], "z" * 25), ("x" * 300, "x" * 300 + "y")]
)
def test_long_bounds_are_accepted_by_the_engine(low: str | None, high: str | None) -> None:
    expression = range_regex(low, high, include_low=False, include_high=True)
    assert expression is not None
    assert is_accepted(expression)


def test_bounds_that_are_too_long_are_refused() -> None:
    with pytest.raises(QuerySyntaxError, match="bounds"):
        range_regex("a" * 100, "b" * 100, include_low=True, include_high=True)


@given(st.text(st.characters(codec="utf-8"), max_size=10))
@settings(deadline=None)
def test_an_escaped_text_matches_itself(text: str) -> None:
    assert is_accepted(escape(text))
    assert python_expression(escape(text)).fullmatch(text)


@pytest.mark.parametrize(
    ("pattern", "matches", "differs"),
    [
        ("a*", ["a", "abc"], ["ba"]),
        ("a?c", ["abc"], ["ac", "abbc"]),
        ("a\\*", ["a*"], ["ab"]),
        ("*.b", [".b", "a.b", "\n.b"], ["ab"]),
        ("a\\", ["a\\"], ["a"]),
    ],
)
def test_wildcards(pattern: str, matches: list[str], differs: list[str]) -> None:
    expression = python_expression(wildcard_regex(pattern))
    assert all(expression.fullmatch(text) for text in matches)
    assert not any(expression.fullmatch(text) for text in differs)
