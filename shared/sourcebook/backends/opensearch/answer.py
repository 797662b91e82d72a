"""From OpenSearch's answer to a search result. Documents are not decoded: their bytes are cut out of the answer."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from sourcebook.backends.opensearch.mapping import IndexState
from sourcebook.backends.opensearch.query import Json, facet_type
from sourcebook.backends.opensearch.too_long import read_stored
from sourcebook.language.field_hints import searched_in_vain
from sourcebook.language.requests import Facet, FacetRequest, FacetTerm, Hit, SearchRequest, SearchResult

_WHOLE = {"integer", "long", "short", "byte", "unsigned_long"}


class _Hit(msgspec.Struct):
    id: str = msgspec.field(name="_id")
    source: msgspec.Raw = msgspec.field(name="_source")
    score: float | None = msgspec.field(name="_score", default=None)
    explanation: Json | None = msgspec.field(name="_explanation", default=None)


class _Total(msgspec.Struct):
    value: int


class _Hits(msgspec.Struct):
    hits: list[_Hit]
    total: _Total | None = None
    max_score: float | None = None


class Answer(msgspec.Struct):
    """What a search answers."""

    hits: _Hits
    timed_out: bool = False
    aggregations: Json | None = None


def read_answer(text: str) -> Answer:
    """Return the decoded answer.

    Raises:
        ValueError: it is not an answer to a search.
    """
    return msgspec.json.decode(text, type=Answer)


def is_exact(answer: Answer) -> bool:
    """Whether every count of the facets is exact: with several shards, each may have left out a term that others count."""
    return answer.aggregations is None or not _has_error(answer.aggregations)


def _has_error(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get("doc_count_error_upper_bound")) or any(_has_error(part) for part in value.values())
    return isinstance(value, list) and any(_has_error(part) for part in value)


def read_result(state: IndexState, request: SearchRequest, answer: Answer) -> SearchResult:
    """Return the result of a search that is not a walk."""
    found = answer.hits
    scored = not request.sort
    hits = [
        _read_hit(hit, (1.0 if request.random else hit.score) if scored else None, request.explain)
        for hit in found.hits
    ]
    max_score = None if request.sort or not hits else 1.0 if request.random else found.max_score
    facets = {}
    if request.facets:
        facets = _FacetReader(state, request.facet_size).read(request.facets, answer.aggregations or {})
    total = found.total.value if found.total else 0
    searched = searched_in_vain(request, total, state.properties)
    return SearchResult(total, hits, max_score, facets, searched=searched)


def read_page(answer: Answer, size: int, max_bytes: int | None) -> list[Hit]:
    """Return the hits of a page of a walk: as many as have `max_bytes`, and the first in any case."""
    hits: list[Hit] = []
    left = math.inf if max_bytes is None else max_bytes
    for found in answer.hits.hits[:size]:
        hit = _read_hit(found, None, with_explanation=False)
        left -= len(hit.body)
        if left < 0 and hits:
            break
        hits.append(hit)
    return hits


def _read_hit(hit: _Hit, score: float | None, with_explanation: bool) -> Hit:
    return Hit(hit.id, score, read_stored(bytes(hit.source)), hit.explanation if with_explanation else None)


class _FacetReader:
    """Reads the aggregations of one request."""

    def __init__(self, state: IndexState, size: int) -> None:
        self._state = state
        self._size = size

    def read(self, requests: Sequence[FacetRequest], answer: Json) -> dict[str, Facet]:
        facets = {}
        for position, request in enumerate(requests):
            terms = answer[f"t{position}"]
            every = sum(bucket["doc_count"] for bucket in terms["buckets"]) + terms["sum_other_doc_count"]
            kind = facet_type(self._state, request.field)
            shown = [self._read_term(kind, request, bucket) for bucket in terms["buckets"][: self._size]]
            counted = sum(term.count for term in shown)
            missing = answer[f"m{position}"]["doc_count"]
            facets[request.field] = Facet(shown, other=every - counted, missing=missing, total=every)
        return facets

    def _read_term(self, kind: str | None, request: FacetRequest, bucket: Json) -> FacetTerm:
        count = bucket["doc_count"]
        inner = self.read(request.inner, bucket) if request.inner else {}
        return FacetTerm(term=_read_key(kind, bucket), count=count, inner=inner)


def _read_key(kind: str | None, bucket: Json) -> Any:
    key = bucket["key"]
    if kind == "boolean":
        return bool(key)
    if kind in _WHOLE:
        return int(key)
    return bucket.get("key_as_string", key) if kind in {"date", "date_nanos"} else key
