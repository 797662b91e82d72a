"""Tokens of a walk over all hits (docs/contracts/query-api.md, section 5)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.scroll import SCROLL_SECONDS, Token, query_fingerprint, read_token, write_token


def make_token(age: float = 0.0) -> Token:
    return Token("scroll_id", "genes_1", {"q": "x", "fields": ["a"]}, "page", time.time() - age)


def test_section_5_a_token_survives_its_trip() -> None:
    token = make_token()
    text = write_token(token)
    assert read_token(text, "scroll_id") == token
    assert text.isascii()
    assert "=" not in text


@pytest.mark.parametrize("text", ["", "x", "\u00e9", "AAAA" * 10_000], ids=["empty", "short", "no ASCII", "long"])
def test_section_5_what_is_no_token_is_refused(text: str) -> None:
    assert_stale(text)


def test_section_5_a_stale_token_is_refused() -> None:
    assert_stale(write_token(make_token())[:-4] + "AAAA")
    assert_stale(write_token(make_token()), "search_after")
    assert_stale(write_token(make_token(SCROLL_SECONDS + 1)))
    assert_stale(write_token(make_token(-100)))


def assert_stale(text: str, kind: str = "scroll_id") -> None:
    with pytest.raises(QueryError) as caught:
        read_token(text, kind)
    assert caught.value.body["error"] == "ValueError"
    assert caught.value.body["details"] == f"Invalid or stale {kind}."


@given(st.text())
def test_section_5_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(QueryError):
        read_token(text, "scroll_id")


def test_section_5_the_fingerprint_is_that_of_the_query() -> None:
    base = {"q": "x", "filter": None, "post_filter": None, "userquery": None, "size": 10}
    assert query_fingerprint(base) == query_fingerprint({**base, "size": 20})
    assert query_fingerprint(base) != query_fingerprint({**base, "filter": "a"})
