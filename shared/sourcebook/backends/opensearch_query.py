"""From a search request to the body that OpenSearch is asked with.

Query strings are its own language. They are parsed here first, by the parser of the embedded engine: what is no query, or asks
for too much, is refused in the same words on every engine, and never reaches the cluster.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from sourcebook.backends.lucene import parse_query_string
from sourcebook.backends.opensearch_mapping import ID_KEY, IndexState, is_text
from sourcebook.errors import QuerySyntaxError
from sourcebook.model.query import ALL_FIELD, FacetRequest, MatchQuery, SearchRequest, SortKey

ID_FIELD = "_id"
SCORE = "_score"
MAX_INNER_DEPTH = 4
_DEFAULT_FIELDS = [ID_FIELD, ALL_FIELD]
_DIGEST_BYTES = 12

Json = dict[str, Any]

_ALL: Json = {"match_all": {}}
_NONE: Json = {"match_none": {}}
_BY_ID: Json = {ID_KEY: {"order": "asc"}}


def build_search(state: IndexState, request: SearchRequest, *, shard_size: int) -> Json:
    """Return the body of a search that is no walk.

    Raises:
        QuerySyntaxError: a query string, sort field or facet cannot be understood.
    """
    body: Json = {"query": build_query(request), "size": request.size, "track_total_hits": True}
    if request.offset:
        body["from"] = request.offset
    if request.post_filter is not None:
        body["post_filter"] = _query_string(request.post_filter)
    if request.explain and not request.random:
        body["explain"] = True
    if request.facets:
        writer = _FacetWriter(state, max(request.facet_size, 1), shard_size)
        body["aggs"] = {"every": {"filter": _ALL}, **writer.write(request.facets, 0)}
    if request.sort:
        body["sort"] = _sort(state, request.sort)
    elif request.random:
        body["query"] = {"function_score": {"query": body["query"], "random_score": {}, "boost_mode": "replace"}}
    elif request.size:
        # Documents with one score stay in one order, whichever copy of a shard answers.
        body["sort"] = [{SCORE: {"order": "desc"}}, _BY_ID]
        body["track_scores"] = True
    return body


def build_walk(request: SearchRequest, last_id: str | None) -> Json:
    """Return the body of one page of a walk in `_id` order, with one hit more than the page: is there another one?

    Raises:
        QuerySyntaxError: a query string cannot be understood, or the request has a sort.
    """
    if request.sort:
        raise QuerySyntaxError("A walk over all hits has no sort.")
    body: Json = {"query": build_query(request), "size": request.size + 1, "sort": [_BY_ID]}
    body["track_total_hits"] = last_id is None
    if request.post_filter is not None:
        body["post_filter"] = _query_string(request.post_filter)
    if last_id is not None:
        body["search_after"] = [last_id]
    return body


def build_query(request: SearchRequest) -> Json:
    """Return the query of a request, with its filter."""
    if request.query is None:
        query = _ALL
    elif isinstance(request.query, str):
        query = _query_string(request.query)
    else:
        matches = [_match(match) for match in request.query]
        query = matches[0] if len(matches) == 1 else {"bool": {"must": matches}}
    if request.filter is None:
        return query
    return {"bool": {"must": [query], "filter": [_query_string(request.filter)]}}


def _query_string(text: str) -> Json:
    if parse_query_string(text) is None:
        return _NONE
    return {
        "query_string": {"query": text, "fields": _DEFAULT_FIELDS, "default_operator": "AND", "lenient": True},
    }


def _match(match: MatchQuery) -> Json:
    # In this query a caret would be a weight, not a part of a field's name.
    fields = [field for field in match.fields if field and "^" not in field]
    if not fields:
        return _NONE
    return {"multi_match": {"query": match.text, "fields": fields, "operator": "and", "lenient": True}}


def _sort(state: IndexState, keys: Sequence[SortKey]) -> list[Json]:
    written: list[Json] = []
    for key in keys:
        order = "desc" if key.descending else "asc"
        if key.field == ID_FIELD:
            return [*written, {ID_KEY: {"order": order}}]
        if key.field == SCORE:
            written.append({SCORE: {"order": order}})
            continue
        kind = state.types.get(key.field)
        if key.field == ALL_FIELD or is_text(kind):
            raise QuerySyntaxError(
                f"Cannot sort on [{key.field}]: it is a text. Sort on a keyword, number, date or boolean field.",
                field=key.field,
            )
        if kind is None:
            raise QuerySyntaxError(f"No mapping found for [{key.field}] in order to sort on", field=key.field)
        written.append({key.field: {"order": order, "missing": "_last"}})
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
            if kind is None:
                continue
            terms: Json = {"field": request.field, "size": self._size, "shard_size": self._shard_size}
            if kind == "date":
                terms["format"] = "strict_date_time"
            written[f"t{position}"] = {"terms": terms, **({"aggs": inner} if inner else {})}
            written[f"m{position}"] = {"missing": {"field": request.field}}
        return written


def facet_type(state: IndexState, field: str) -> str | None:
    """Return the type of a field that is counted, or None if there is no such field.

    Raises:
        QuerySyntaxError: it is a text.
    """
    kind = state.types.get(field)
    if field == ALL_FIELD or is_text(kind):
        raise QuerySyntaxError(
            f"Cannot count the values of [{field}]: it is a text. Facets are on keyword, number, date or boolean fields.",
            field=field,
        )
    return kind


# Page tokens


def token_digest(state: IndexState, request: SearchRequest) -> str:
    """Return what ties a token to its index and query."""
    query = request.query
    if query is not None and not isinstance(query, str):
        query = orjson.dumps([(match.text, match.fields) for match in query]).decode()
    parts = [state.generation, query, isinstance(request.query, str), request.filter, request.post_filter]
    return hashlib.blake2b(orjson.dumps(parts), digest_size=_DIGEST_BYTES).hexdigest()


def write_token(digest: str, last_id: str, total: int) -> str:
    """Return the token of the page that follows the document `last_id`."""
    return base64.urlsafe_b64encode(orjson.dumps([digest, last_id, total])).decode().rstrip("=")


def read_token(token: str, digest: str) -> tuple[str, int]:
    """Return the last document of the page before, and the number of all hits.

    Raises:
        QuerySyntaxError: it is no token, or that of another query or index.
    """
    stale = QuerySyntaxError(
        "Invalid or stale page token: it belongs to another query or release. Start again without it."
    )
    try:
        content = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        known, last_id, total = content
    except (binascii.Error, ValueError, TypeError) as error:
        raise stale from error
    if known != digest or not isinstance(last_id, str) or not isinstance(total, int) or total < 0:
        raise stale
    return last_id, total
