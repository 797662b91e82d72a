"""Sorting by several fields, exactly, although tantivy sorts by one.

The best documents by the first key come from tantivy. Only the last value among them may be shared by documents that were cut
off: these are asked for again, by the next key. All others that share a value are ordered here. The last key is always the
position in `_id` order, which no two documents share.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from tantivy import FieldType, Occur, Order, Query

from sourcebook.backends.tantivy.fields import ID_FIELD, NUMBER_FIELD, Kind, Leaf
from sourcebook.backends.tantivy.index import DocAddress, OpenIndex
from sourcebook.backends.tantivy.ties import best_hits, read_hits
from sourcebook.language.field_hints import refuse_sort
from sourcebook.language.requests import ALL_FIELD, SortKey

SCORE = "_score"
_MAX_SCORE_TIES = (
    50_000  # documents with one score that are fetched to be put in order; more are asked for by the next keys
)

SortValue = Any


class _Key(NamedTuple):
    """A resolved sort key: a leaf, or None for the score or the position."""

    field: str
    leaf: Leaf | None
    is_descending: bool


_BY_POSITION = _Key(NUMBER_FIELD, None, is_descending=False)


class _Row(NamedTuple):
    value: SortValue
    address: DocAddress


class Sorter:
    """Orders the hits of one index by some keys.

    Raises:
        QuerySyntaxError: a key is not a field, or a text.
    """

    def __init__(self, index: OpenIndex, keys: Sequence[SortKey]) -> None:
        self._index = index
        self._keys: list[_Key] = []
        for key in keys:
            self._keys.append(self._resolve(key))
            if self._keys[-1].field == NUMBER_FIELD:
                return
        self._keys.append(_BY_POSITION)

    def top(self, query: Query, limit: int) -> list[DocAddress]:
        """Return the first documents of a query, in order."""
        return self._collect(query, self._keys, limit)

    def _resolve(self, key: SortKey) -> _Key:
        if key.field in {SCORE, ID_FIELD}:
            return _Key(SCORE if key.field == SCORE else NUMBER_FIELD, None, key.descending)
        leaf = self._index.table.whole(key.field)
        is_text = key.field == ALL_FIELD or (leaf is not None and leaf.kind is Kind.TEXT)
        if leaf is None or is_text:
            raise refuse_sort(key.field, self._index.table.paths, is_text=is_text)
        return _Key(leaf.path, leaf, key.descending)

    def _collect(self, query: Query, keys: list[_Key], limit: int) -> list[DocAddress]:
        key, rest = keys[0], keys[1:]
        if key.field == SCORE and key.is_descending:
            return self._collect_by_score(query, rest, limit)
        rows = self._rows(query, key, limit)
        if not rest:
            return [row.address for row in rows]
        groups = _group(rows)
        boundary: list[DocAddress] = []
        if key.leaf is not None and len(rows) == limit:
            better = [address for group in groups[:-1] for address in group]
            tied = self._with_value(query, key.leaf, rows[-1].value, better)
            boundary = self._collect(tied, rest, len(groups.pop()))
        return self._break_ties(query, groups, rest)[:limit] + boundary

    def _rows(self, query: Query, key: _Key, limit: int) -> list[_Row]:
        """Return the best documents by one key with its value; those without come last."""
        if key.field == SCORE:
            return _sort_rows(self._rows_by_score(query, self._index.count_hits(query)), is_descending=False)
        if key.leaf is None:
            return self._search(query, NUMBER_FIELD, limit, is_descending=key.is_descending)
        leaf = key.leaf
        if not (key.is_descending and self._index.has_several_values(leaf)):
            return self._search(query, leaf.name, limit, is_descending=key.is_descending)
        several = Query.exists_query(leaf.greatest)
        rows = self._search(_both(query, several), leaf.greatest, limit, is_descending=True)
        rows += self._search(_without(query, several), leaf.name, limit, is_descending=True)
        return _sort_rows(rows, is_descending=True)[:limit]

    def _search(self, query: Query, field: str, limit: int, *, is_descending: bool) -> list[_Row]:
        order = Order.Desc if is_descending else Order.Asc
        found = self._index.searcher.search(query, limit=limit, count=False, order_by_field=field, order=order)
        return [_Row(value, address) for value, address in found.hits]

    def _rows_by_score(self, query: Query, limit: int) -> list[_Row]:
        found = self._index.searcher.search(query, limit=max(limit, 1), count=False)
        return [_Row(score, address) for score, address in zip(*read_hits(found.hits), strict=True)]

    def _collect_by_score(self, query: Query, rest: list[_Key], limit: int) -> list[DocAddress]:
        if rest == [_BY_POSITION]:
            return [address for _, _, address in best_hits(self._index, query, 0, limit).hits]
        total = self._index.count_hits(query)
        wanted = limit + 1
        rows = self._rows_by_score(query, wanted)
        while _is_cut(rows, limit, total) and wanted < _MAX_SCORE_TIES:
            wanted = min(max(wanted * 8, 1000), _MAX_SCORE_TIES)
            rows = self._rows_by_score(query, wanted)
        groups = _group(rows)
        if not _is_cut(rows, limit, total):
            return self._break_ties(query, groups, rest)[:limit]
        groups.pop()
        better = self._break_ties(query, groups, rest)
        return better + self._first_with_score(query, rows[-1].value, rest, limit - len(better))

    def _first_with_score(self, query: Query, score: float, rest: list[_Key], limit: int) -> list[DocAddress]:
        """Return the first documents by the other keys of those that have a score, which very many have."""
        total = self._index.count_hits(query)
        wanted = 4 * limit
        while True:
            first = self._collect(query, rest, min(wanted, total))
            numbers = self._index.numbers(first)
            scores = self._scores(query, numbers)
            tied = [address for address, number in zip(first, numbers, strict=True) if scores[number] == score]
            if len(tied) >= limit or wanted >= total:
                return tied[:limit]
            wanted *= 8

    def _with_value(self, query: Query, leaf: Leaf, value: SortValue, better: list[DocAddress]) -> Query:
        if value is None:
            return _without(query, Query.exists_query(leaf.name))
        schema = self._index.schema
        if leaf.kind is Kind.KEYWORD:
            equal = Query.term_query(schema, leaf.name, value)
        else:
            equal = Query.range_query(schema, leaf.name, FieldType.Integer, value, value)
        tied = _both(query, equal)
        if better and self._index.has_several_values(leaf):
            # A document with several values may have this one too, but is sorted by a better one.
            tied = _without(tied, self._among(self._index.numbers(better)))
        return tied

    def _break_ties(self, query: Query, groups: list[list[DocAddress]], keys: list[_Key]) -> list[DocAddress]:
        tied = [address for group in groups if len(group) > 1 for address in group]
        numbers = self._index.numbers(tied) if tied else []
        columns = [(key, self._values(query, numbers, key)) for key in keys[:-1]]
        of_address = iter(numbers)
        ordered: list[DocAddress] = []
        for group in groups:
            if len(group) == 1:
                ordered += group
                continue
            members = [_Row(next(of_address), address) for address in group]
            members.sort(key=lambda row: row.value, reverse=keys[-1].is_descending)
            for key, values in reversed(columns):
                rows = [_Row(values.get(row.value), row) for row in members]
                members = [row.address for row in _sort_rows(rows, is_descending=key.is_descending)]
            ordered += [row.address for row in members]
        return ordered

    def _values(self, query: Query, numbers: list[int], key: _Key) -> dict[int, SortValue]:
        if not numbers:
            return {}
        if key.field == SCORE:
            return self._scores(query, numbers)
        return self._by_number(self._rows(self._among(numbers), key, len(numbers)))

    def _scores(self, query: Query, numbers: list[int]) -> dict[int, SortValue]:
        return self._by_number(self._rows_by_score(_both(query, self._among(numbers)), len(numbers)))

    def _among(self, numbers: list[int]) -> Query:
        return Query.term_set_query(self._index.schema, NUMBER_FIELD, numbers)

    def _by_number(self, rows: list[_Row]) -> dict[int, SortValue]:
        return dict(zip(self._index.numbers([row.address for row in rows]), [row.value for row in rows], strict=True))


def _group(rows: list[_Row]) -> list[list[DocAddress]]:
    """Return the documents of sorted rows, those with the same value together."""
    return [[row.address for row in group] for _, group in groupby(rows, key=lambda row: row.value)]


def _is_cut(rows: list[_Row], limit: int, total: int) -> bool:
    """Whether documents with the value of the row at `limit` may be missing behind the last row."""
    return len(rows) < total and rows[-1].value == rows[limit - 1].value


def _sort_rows(rows: list[_Row], *, is_descending: bool) -> list[_Row]:
    known = [row for row in rows if row.value is not None]
    known.sort(key=lambda row: row.value, reverse=is_descending)
    return known + [row for row in rows if row.value is None]


def _both(query: Query, other: Query) -> Query:
    """Return the query that wants both; scores are those of the first."""
    return Query.boolean_query([(Occur.Must, query), (Occur.Must, Query.const_score_query(other, 0.0))])


def _without(query: Query, other: Query) -> Query:
    return Query.boolean_query([(Occur.Must, query), (Occur.MustNot, other)])
