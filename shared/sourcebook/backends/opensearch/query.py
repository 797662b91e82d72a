"""From a search request to the body that OpenSearch is asked with.

Query strings are its own language. They are parsed here first, by the parser of the embedded engine: what is not a query, or asks
for too much, is refused in the same words on every engine, and never reaches the cluster.
"""

import base64
import binascii
import hashlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from sourcebook.backends.opensearch.mapping import ID_KEY, IGNORED_KEY, IndexState, is_text
from sourcebook.backends.opensearch.rewrite import find_fractions, find_ignored, rename_field
from sourcebook.errors import QuerySyntaxError
from sourcebook.hub.mappings.model import EXACT
from sourcebook.language.field_hints import refuse_facet, refuse_sort
from sourcebook.language.query_string import (
    IGNORED_FIELD,
    as_fraction,
    finds_everything,
    parse_query_string,
)
from sourcebook.language.requests import ALL_FIELD, FacetRequest, Hit, MatchQuery, SearchRequest, SortKey

ID_FIELD = "_id"
SCORE = "_score"
MAX_INNER_DEPTH = 4
_DIGEST_BYTES = 12
_GROWTH = 8  # from page to page of a walk

Json = dict[str, Any]

_ALL: Json = {"match_all": {}}
_NONE: Json = {"match_none": {}}
_BY_ID: Json = {ID_KEY: {"order": "asc"}}


def build_search(state: IndexState, request: SearchRequest, *, shard_size: int) -> Json:
    """Return the body of a search that is not a walk.

    Raises:
        QuerySyntaxError: a query string, sort field or facet cannot be understood.
    """
    body: Json = {"query": build_query(state, request), "size": request.size, "track_total_hits": True}
    if request.offset:
        body["from"] = request.offset
    if request.post_filter is not None:
        body["post_filter"] = _query_string(state, request.post_filter)
    if request.explain and not request.random:
        body["explain"] = True
    if request.facets:
        writer = _FacetWriter(state, max(request.facet_size, 1), shard_size)
        body["aggs"] = writer.write(request.facets, 0)
    if request.sort:
        body["sort"] = _sort(state, request.sort)
    elif request.random:
        body["query"] = {"function_score": {"query": body["query"], "random_score": {}, "boost_mode": "replace"}}
    elif request.size:
        # Documents with one score stay in one order, whichever copy of a shard answers.
        body["sort"] = [{SCORE: {"order": "desc"}}, _BY_ID]
        body["track_scores"] = True
    return body


def build_walk(state: IndexState, request: SearchRequest, last_id: str | None, size: int) -> Json:
    """Return the body of `size` hits of a walk in `_id` order.

    Raises:
        QuerySyntaxError: a query string cannot be understood, or the request has a sort.
    """
    if request.sort:
        raise QuerySyntaxError("A walk over all hits has no sort.")
    body: Json = {"query": build_query(state, request), "size": size, "sort": [_BY_ID]}
    body["track_total_hits"] = last_id is None
    if request.post_filter is not None:
        body["post_filter"] = _query_string(state, request.post_filter)
    if last_id is not None:
        body["search_after"] = [last_id]
    return body


def build_query(state: IndexState, request: SearchRequest) -> Json:
    """Return the query of a request, with its filter."""
    if request.query is None:
        query = _ALL
    elif isinstance(request.query, str):
        query = _query_string(state, request.query)
    else:
        matches = [_match(state, match) for match in request.query]
        query = matches[0] if len(matches) == 1 else {"bool": {"must": matches}}
    if request.filter is None:
        return query
    return {"bool": {"must": [query], "filter": [_query_string(state, request.filter)]}}


def _query_string(state: IndexState, text: str) -> Json:
    node = parse_query_string(text)
    if node is None:
        return _NONE
    if finds_everything(node):
        return _ALL
    fields = [state.id_field, ALL_FIELD]
    query = find_ignored(find_fractions(text, _strings(state)))
    query = rename_field(query, ID_FIELD, state.id_field.replace("~", "\\~"))
    return {"query_string": {"query": query, "fields": fields, "default_operator": "AND", "lenient": True}}


def _match(state: IndexState, match: MatchQuery) -> Json:
    # In this query a caret would be a weight, not a part of a field's name.
    named = [field for field in match.fields if field and "^" not in field]
    fields = [state.id_field if field == ID_FIELD else field for field in named]
    if not fields:
        return _NONE
    if IGNORED_FIELD in fields:
        fields.append(IGNORED_KEY)
    query = _multi_match(match.text, fields)
    fraction = as_fraction(match.text)
    texts = [field for field in named if field in _strings(state)] if fraction else []
    return {"dis_max": {"queries": [query, _multi_match(fraction, texts)]}} if fraction and texts else query


def _multi_match(text: str, fields: list[str]) -> Json:
    return {"multi_match": {"query": text, "fields": fields, "operator": "and", "lenient": True}}


