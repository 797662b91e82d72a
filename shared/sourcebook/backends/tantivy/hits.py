"""One search on an open tantivy index: which documents, in which order, on which page."""

import base64
import binascii
import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

import orjson
from tantivy import FieldType, Occur, Order, Query

from sourcebook.backends.tantivy.facets import count_facets
from sourcebook.backends.tantivy.fields import NUMBER_FIELD, RANDOM_FIELD
from sourcebook.backends.tantivy.index import DocAddress, OpenIndex
from sourcebook.backends.tantivy.query import every_document
from sourcebook.backends.tantivy.sort import Sorter
from sourcebook.backends.tantivy.ties import best_hits
from sourcebook.errors import QuerySyntaxError
from sourcebook.language.requests import Facet, SearchRequest

_RANDOM_RANGE = 2**32
_DIGEST_BYTES = 12


@dataclass(slots=True)
class Found:
    """The answer of the index: positions instead of documents."""

    total: int
    numbers: list[int] = field(default_factory=list)
    scores: list[float] | None = None
    max_score: float | None = None
    facets: dict[str, Facet] = field(default_factory=dict)
    explanations: list[dict[str, Any]] | None = None
    digest: str = ""
    """What ties the tokens of a walk to it; empty for other searches."""
    has_more: bool = False
    """Whether a walk goes on after `numbers`."""

    def next_page(self, shown: int) -> str | None:
        """Return the token of what follows the first `shown` documents of a walk; None if nothing does."""
        if not shown or not (self.has_more or shown < len(self.numbers)):
            return None
        return _write_token(self.digest, self.numbers[shown - 1] + 1, self.total)


def run_search(index: OpenIndex, request: SearchRequest) -> Found:
    """Search an index (in a worker thread).

    Raises:
        QuerySyntaxError: a query string, sort field, facet or page token cannot be understood.
    """
    base = _base_query(index, request)
    query = base
    if request.post_filter is not None:
        query = _filtered(query, index.translator.translate_string(request.post_filter))
    if request.in_id_order or request.after is not None:
        found = _search_in_id_order(index, query, request)
    elif request.sort:
        found = _search_sorted(index, query, request)
    elif request.random:
        found = _search_random(index, query, request)
    else:
        found = _search_by_score(index, query, request)
    if request.facets:
        total = found.total if query is base else _count(index, base)
        found.facets = count_facets(
            index, base or every_document(), request.facets, total=total, size=request.facet_size
        )
    return found


def _base_query(index: OpenIndex, request: SearchRequest) -> Query | None:
    """Return the query that facets count, or None for every document, which costs most to find one by one."""
    query: Query | None = None
    if isinstance(request.query, str):
        query = index.translator.translate_string(request.query)
    elif request.query is not None:
        matches = [index.translator.translate_match(match) for match in request.query]
        query = matches[0] if len(matches) == 1 else Query.boolean_query([(Occur.Must, match) for match in matches])
    if request.filter is not None:
        query = _filtered(query, index.translator.translate_string(request.filter))
    return query


def _filtered(query: Query | None, condition: Query | None) -> Query | None:
    if condition is None:
        return query
    must = every_document() if query is None else query
    return Query.boolean_query([(Occur.Must, must), (Occur.Must, Query.const_score_query(condition, 0.0))])


def _count(index: OpenIndex, query: Query | None) -> int:
    return index.count if query is None else index.count_hits(query)


def _search_by_score(index: OpenIndex, query: Query | None, request: SearchRequest) -> Found:
    end = request.offset + request.size
    if request.size == 0:
        return Found(_count(index, query))
    if query is None and not request.explain:
        numbers = index.ids.numbers_at(request.offset, request.size)
        return Found(index.count, numbers, [1.0] * len(numbers), 1.0 if index.count else None)
    query = query or every_document()
    best = best_hits(index, query, request.offset, end)
    found = Found(
        best.total, [number for _, number, _ in best.hits], [-score for score, _, _ in best.hits], best.max_score
    )
    if request.explain:
        found.explanations = _explain(index, query, [address for _, _, address in best.hits])
    return found


