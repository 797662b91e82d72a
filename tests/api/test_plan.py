"""From parameters to the engine-neutral search request (docs/contracts/query-api.md, sections 2, 3 and 5). Pure."""

from typing import Any

import pytest

from sourcebook.language.requests import FacetRequest, MatchQuery, SearchRequest, SortKey
from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.plan import (
    is_id_lookup,
    parse_facet,
    parse_sort,
    plan_batch,
    plan_page,
    plan_query,
    plan_term,
)
from sourcebook_api.query.values import Options, RequestValues, parse_parameters

TEMPLATES = {"human": "taxid:9606", "near": "symbol:{q} OR alias:{q}"}


def plan(**query: str) -> SearchRequest:
    options = parse_parameters("query_get", RequestValues(query=query))
    return plan_query(options, templates=TEMPLATES, timeout_seconds=3)


def batch_options(**body: Any) -> Options:
    return parse_parameters("query_post", RequestValues(body=body))


@pytest.mark.parametrize("query", [{}, {"q": "__all__"}, {"q": "*"}, {"q": "*:*"}, {"q": " * "}])
def test_section_3_every_document(query: dict[str, str]) -> None:
    assert plan(**query).query is None
    assert not plan(**query).random


def test_section_3_an_empty_query_finds_nothing_and_any_is_random() -> None:
    assert plan(q="").query == ""
    assert (plan(q="__any__").query, plan(q="__any__").random) == (None, True)
    assert plan(q="cdk2 AND taxid:9606").query == "cdk2 AND taxid:9606"


def test_section_3_facets_of_everything_need_no_hits() -> None:
    assert plan(facets="a").size == 0
    assert plan(q="__all__", facets="a").size == 0
    assert plan(facets="a", size="3").size == 3
    assert plan(q="x", facets="a").size == 10
    assert plan().size == 10


def test_section_2_options_reach_the_request() -> None:
    request = plan(q="x", filter="a:b", post_filter="c:d", sort="-a,b", facet_size="3", explain="1", **{"from": "5"})
    assert (request.filter, request.post_filter, request.offset) == ("a:b", "c:d", 5)
    assert request.sort == (SortKey("a", descending=True), SortKey("b"))
    assert (request.facet_size, request.explain, request.timeout_seconds) == (3, True, 3)


def test_section_2_the_window_ends_at_ten_thousand() -> None:
    assert plan(size="1000", **{"from": "9000"}).offset == 9000
    with pytest.raises(QueryError) as caught:
        plan(size="1000", **{"from": "9001"})
    assert caught.value.body["error"] == "ValueError"
    assert caught.value.body["details"].startswith("Result window is too large")


def test_section_2_userquery() -> None:
    assert plan(userquery="human", q="x", filter="f:1").filter == "(f:1) AND (taxid:9606)"
    assert plan(userquery="human").filter == "taxid:9606"
    assert plan(userquery="near", q="a b").query == "symbol:(a b) OR alias:(a b)"
    assert plan(userquery="near").query == "symbol:* OR alias:*"
    with pytest.raises(QueryError) as caught:
        plan(userquery="nosuch")
    assert caught.value.body["allowed"] == ["human", "near"]


def test_section_2_sort() -> None:
    assert parse_sort(["_score", "-_score", "-"]) == (
        SortKey("_score", descending=True),
        SortKey("_score", descending=True),
    )


def test_section_5_nested_facets() -> None:
    assert parse_facet("a") == FacetRequest("a")
    assert parse_facet("a(b.c(d), e)") == FacetRequest(
        "a", (FacetRequest("b.c", (FacetRequest("d"),)), FacetRequest("e"))
    )


@pytest.mark.parametrize("text", ["a(", "a()", "a)", "(a)", "a(b))", "a(b", "a(b)c", "a(" * 50 + ")" * 50])
def test_section_5_facets_that_cannot_be_read(text: str) -> None:
    with pytest.raises(QueryError):
        parse_facet(text)


def test_section_5_a_walk_is_in_id_order_by_thousands() -> None:
    options = parse_parameters("query_get", RequestValues(query={"q": "x", "fetch_all": "1", "size": "5"}))
    request = plan_page(options, templates={}, timeout_seconds=1, after="token")
    assert (request.in_id_order, request.size, request.after, request.query) == (True, 1000, "token", "x")
    options = parse_parameters("query_get", RequestValues(query={"q": "x", "search_after": "*", "size": "5"}))
    assert plan_page(options, templates={}, timeout_seconds=1, after=None).size == 5
    sorted_options = parse_parameters("query_get", RequestValues(query={"q": "x", "fetch_all": "1", "sort": "a"}))
    with pytest.raises(QueryError):
        plan_page(sorted_options, templates={}, timeout_seconds=1, after=None)


def test_section_3_a_term_is_matched_over_the_scopes() -> None:
    assert plan_term("CDK2", ["symbol", "alias"]) == (MatchQuery("CDK2", ("symbol", "alias")),)
    assert plan_term(1017, ("_id",)) == (MatchQuery("1017", ("_id",)),)
    assert plan_term("a:b", []) == "a:b"
    assert plan_term(["1017", "CDK2"], [["_id", "x"], "symbol"]) == (
        MatchQuery("1017", ("_id", "x")),
        MatchQuery("CDK2", ("symbol",)),
    )


@pytest.mark.parametrize("term", [["a"], [], {"a": 1}, None, [["a"], "b"]])
def test_section_3_terms_that_do_not_fit_are_refused(term: Any) -> None:
    with pytest.raises(QueryError):
        plan_term(term, ["a", "b"])


def test_section_2_too_many_hits() -> None:
    with pytest.raises(QueryError) as caught:
        plan_batch(batch_options(q=["x"] * 101, size=1000), timeout_seconds=1)
    assert caught.value.body["error"] == "Too Many Hits Requested."
    assert len(plan_batch(batch_options(q=["x"] * 100, size=1000), timeout_seconds=1)) == 100


def test_section_7_a_batch_of_ids_needs_no_search() -> None:
    assert is_id_lookup(batch_options(q=["1", 2]))
    assert is_id_lookup(batch_options(q=["1"], scopes="_id"))
    for other in ({"scopes": ["symbol"]}, {"filter": "a:b"}, {"from": 1}, {"size": 0}, {"q": [["1"]]}):
        assert not is_id_lookup(batch_options(**{"q": ["1"], **other}))


@pytest.mark.parametrize("name", ["count", "term"])
def test_an_inner_facet_never_takes_the_place_of_the_count(name: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse_facet(f"a({name})")
    assert name in refused.value.extra["details"]
    assert parse_facet(name) == FacetRequest(name)
