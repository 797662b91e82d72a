"""Which searches are answered at once, which go to a thread, and which are refused."""

import pytest

from sourcebook.backends.tantivy.cost import MAX_COST, MAX_EXPRESSIONS, check_patterns, is_heavy, is_quick
from sourcebook.errors import QuerySyntaxError
from sourcebook.language.query_string import parse_query_string
from sourcebook.language.requests import FacetRequest, MatchQuery, SearchRequest, SortKey

FACET = FacetRequest("category")


@pytest.mark.parametrize(
    "request_",
    [
        SearchRequest(),
        SearchRequest("symbol:CDK2"),
        SearchRequest("cyclin AND kinase", filter="taxid:9606", post_filter="_exists_:name"),
        SearchRequest((MatchQuery("cyclin kinase", ("name", "symbol")),)),
        SearchRequest("kinase", facets=(FACET,)),
    ],
    ids=repr,
)
def test_plain_words_on_a_small_index_are_quick(request_: SearchRequest) -> None:
    assert is_quick(request_, 10_000)
    assert not is_quick(request_, MAX_COST + 1) or not request_.query


@pytest.mark.parametrize(
    "request_",
    [
        SearchRequest("symbol:CDK*"),
        SearchRequest("symbol:CDK?"),
        SearchRequest("/a.*/"),
        SearchRequest("cdk~"),
        SearchRequest("taxid:[1 TO 2]"),
        SearchRequest("taxid:{1 TO 2}"),
        SearchRequest("taxid:>5"),
        SearchRequest("taxid:<5"),
        SearchRequest("x", filter="symbol:*"),
        SearchRequest("x" * 201),
        SearchRequest("x", size=101),
        SearchRequest("x", offset=100),
        SearchRequest("x", sort=(SortKey("a"),)),
        SearchRequest("x", explain=True),
        SearchRequest(random=True),
        SearchRequest(facets=(FacetRequest("a", (FACET,)),)),
        SearchRequest(facets=(FACET,), facet_size=1000),
        SearchRequest(facets=(FACET,) * 20),
        SearchRequest(" ".join("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz")),
    ],
    ids=repr,
)
def test_what_may_take_long_is_not_quick(request_: SearchRequest) -> None:
    assert not is_quick(request_, 10_000)


def check(query: str, *, documents: int, leaves: int = 2) -> None:
    node = parse_query_string(query)
    assert node is not None
    check_patterns(node, lambda _field: leaves, documents)


MANY = " OR ".join(f"*word{number}*" for number in range(1000))


@pytest.mark.parametrize(
    ("query", "documents", "leaves"),
    [(MANY, 1_000_000, 2), (MANY, 20_000, 2), ("*a* AND (*b*^2 OR -*c)", 10_000_000, 2), ("*:*a*", 1_000_000, 40)],
    ids=["many", "many on a small index", "few on a large one", "every field"],
)
def test_patterns_that_would_take_too_long_are_refused_with_the_reason(query: str, documents: int, leaves: int) -> None:
    with pytest.raises(QuerySyntaxError, match=r"patterns are looked up in .* takes too long"):
        check(query, documents=documents, leaves=leaves)


def test_patterns_that_people_write_are_not_refused_on_a_large_index() -> None:
    for query in ("*kinase*", "symbol:/cdk.*/ AND *kinase", "cyclin~ kinas?", " OR ".join(["cdk*"] * 20)):
        check(query, documents=20_000_000)
    check(MANY, documents=5000)


def test_regular_expressions_of_one_query_are_limited() -> None:
    check("*:/a.*/", documents=10, leaves=MAX_EXPRESSIONS)
    with pytest.raises(QuerySyntaxError, match="regular expressions are looked up in 101 fields"):
        check("*:/a.*/", documents=10, leaves=MAX_EXPRESSIONS + 1)


def test_patterns_and_ranges_are_heavy() -> None:
    for request in (SearchRequest("a*"), SearchRequest("a", filter="x:[1 TO 2]"), SearchRequest("a", post_filter="b~")):
        assert is_heavy(request)
    for request in (
        SearchRequest(),
        SearchRequest("a b", sort=(SortKey("x"),)),
        SearchRequest((MatchQuery("*", ("x",)),)),
    ):
        assert not is_heavy(request)
