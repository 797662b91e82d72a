"""Lucene's regular expressions, compared with python through what is written for tantivy."""

import re
import time
from collections.abc import Callable

import pytest
import tantivy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sourcebook.backends.tantivy.regex import lucene_regex
from sourcebook.errors import QuerySyntaxError


def matcher(pattern: str, *, has_lowercase: bool = False) -> Callable[[str], bool]:
    """Whether a text matches, as python reads what tantivy is given; tantivy has to accept it."""
    written = lucene_regex(pattern, has_lowercase=has_lowercase)
    if written is None:
        return lambda _: False
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("f", tokenizer_name="raw")
    tantivy.Query.regex_query(builder.build(), "f", written)
    python = re.sub(r"\\x\{([0-9A-F]+)\}", lambda match: f"\\U{int(match[1], 16):08x}", written)
    compiled = re.compile(python.replace("(?s:.)", "[\\s\\S]"))
    return lambda text: compiled.fullmatch(text) is not None


@pytest.mark.parametrize(
    ("pattern", "matches", "differs"),
    [
        ("cdk[0-9]+", ["cdk2"], ["cdk"]),
        ("a|b{2}", ["a", "bb"], ["b"]),
        ("a{2,}b{1,2}c{0}", ["aab", "aaabb"], ["ab", "aabbb", "aabc"]),
        ("(ab)?()c", ["abc", "c"], ["ab"]),
        ("\\d\\w\\s", ["1_ "], ["a_ "]),
        ("[\\d_]\\S[^\\w]", ["1x-"], ["a_ ", "1x_"]),
        ('"a.b"c?', ["a.b", "a.bc"], ["axb"]),
        ("a@", ["a", "abc", "a\n"], ["b"]),
        ("a.", ["ab", "a\n", "a漢"], ["a", "abc"]),
        ("\\.x", [".x"], ["ax"]),
        ("[#~^]", ["#", "^"], ["a"]),
        ("[^a-c]", ["d", "漢", "-"], ["a", "c", ""]),
        ("[a\\-z]", ["a", "-", "z"], ["b"]),
        ("#", [], ["", "#"]),
        ("a#|b", ["b"], ["a", "a#"]),
        ("(#)*", [""], ["a"]),
        ("", [""], ["a"]),
        ("^a$", ["^a$"], ["a"]),
        ("~a", ["", "b", "aa"], ["a"]),
        ("~(a.*)", ["", "b", "ba"], ["a", "ab"]),
        ("a~(.*b.*)c", ["ac", "axxc"], ["abc", "axbxc"]),
        ("~~a", ["a"], ["b"]),
        ("~(@)", [], ["", "a"]),
        ("a.*&.*b", ["ab", "axb"], ["a", "b", "ba"]),
        ("[a-m]&[k-z]", ["k", "m"], ["a", "z"]),
        ("a&b", [], ["a", "b"]),
        (".{2,3}&~(ab.*)&[a-c]*", ["ba", "ccc"], ["ab", "abc", "a", "bad"]),
        ("cdk(~(2|3))", ["cdk", "cdk4", "cdk22"], ["cdk2", "cdk3", "cd"]),
        ("<1-5>", ["1", "5"], ["0", "6", "15", "03"]),
        ("v<9-101>", ["v9", "v10", "v99", "v101", "v0100"], ["v8", "v102", "v1000"]),
        ("<101-9>", ["9", "101"], ["8", "102"]),
        ("<08-12>", ["08", "10", "12"], ["8", "13", "008"]),
        ("<0-0>", ["0"], ["1", "00"]),
        ("<095-103>", ["095", "099", "100", "103"], ["94", "95", "104"]),
    ],
)
def test_lucene_expressions(pattern: str, matches: list[str], differs: list[str]) -> None:
    is_match = matcher(pattern)
    assert [text for text in matches if not is_match(text)] == []
    assert [text for text in differs if is_match(text)] == []


