"""Facets: exact counts of a field's values, by tantivy's aggregations."""

from collections.abc import Sequence
from typing import Any

from tantivy import FieldType, Occur, Query

from sourcebook.backends.tantivy.fields import ID_FIELD, NUMBER_FIELD, RANGED, Kind, Leaf
from sourcebook.backends.tantivy.index import OpenIndex
from sourcebook.backends.tantivy.values import decode_value
from sourcebook.errors import QuerySyntaxError
from sourcebook.language.field_hints import refuse_facet
from sourcebook.language.query_string import IGNORED_FIELD
from sourcebook.language.requests import ALL_FIELD, Facet, FacetRequest, FacetTerm

_EVERY_TERM = 1_000_000_000  # terms that a segment hands over: all, so that the counts are exact
_MARGIN = 64  # further terms fetched at once: those with the count of the last one shown
_WIDER = 4096
_BY_TERM = 20_000
_MAX_INNER_DEPTH = 4

Bucket = dict[str, Any]


def count_facets(
    index: OpenIndex, query: Query, requests: Sequence[FacetRequest], *, total: int, size: int
) -> dict[str, Facet]:
    """Return the facets of a query that finds `total` documents.

    Raises:
        QuerySyntaxError: a field is a text, or facets are nested too deep.
    """
    counter = _Counter(index, size)
    aggregations = counter.aggregations(requests, 0)
    answer = index.searcher.aggregate(query, aggregations) if total and aggregations else {}
    return counter.read(query, requests, answer, total)