def _explain(index: OpenIndex, query: Query, addresses: list[DocAddress]) -> list[dict[str, Any]]:
    return [orjson.loads(query.explain(index.untimed_searcher, address).to_json()) for address in addresses]


def _search_sorted(index: OpenIndex, query: Query | None, request: SearchRequest) -> Found:
    sorter = Sorter(index, request.sort)
    found = Found(_count(index, query))
    end = min(request.offset + request.size, found.total)
    if request.size and request.offset < end:
        every = query or every_document()
        addresses = sorter.top(every, end)[request.offset :]
        found.numbers = index.numbers(addresses)
        if request.explain:
            found.explanations = _explain(index, every, addresses)
    return found


def _search_random(index: OpenIndex, query: Query | None, request: SearchRequest) -> Found:
    """Take documents from a random place of a random order that was fixed when the index was made, and shuffle them."""
    found = Found(_count(index, query))
    if request.size == 0:
        return found
    every = query or every_document()
    pivot = random.randrange(_RANDOM_RANGE)  # noqa: S311 - no secret
    bounds = ((pivot, None), (None, pivot - 1)) if pivot else ((0, None),)
    addresses: list[DocAddress] = []
    for low, high in bounds:
        wanted = request.size - len(addresses)
        if wanted:
            part = Query.range_query(index.schema, RANDOM_FIELD, FieldType.Unsigned, low, high)
            both = Query.boolean_query([(Occur.Must, every), (Occur.Must, part)])
            hits = index.searcher.search(
                both, limit=wanted, count=False, order_by_field=RANDOM_FIELD, order=Order.Asc
            ).hits
            addresses += [address for _, address in hits]
    found.numbers = index.numbers(addresses)
    random.shuffle(found.numbers)
    found.scores = [1.0] * len(found.numbers)
    found.max_score = 1.0 if found.numbers else None
    return found


def _search_in_id_order(index: OpenIndex, query: Query | None, request: SearchRequest) -> Found:
    if request.sort:
        raise QuerySyntaxError("A walk over all hits has no sort.")
    digest = _digest(index, request)
    start, total = _read_token(request.after, digest) if request.after else (0, _count(index, query))
    if query is None:
        numbers, remaining = index.ids.numbers_from(start, request.size), index.ids.count_from(start)
    else:
        rest = Query.range_query(index.schema, NUMBER_FIELD, FieldType.Unsigned, start, None)
        both = Query.boolean_query([(Occur.Must, query), (Occur.Must, rest)])
        numbers, remaining = index.first_numbers(both, max(request.size, 1))
        numbers = numbers[: request.size]
    return Found(total, numbers, digest=digest, has_more=remaining > len(numbers))


def _digest(index: OpenIndex, request: SearchRequest) -> str:
    """Return what ties a token to its index and query."""
    query = request.query
    if query is not None and not isinstance(query, str):
        query = orjson.dumps([(match.text, match.fields) for match in query]).decode()
    parts = orjson.dumps([index.generation, query, isinstance(request.query, str), request.filter, request.post_filter])
    return hashlib.blake2b(parts, digest_size=_DIGEST_BYTES).hexdigest()


def _write_token(digest: str, start: int, total: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([digest, start, total])).decode().rstrip("=")


def _read_token(token: str, digest: str) -> tuple[int, int]:
    stale = QuerySyntaxError(
        "Invalid or stale page token: it belongs to another query or release. Start again without it."
    )
    try:
        content = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        known, start, total = content
    except (binascii.Error, ValueError, TypeError) as error:
        raise stale from error
    if known != digest or not isinstance(start, int) or not isinstance(total, int) or start < 0 or total < 0:
        raise stale
    return start, total