def test_an_expression_on_a_lower_case_keyword_is_lower_case() -> None:
    is_match = matcher("CDK[A-Z]\\D\\CA~(X)", has_lowercase=True)
    assert is_match("cdkzxca")
    assert not is_match("cdkz1ca")
    assert not is_match("CDKZXCA")
    assert not is_match("cdkzxcax")


@pytest.mark.parametrize(
    "pattern",
    [
        "a(b",
        "a)b",
        "[a",
        "a{",
        "a{2",
        "a{x}",
        "a{3,2}",
        "a{1001}",
        '"a',
        "<a>",
        "<1-",
        "<1>",
        "<-1>",
        "a\\",
        "[b-a]",
        "~",
        "a|",
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        lucene_regex(pattern, has_lowercase=False)
    assert caught.value.message.startswith(f"Failed to parse query [/{pattern}/]: ")


@pytest.mark.parametrize(
    "pattern",
    [
        "a" * 1001,
        "(" * 400 + "a" + ")" * 400,
        "~" * 999 + "a",
        "~((a|b)*a(a|b){50})",
        "~(.*a.{30})",
        "~(((a*)*)*{500}){500}",
        "(.*a.*b.*c)&(.*d.*e.*f)&(.*g.*h.*i)&(.*j.*k.*l)",
        "&".join(f"(.{{{number}}})*" for number in (7, 11, 13, 17, 19)),
    ],
    ids=lambda pattern: pattern[:12],
)
def test_an_explosive_expression_is_refused_in_no_time(pattern: str) -> None:
    start = time.process_time()
    with pytest.raises(QuerySyntaxError):
        lucene_regex(pattern, has_lowercase=False)
    assert time.process_time() - start < 2.0


letters = st.sampled_from("abc")
plain = st.one_of(letters, st.sampled_from([".", "[ab]", "[^a]", "()", "@"]))
patterns = st.recursive(
    plain.map(lambda text: (text, text.replace("@", ".*"))),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: (pair[0][0] + pair[1][0], pair[0][1] + pair[1][1])),
        st.tuples(inner, inner).map(lambda pair: (f"({pair[0][0]}|{pair[1][0]})", f"(?:{pair[0][1]}|{pair[1][1]})")),
        st.tuples(inner, st.sampled_from(["*", "?", "+", "{2}", "{0,2}"])).map(
            lambda pair: (f"({pair[0][0]}){pair[1]}", f"(?:{pair[0][1]}){pair[1]}")
        ),
    ),
    max_leaves=4,
)


@given(patterns, patterns, st.lists(st.text("abc", max_size=4), min_size=10, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_operators_mean_what_sets_of_texts_mean(
    left: tuple[str, str], right: tuple[str, str], texts: list[str]
) -> None:
    first, second = re.compile(left[1]), re.compile(right[1])
    both, none = matcher(f"({left[0]})&({right[0]})"), matcher(f"~({left[0]})")
    but = matcher(f"({left[0]})&~({right[0]})|b~(({right[0]}))")
    for text in texts:
        is_first, is_second = first.fullmatch(text) is not None, second.fullmatch(text) is not None
        assert both(text) == (is_first and is_second), text
        assert none(text) != is_first, text
        behind_b = text.startswith("b") and second.fullmatch(text[1:]) is None
        assert but(text) == ((is_first and not is_second) or behind_b), text


@given(st.integers(0, 3000), st.integers(0, 3000), st.booleans(), st.lists(st.integers(0, 4000), min_size=20))
@settings(max_examples=50, deadline=None)
def test_an_interval_has_the_numbers_between(low: int, high: int, is_padded: bool, numbers: list[int]) -> None:
    width = 4 if is_padded else 0
    is_match = matcher(f"<{low:0{width}}-{high:0{width}}>")
    least, most = min(low, high), max(low, high)
    for number in [*numbers, least, most, most + 1]:
        assert is_match(f"{number:0{width}}") == (least <= number <= most), number