class _Counter:
    """Writes the aggregations of one request, and reads their answer."""

    def __init__(self, index: OpenIndex, size: int) -> None:
        self._index = index
        self._size = size

    def aggregations(self, requests: Sequence[FacetRequest], depth: int) -> dict[str, Any]:
        if depth > _MAX_INNER_DEPTH:
            raise QuerySyntaxError(f"Facets may be nested {_MAX_INNER_DEPTH} deep.")
        written: dict[str, Any] = {}
        for position, request in enumerate(requests):
            leaf = self._leaf(request.field)
            if leaf is None:
                self.aggregations(request.inner, depth + 1)  # refuses what cannot be counted
                continue
            written[f"t{position}"] = self._terms(leaf, self._size + _MARGIN, request.inner, depth)
            if self._index.has_several_values(leaf) or self._index.has_ignored_values(leaf):
                # Only then do the counts of values not add up to the documents that have one.
                written[f"p{position}"] = {"filter": _is_present(leaf)}
        return written

    def _terms(self, leaf: Leaf, size: int, inner: Sequence[FacetRequest] = (), depth: int = 0) -> dict[str, Any]:
        terms: dict[str, Any] = {"terms": {"field": leaf.name, "size": size, "segment_size": _EVERY_TERM}}
        aggregations = self.aggregations(inner, depth + 1) if inner else {}
        if aggregations:
            terms["aggs"] = aggregations
        return terms

    def _leaf(self, field: str) -> Leaf | None:
        """Return the leaf that is counted, or None for `_id`, whose values nobody has to count."""
        if field == ID_FIELD:
            return None
        leaf = self._index.table.whole(field)
        is_text = field == ALL_FIELD or (leaf is not None and leaf.kind is Kind.TEXT)
        if leaf is None or is_text:
            raise refuse_facet(field, self._index.table.paths, is_text=is_text)
        return leaf

    def read(
        self, query: Query, requests: Sequence[FacetRequest], answer: dict[str, Any], total: int
    ) -> dict[str, Facet]:
        facets = {}
        for position, request in enumerate(requests):
            leaf = self._leaf(request.field)
            terms = answer.get(f"t{position}")
            if leaf is None:
                facets[request.field] = self._count_ids(query, request, total)
            elif terms is None:
                facets[request.field] = Facet(terms=[], other=0, missing=total, total=0)
            else:
                every = sum(bucket["doc_count"] for bucket in terms["buckets"]) + terms["sum_other_doc_count"]
                present = answer[f"p{position}"]["doc_count"] if f"p{position}" in answer else every
                shown = self._read_terms(query, request, leaf, terms)
                counted = sum(term.count for term in shown)
                facets[request.field] = Facet(shown, other=every - counted, missing=total - present, total=every)
        return facets

    def _count_ids(self, query: Query, request: FacetRequest, total: int) -> Facet:
        """Count `_id`: each value once, so the first ones in order are those to show."""
        numbers = self._index.first_numbers(query, self._size)[0] if total and self._size else []
        shown = []
        for number in numbers:
            inner: dict[str, Facet] = {}
            if request.inner:
                this = Query.range_query(self._index.schema, NUMBER_FIELD, FieldType.Unsigned, number, number)
                inside = Query.boolean_query([(Occur.Must, query), (Occur.Must, this)])
                inner = count_facets(self._index, inside, request.inner, total=1, size=self._size)
            shown.append(FacetTerm(self._index.ids.get(number), 1, inner))
        return Facet(shown, other=total - len(shown), missing=0, total=total)

    def _read_terms(self, query: Query, request: FacetRequest, leaf: Leaf, terms: dict[str, Any]) -> list[FacetTerm]:
        chosen = self._first_terms(query, request, leaf, terms)
        return [self._read_term(query, request, leaf, bucket) for bucket in chosen]

    def _read_term(self, query: Query, request: FacetRequest, leaf: Leaf, bucket: Bucket) -> FacetTerm:
        key, count = bucket["key"], bucket["doc_count"]
        inner: dict[str, Facet] = {}
        if request.inner:
            inside = Query.boolean_query([(Occur.Must, query), (Occur.Must, self._with_term(leaf, key))])
            inner = self.read(inside, request.inner, bucket, count)
        return FacetTerm(term=decode_value(leaf.kind, key), count=count, inner=inner)

    def _with_term(self, leaf: Leaf, key: Any) -> Query:
        if leaf.kind in RANGED:
            return Query.range_query(self._index.schema, leaf.name, FieldType.Integer, key, key)
        return Query.term_query(self._index.schema, leaf.name, key)

    def _first_terms(self, query: Query, request: FacetRequest, leaf: Leaf, terms: dict[str, Any]) -> list[Bucket]:
        """Return the buckets to show: by count, then by term, also where many terms share the last count shown."""
        buckets = terms["buckets"]
        if _is_decided(buckets, self._size, self._size + _MARGIN):
            return _in_order(buckets)[: self._size]
        last = buckets[self._size - 1]["doc_count"]
        by_term = self._terms(leaf, _BY_TERM)
        by_term["terms"]["order"] = {"_key": "asc"}
        first = self._fetch(query, by_term)
        sure = [bucket for bucket in buckets if bucket["doc_count"] > last]
        tied = [bucket for bucket in first if bucket["doc_count"] == last]
        if len(first) == _BY_TERM and len(sure) + len(tied) < self._size:
            tied = [bucket for bucket in self._fetch(query, self._terms(leaf, _WIDER)) if bucket["doc_count"] == last]
        chosen = _in_order(sure + tied)[: self._size]
        if request.inner:
            return [self._with_inner(query, request, leaf, bucket) for bucket in chosen]
        return chosen

    def _with_inner(self, query: Query, request: FacetRequest, leaf: Leaf, bucket: Bucket) -> Bucket:
        if "t0" in bucket:
            return bucket
        inside = Query.boolean_query([(Occur.Must, query), (Occur.Must, self._with_term(leaf, bucket["key"]))])
        return {**bucket, **self._index.searcher.aggregate(inside, self.aggregations(request.inner, 1))}

    def _fetch(self, query: Query, terms: dict[str, Any]) -> list[Bucket]:
        buckets: list[Bucket] = self._index.searcher.aggregate(query, {"t": terms})["t"]["buckets"]
        return buckets


def _is_present(leaf: Leaf) -> str:
    path = leaf.path.replace("\\", "\\\\").replace('"', '\\"')
    return f'{leaf.name}:* OR {IGNORED_FIELD}:"{path}"'


def _is_decided(buckets: list[Bucket], size: int, asked: int) -> bool:
    return len(buckets) < asked or size == 0 or buckets[-1]["doc_count"] < buckets[size - 1]["doc_count"]


def _in_order(buckets: list[Bucket]) -> list[Bucket]:
    return sorted(buckets, key=lambda bucket: (-bucket["doc_count"], bucket["key"]))
