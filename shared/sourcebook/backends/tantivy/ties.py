"""Hits by score, those with one score in `_id` order: the same on every page and after every rebuild.

tantivy orders hits with one score by the place they have in its segments, which threads and merges decide. The hits that are
better than the last one of a page are known after one search; of those that share its score, the ones with the smallest
positions are wanted. They are looked for in ranges of positions, so that neither a score that a million documents share nor
one that a handful do costs much more than the search itself.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import neg
from typing import NamedTuple

from tantivy import FieldType, Occur, Query

from sourcebook.backends.tantivy.fields import NUMBER_FIELD
from sourcebook.backends.tantivy.index import DocAddress, OpenIndex

_MARGIN = 64  # hits fetched beyond the page: most ties end among them
_AT_ONCE = 1000  # hits of one range that are looked at
_NARROW = 4000  # documents in a range
_GROWTH = 64  # how much wider the next range is if there was nothing in the last one
_DIGITS = 5


Ranked = tuple[float, int, DocAddress]
"""A hit as hits are ordered: its score with a minus, its position, and its place in the index."""


class BestHits(NamedTuple):
    """How many documents a query finds, the highest score, and some of the hits."""

    total: int
    max_score: float | None
    hits: list[Ranked]


def best_hits(index: OpenIndex, query: Query, start: int, end: int) -> BestHits:
    """Return the hits from `start` to before `end`, the best first."""
    result = index.searcher.search(query, limit=end + _MARGIN)
    scores, addresses = read_hits(result.hits)
    if not scores[start:end]:
        return BestHits(result.count, scores[0] if scores else None, [])
    # What is better than the page's first hit is on earlier pages, in whatever order.
    before, last = scores.index(scores[start]), scores[:end][-1]
    if scores[-1] == last and len(scores) < result.count:
        better = scores.index(last)
        hits = _rank(index, scores[before:better], addresses[before:better])
        hits += _first_with_score(index, query, last, end - better, better=better, total=result.count)
    else:
        hits = _rank(index, scores[before:], addresses[before:])
    return BestHits(result.count, scores[0], hits[start - before : end - before])


def read_hits(hits: Iterable[tuple[float, DocAddress]]) -> tuple[list[float], list[DocAddress]]:
    """Return the scores and addresses of hits; scores are made the same wherever a document is.

    A score is a sum that tantivy adds up in an order of each segment's own, so its last digits differ.
    """
    known: dict[float, float] = {}
    scores, addresses = [], []
    for score, address in hits:
        rounded = known.get(score)
        if rounded is None:
            rounded = known[score] = float(f"{score:.{_DIGITS}g}")
        scores.append(rounded)
        addresses.append(address)
    return scores, addresses


def _rank(index: OpenIndex, scores: list[float], addresses: list[DocAddress]) -> list[Ranked]:
    return sorted(zip((-score for score in scores), index.numbers(addresses), addresses, strict=True))


def _first_with_score(
    index: OpenIndex, query: Query, score: float, wanted: int, *, better: int, total: int
) -> list[Ranked]:
    """Return the first `wanted` hits in `_id` order that have a score; `better` hits have a higher one."""
    found: list[Ranked] = []
    limit = better + _AT_ONCE + 2 * wanted
    low, width = 0, (_MARGIN + 2 * wanted) * index.number_end // total + 1  # if most hits have this score
    while len(found) < wanted and low < index.number_end:
        part = _within(index, query, low, min(low + width, index.number_end))
        scores, addresses = read_hits(index.searcher.search(part, limit=limit, count=False).hits)
        if len(scores) == limit and scores[-1] >= score and width > 1:
            width = max(width // _GROWTH, 1)
            continue
        tied = [address for address, known in zip(addresses, scores, strict=True) if known == score]
        found += _rank(index, [score] * len(tied), tied)
        low += width
        width *= min(2 * (wanted - len(found)) // len(tied) + 1, _GROWTH) if tied else _GROWTH
    if len(found) < min(wanted, total - better):
        return _all_with_score(index, query, score, total)[:wanted]
    return found[:wanted]


def _all_with_score(index: OpenIndex, query: Query, score: float, total: int) -> list[Ranked]:
    """Return all hits with a score. Within a range a score may differ in its last digit, and then be rounded otherwise."""
    scores, addresses = read_hits(index.searcher.search(query, limit=total, count=False).hits)
    first, last = bisect_left(scores, -score, key=neg), bisect_right(scores, -score, key=neg)
    return _rank(index, scores[first:last], addresses[first:last])


def _within(index: OpenIndex, query: Query, low: int, high: int) -> Query:
    # A few documents are found faster by the list of each position, many by a look at the whole column.
    is_narrow = (high - low) * index.count <= _NARROW * index.number_end
    part = Query.range_query(
        index.schema, NUMBER_FIELD, FieldType.Unsigned, low, high - 1, use_inverted_index=is_narrow
    )
    return Query.boolean_query([(Occur.Must, query), (Occur.Must, Query.const_score_query(part, 0.0))])
