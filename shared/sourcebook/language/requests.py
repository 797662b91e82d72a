"""A search request and its result, the same for every engine."""

from dataclasses import dataclass, field
from typing import Any

ALL_FIELD = "all"


@dataclass(frozen=True, slots=True)
class FacetRequest:
    """Counts of the values of a field; `inner` are counted inside each value."""

    field: str
    inner: tuple["FacetRequest", ...] = ()


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of a sort; `field` may be `_score` or `_id`."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class MatchQuery:
    """`text` matched against any of `fields`: all its words must be found in one of them (multi_match, operator AND)."""

    text: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What to find.

    `query` is a Lucene query string, a tuple of MatchQuery that must all match, or None for every document. An empty query
    string finds nothing. `filter` and `post_filter` are query strings; the second does not change the facets. `after` is the
    `next_page` of an earlier result: the page that follows it (only without sort).
    """

    query: str | tuple[MatchQuery, ...] | None = None
    filter: str | None = None
    post_filter: str | None = None
    offset: int = 0
    size: int = 10
    sort: tuple[SortKey, ...] = ()
    facets: tuple[FacetRequest, ...] = ()
    facet_size: int = 10
    random: bool = False
    in_id_order: bool = False
    """Walk all hits in `_id` order without scores (fetch_all): every page once, whatever the depth."""
    after: str | None = None
    explain: bool = False
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found: its stored canonical JSON and its score (None when sorted)."""

    id: str
    score: float | None
    body: bytes
    explanation: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FacetTerm:
    """One value of a field, how many documents have it, and what is counted inside it."""

    term: Any
    count: int
    inner: dict[str, "Facet"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facet:
    """Counts of a field's values: those shown, and exact sums over those beyond."""

    terms: list[FacetTerm]
    other: int
    missing: int
    total: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of hits."""

    total: int
    hits: list[Hit]
    max_score: float | None = None
    facets: dict[str, Facet] = field(default_factory=dict)
    next_page: str | None = None
    """Token for SearchRequest.after; None after the last page."""
    searched: tuple[str, ...] = ()
    """Where words without a field name were looked for, if the query has such words and nothing was found."""
