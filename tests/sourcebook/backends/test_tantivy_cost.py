"""Which searches are answered at once, and which go to a thread."""

import pytest

from sourcebook.backends.tantivy_cost import MAX_COST, is_quick
from sourcebook.model.query import FacetRequest, MatchQuery, SearchRequest, SortKey

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
