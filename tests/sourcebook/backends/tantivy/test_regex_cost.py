"""An expression that would hold up the whole process while it is compiled is refused before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.backends.tantivy.automata import Chars, concatenation, repeat, union
from sourcebook.backends.tantivy.regex import lucene_regex
from sourcebook.backends.tantivy.regex_cost import MAX_PARTS, MAX_STATES, MAX_STEPS, check_cost
from sourcebook.errors import QuerySyntaxError

A, B = Chars.of([(97, 97)]), Chars.of([(98, 98)])


@pytest.mark.parametrize(
    "pattern",
    [
        "((y{1,50}){1,20}){1,10}",
        "(y{1,50}){1,20}",
        "y{1000}",
        "(y{1,999}){1,999}",
        "(((y{1,9}){1,9}){1,9}){1,9}",
        "(a|b)*a(a|b){12}",
        "(.{0,10}a){10}",
        r"(\w{1,5} ?){1,20}",
        "(@abc){30}",
        "x{500}y{600}",
    ],
)
def test_an_expression_that_takes_long_to_compile_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(QuerySyntaxError, match="too large once its repeats are written out"):
        lucene_regex(pattern, has_lowercase=False)


@pytest.mark.parametrize(
    "pattern",
    [
        "y{1,990}",
        "[a-z]{1,500}",
        "ENSG[0-9]{11}",
        "(NM|NR|XM|XR)_[0-9]+(\\.[0-9]+)?",
        ".*(foo|bar|baz).*(one|two).*",
        "@(cyclin|kinase)@",
        "[A-Z]{2,5}[0-9]{1,6}(\\.[0-9]{1,3})?",
        "(rs|chr)<1-2147483647>",
        "(y{1,20}){1,20}",
    ],
)
def test_what_people_write_is_taken(pattern: str) -> None:
    assert lucene_regex(pattern, has_lowercase=False) is not None


def test_the_limits_are_those_that_are_written_down() -> None:
    assert check_cost(repeat(A, MAX_STATES - 2, MAX_STATES - 2)) <= MAX_STEPS
    with pytest.raises(ValueError, match="too large"):
        check_cost(repeat(A, MAX_STATES, MAX_STATES))
    with pytest.raises(ValueError, match="too large"):
        check_cost(union([repeat(A, 0, MAX_PARTS), B]))


@given(st.integers(1, 12), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_more_repeats_never_cost_less(inner: int, outer: int) -> None:
    def cost(inside: int, outside: int) -> int:
        try:
            return check_cost(repeat(concatenation([repeat(A, 1, inside), repeat(B, 0, 1)]), 1, outside))
        except ValueError:
            return MAX_STEPS + 1

    assert cost(inner, outer) <= cost(inner + 1, outer) <= cost(inner + 1, outer + 1)
