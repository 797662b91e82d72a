"""Query strings become trees as Lucene's classic parser reads them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.errors import QuerySyntaxError
from sourcebook.language.query_string import (
    MAX_CHARACTERS,
    Boolean,
    Boost,
    Everything,
    Exists,
    Fuzzy,
    Node,
    Occur,
    Range,
    Regex,
    Term,
    Wildcard,
    has_wildcard,
    parse_query_string,
    unescape,
)

MUST, SHOULD, NOT = Occur.MUST, Occur.SHOULD, Occur.MUST_NOT


def word(text: str, field: str | None = None) -> Term:
    return Term(field, text)


A, B, C = word("a"), word("b"), word("c")
AT_LEAST_1 = Range("f", "1", None, include_low=True, include_high=True)
BELOW_5 = Range("f", None, "5", include_low=True, include_high=False)

TREES: list[tuple[str, Node | None]] = [
    ("", None),
    (" \t\u3000", None),
    ("a", A),
    ("'a", word("'a")),
    ("g.123A>G", word("g.123A>G")),
    ("ANDROID", word("ANDROID")),
    ("f:a", word("a", "f")),
    ("f : a", word("a", "f")),
    ("o.f:a", word("a", "o.f")),
    ("o.\\*:a", word("a", "o.*")),
    ("a\\:b", word("a:b")),
    ("\\(a\\)", word("(a)")),
    ('"a b"', Term(None, "a b", is_phrase=True)),
    ('"a \\" b"', Term(None, 'a " b', is_phrase=True)),
    ('f:"a b"~3', Term("f", "a b", is_phrase=True, slop=3)),
    ('"a b"~', Term(None, "a b", is_phrase=True)),
    ('"a b"~1.5', Term(None, "a b", is_phrase=True, slop=1)),
    ("a*", Wildcard(None, "a*")),
    ("f:?a", Wildcard("f", "?a")),
    ("a\\*b*", Wildcard(None, "a\\*b*")),
    ("a\\*", word("a*")),
    ("*", Everything()),
    ("**", Everything()),
    ("*:*", Everything()),
    ("f:*", Exists("f")),
    ("_exists_:o.f", Exists("o.f")),
    ('_exists_:"o.f"', Exists("o.f")),
    ("/a[b]/", Regex(None, "a[b]")),
    ("f:/a\\/b/", Regex("f", "a/b")),
    ("a~", Fuzzy(None, "a", None)),
    ("a~AUTO", Fuzzy(None, "a", None)),
    ("a~1", Fuzzy(None, "a", 1.0)),
    ("f:a~0.8", Fuzzy("f", "a", 0.8)),
    ("f:[1 TO 5]", Range("f", "1", "5", include_low=True, include_high=True)),
    ("f:{1 TO 5]", Range("f", "1", "5", include_low=False, include_high=True)),
    ("f:[* TO 5}", Range("f", None, "5", include_low=True, include_high=False)),
    ("f:[-5 TO 10:30]", Range("f", "-5", "10:30", include_low=True, include_high=True)),
    ('f:["a b" TO "*"]', Range("f", "a b", None, include_low=True, include_high=True)),
    ("f:>=5", Range("f", "5", None, include_low=True, include_high=True)),
    ("f:<5", Range("f", None, "5", include_low=True, include_high=False)),
    ("f:>", word(">", "f")),
    ("a^2", Boost(A, 2.0)),
    ("(a)^2.5", Boost(A, 2.5)),
    ("f:a~1^2", Boost(Fuzzy("f", "a", 1.0), 2.0)),
    ("f:a^2~1", Boost(Fuzzy("f", "a", 1.0), 2.0)),
    ("a^2~", Boost(Fuzzy(None, "a", None), 2.0)),
    ("a~auto", Fuzzy(None, "a", None)),
    ('"a b"^2~3', Boost(Term(None, "a b", is_phrase=True, slop=3), 2.0)),
    ('"a b"~3^2', Boost(Term(None, "a b", is_phrase=True, slop=3), 2.0)),
    ('"a b"~x', Term(None, "a b", is_phrase=True)),
    ("a*~1", Wildcard(None, "a*")),
    ("a?b~1^2", Boost(Wildcard(None, "a?b"), 2.0)),
    ("*~1", Everything()),
    ("/a/~1^2", Boost(Regex(None, "a"), 2.0)),
    ("/a/^2~1", Boost(Regex(None, "a"), 2.0)),
    ("//", Regex(None, "")),
    ("(a)^2 b", Boolean(((MUST, Boost(A, 2.0)), (MUST, B)))),
    ("[1 TO 2]^2", Boost(Range(None, "1", "2", include_low=True, include_high=True), 2.0)),
    ("\\u0061", A),
    ("f:\\u00E9x", word("éx", "f")),
    ("\\uD83E\\uDDEC", word("\U0001f9ec")),
    ("\\uD83E", word("\ufffd")),
    ('"\\u0061 b"', Term(None, "a b", is_phrase=True)),
    ("f:now-1d\\/d", word("now-1d/d", "f")),
    ("f:2024-01-01||+1M\\/d", word("2024-01-01||+1M/d", "f")),
    ("f:[now-1d/d TO now/d}", Range("f", "now-1d/d", "now/d", include_low=True, include_high=False)),
    ("f:>=now-1d", Range("f", "now-1d", None, include_low=True, include_high=True)),
    ("f:(+>=1 +<5)", Boolean(((MUST, AT_LEAST_1), (MUST, BELOW_5)))),
    ("f:(>=1 AND <5)", Boolean(((MUST, AT_LEAST_1), (MUST, BELOW_5)))),
    ("((a))", A),
    ("a b", word("a b")),
    ("a & \\- b", word("a & - b")),
    ("f:(a b c)", word("a b c", "f")),
    ("f:a b c", Boolean(((MUST, word("a", "f")), (MUST, word("b c"))))),
    ("a b f:c", Boolean(((MUST, word("a b")), (MUST, word("c", "f"))))),
    ("a b AND c", Boolean(((MUST, A), (MUST, B), (MUST, C)))),
    ("a b OR c", Boolean(((MUST, A), (SHOULD, B), (SHOULD, C)))),
    ("a OR b c a", Boolean(((SHOULD, A), (SHOULD, B), (MUST, word("c a"))))),
    ("-a b c", Boolean(((NOT, A), (MUST, word("b c"))))),
    ("a b -c", Boolean(((MUST, word("a b")), (NOT, C)))),
    ("a b^2", Boolean(((MUST, A), (MUST, Boost(B, 2.0))))),
    ("a b~1", Boolean(((MUST, A), (MUST, Fuzzy(None, "b", 1.0))))),
    ("a b*", Boolean(((MUST, A), (MUST, Wildcard(None, "b*"))))),
    ("a >5", Boolean(((MUST, A), (MUST, Range(None, "5", None, include_low=False, include_high=True))))),
    ("a AND b", Boolean(((MUST, A), (MUST, B)))),
    ("a && b", Boolean(((MUST, A), (MUST, B)))),
    ("a OR b", Boolean(((SHOULD, A), (SHOULD, B)))),
    ("a || b", Boolean(((SHOULD, A), (SHOULD, B)))),
    ("a NOT b", Boolean(((MUST, A), (NOT, B)))),
    ("a !b", Boolean(((MUST, A), (NOT, B)))),
    ("NOT a", Boolean(((NOT, A),))),
    ("-a", Boolean(((NOT, A),))),
    ("+a -b c", Boolean(((MUST, A), (NOT, B), (MUST, C)))),
    ("a AND NOT b", Boolean(((MUST, A), (NOT, B)))),
    ("a OR b AND c", Boolean(((SHOULD, A), (MUST, B), (MUST, C)))),
    ("a AND b OR c", Boolean(((MUST, A), (SHOULD, B), (SHOULD, C)))),
    ("a OR b c", Boolean(((SHOULD, A), (SHOULD, B), (MUST, C)))),
    ("-a OR b", Boolean(((NOT, A), (SHOULD, B)))),
    ("(a OR b) c", Boolean(((MUST, Boolean(((SHOULD, A), (SHOULD, B)))), (MUST, C)))),
    ("f:(a OR b)", Boolean(((SHOULD, word("a", "f")), (SHOULD, word("b", "f"))))),
    ("f:(a g:b)", Boolean(((MUST, word("a", "f")), (MUST, word("b", "g"))))),
    ("a - b", Boolean(((MUST, A), (MUST, word("-")), (MUST, B)))),
    ('a"b"', Boolean(((MUST, A), (MUST, Term(None, "b", is_phrase=True))))),
]


@pytest.mark.parametrize(("query", "tree"), TREES, ids=[repr(query) for query, _ in TREES])
def test_a_query_string_becomes_a_tree(query: str, tree: Node | None) -> None:
    assert parse_query_string(query) == tree


BROKEN = [
    "(a",
    "a)",
    "()",
    "f:()",
    "a AND",
    "AND a",
    "a OR OR b",
    "f:",
    ":a",
    "a:b:c",
    '"a',
    "/a",
    "a/b",
    "[1 TO 2",
    "[1 2]",
]
BROKEN += [
    "[1 TO]",
    "a^",
    "a^x",
    "f:-5",
    "hello!",
    "+",
    "NOT",
    "f*:a",
    "a~1~2",
    "~",
    "NOT NOT a",
    "\\",
    "a~b",
    "a~1x",
    "(a)~1",
    "\\u00g0",
    "a\\u",
]


@pytest.mark.parametrize("query", BROKEN)
def test_what_is_no_query_is_refused_with_the_query_in_the_message(query: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_query_string(query)
    assert caught.value.message.startswith(f"Failed to parse query [{query}]")


@pytest.mark.parametrize(
    "query",
    [
        " OR ".join(f"a{number}" for number in range(1025)),
        "(" * 51 + "a" + ")" * 51,
        "(" * 60_000,
        '"' * 60_001,
        'a"' * 30_000,
        "\\" * 60_001,
        "[" * 60_000,
        '["a' * 20_000,
        "[a" + " " * 60_000,
        "/" * 60_001,
        "a~" * 30_000,
        "*?" * 30_000 + "(",
        "- " * 30_000 + "(",
        "x" * (MAX_CHARACTERS + 1),
        " ".join(f"/~a{number}/" for number in range(21)),
    ],
    ids=lambda query: query[:4],
)
def test_a_hostile_query_is_refused_in_no_time(query: str) -> None:
    start = time.process_time()
    with pytest.raises(QuerySyntaxError):
        parse_query_string(query)
    assert time.process_time() - start < 1.0


def test_the_largest_allowed_queries_are_read() -> None:
    assert isinstance(parse_query_string(" AND ".join(["a"] * 1024)), Boolean)
    assert parse_query_string("(" * 50 + "a" + ")" * 50) == A
    assert parse_query_string('"a b"~' + "9" * 400) == Term(None, "a b", is_phrase=True, slop=10_000)
    assert isinstance(parse_query_string("a^" + "9" * 400), Boost)


@given(st.text("ab*?:()[]{}\"'/\\+-!&|~^ \tANDORT<>=.1é", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_query_or_a_syntax_error(text: str) -> None:
    try:
        parse_query_string(text)
    except QuerySyntaxError as error:
        assert text in error.message  # noqa: PT017 - both outcomes are right


@given(st.text(st.characters(codec="utf-8", exclude_characters="u"), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_an_escaped_word_is_itself(text: str) -> None:
    escaped = "".join(f"\\{character}" for character in text)
    assert parse_query_string(escaped) == Term(None, text)
    assert unescape(escaped) == text
    assert not has_wildcard(escaped)