def _strings(state: IndexState) -> set[str]:
    """Return the fields whose values are indexed as strings, numbers among them."""
    return {path for path, kind in state.types.items() if kind in {"keyword", "text"}}


def _sort(state: IndexState, keys: Sequence[SortKey]) -> list[Json]:
    written: list[Json] = []
    for key in keys:
        order = "desc" if key.descending else "asc"
        if key.field == ID_FIELD:
            return [*written, {ID_KEY: {"order": order}}]
        if key.field == SCORE:
            written.append({SCORE: {"order": order}})
            continue
        field = _whole_field(state, key.field)
        kind = state.types.get(field)
        is_words = key.field == ALL_FIELD or is_text(kind)
        if kind is None or is_words:
            raise refuse_sort(key.field, state.types, is_text=is_words)
        written.append({field: {"order": order, "missing": "_last"}})
    return [*written, _BY_ID]


class _FacetWriter:
    """Writes the aggregations of one request."""

    def __init__(self, state: IndexState, size: int, shard_size: int) -> None:
        self._state = state
        self._size = size
        self._shard_size = max(shard_size, size)

    def write(self, requests: Sequence[FacetRequest], depth: int) -> Json:
        if depth > MAX_INNER_DEPTH:
            raise QuerySyntaxError(f"Facets may be nested {MAX_INNER_DEPTH} deep.")
        written: Json = {}
        for position, request in enumerate(requests):
            kind = facet_type(self._state, request.field)
            inner = self.write(request.inner, depth + 1)
            field = ID_KEY if request.field == ID_FIELD else _whole_field(self._state, request.field)
            terms: Json = {"field": field, "size": self._size, "shard_size": self._shard_size}
            if field == ID_KEY:  # each value counts once, and no shard has one that another shard has
                terms["order"] = {"_key": "asc"}
            if kind == "date":
                terms["format"] = "strict_date_time"
            written[f"t{position}"] = {"terms": terms, **({"aggs": inner} if inner else {})}
            noted = [{"term": {name: field}} for name in (IGNORED_FIELD, IGNORED_KEY)]
            present = [{"exists": {"field": field}}, *noted]
            written[f"m{position}"] = {"filter": {"bool": {"must_not": present}}}
        return written


def _whole_field(state: IndexState, field: str) -> str:
    """Return the field with the whole values of a field, to be counted and sorted: of a text, its sub-field for them."""
    exact = f"{field}.{EXACT}"
    return exact if is_text(state.types.get(field)) and exact in state.types else field


def facet_type(state: IndexState, field: str) -> str:
    """Return the type of a field that is counted.

    Raises:
        QuerySyntaxError: it is a text, or there is no such field.
    """
    if field == ID_FIELD:
        return "keyword"
    kind = state.types.get(_whole_field(state, field))
    is_words = field == ALL_FIELD or is_text(kind)
    if kind is None or is_words:
        raise refuse_facet(field, state.types, is_text=is_words)
    return kind


# Page tokens


def token_digest(state: IndexState, request: SearchRequest) -> str:
    """Return what ties a token to its index and query."""
    query = request.query
    if query is not None and not isinstance(query, str):
        query = orjson.dumps([(match.text, match.fields) for match in query]).decode()
    parts = [state.generation, query, isinstance(request.query, str), request.filter, request.post_filter]
    return hashlib.blake2b(orjson.dumps(parts), digest_size=_DIGEST_BYTES).hexdigest()


class Walked(NamedTuple):
    """Where a walk stands."""

    last_id: str | None = None
    """The last document of the page before."""
    total: int = 0
    """The number of all hits."""
    page_size: int = sys.maxsize
    """Documents that a page can have, as far as it is known: large ones are asked for a few at a time."""


def guess_page_size(hits: Sequence[Hit], max_bytes: int | None) -> int:
    """Return how many documents the page after one is asked for: as many as fit if they are like those, give or take."""
    if max_bytes is None:
        return sys.maxsize
    size = max(sum([len(hit.body) for hit in hits]), 1)
    return max(min(len(hits) * max_bytes // size, _GROWTH * len(hits)), 1)


def write_token(digest: str, walked: Walked) -> str:
    """Return the token of the page that follows."""
    return base64.urlsafe_b64encode(orjson.dumps([digest, *walked])).decode().rstrip("=")


def read_token(token: str, digest: str) -> Walked:
    """Return where a walk stands.

    Raises:
        QuerySyntaxError: it is not a token, or that of another query or index.
    """
    stale = QuerySyntaxError(
        "Invalid or stale page token: it belongs to another query or release. Start again without it."
    )
    try:
        content = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        known, last_id, total, page_size = content
    except (binascii.Error, ValueError, TypeError) as error:
        raise stale from error
    is_whole = isinstance(total, int) and isinstance(page_size, int) and total >= 0 and page_size > 0
    if known != digest or not isinstance(last_id, str) or not is_whole:
        raise stale
    return Walked(last_id, total, page_size)
