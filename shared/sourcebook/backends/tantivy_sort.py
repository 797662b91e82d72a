"""Sorting by several fields, exactly, although tantivy sorts by one.

The best documents by the first key come from tantivy. Only the last value among them may be shared by documents that were cut
off: these are asked for again, by the next key. All others that share a value are ordered here. The last key is always the
position in `_id` order, which no two documents share.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from tantivy import FieldType, Occur, Order, Query

from sourcebook.backends.tantivy_fields import ID_FIELD, NUMBER_FIELD, Kind, Leaf
from sourcebook.backends.tantivy_index import Address, OpenIndex
from sourcebook.errors import QuerySyntaxError
from sourcebook.model.query import ALL_FIELD, SortKey

SCORE = "_score"
_MAX_SCORE_TIES = 50_000  # documents with one score that are put in order; those beyond stay as tantivy has them

Value = Any


class _Key(NamedTuple):
    """A resolved sort key: a leaf, or None for the score or the position."""

    field: str
    leaf: Leaf | None
    is_descending: bool


class _Row(NamedTuple):
    value: Value
    address: Address


class Sorter:
    """Orders the hits of one index by some keys.

    Raises:
        QuerySyntaxError: a key is no field, or a text.
    """

    def __init__(self, index: OpenIndex, keys: Sequence[SortKey]) -> None:
        self._index = index
        self._keys: list[_Key] = []
        for key in keys:
            self._keys.append(self._resolve(key))
            if self._keys[-1].field == NUMBER_FIELD:
                return
        self._keys.append(_Key(NUMBER_FIELD, None, is_descending=False))

    def top(self, query: Query, limit: int) -> list[Address]:
        """Return the first documents of a query, in order."""
        return self._collect(query, self._keys, limit)

    def _resolve(self, key: SortKey) -> _Key:
        if key.field in {SCORE, ID_FIELD}:
            return _Key(SCORE if key.field == SCORE else NUMBER_FIELD, None, key.descending)
        leaf = self._index.table.get(key.field)
        if key.field == ALL_FIELD or (leaf is not None and leaf.kind is Kind.TEXT):
            raise QuerySyntaxError(
                f"Cannot sort on [{key.field}]: it is a text. Sort on a keyword, number, date or boolean field.",
                field=key.field,
            )
        if leaf is None:
            raise QuerySyntaxError(f"No mapping found for [{key.field}] in order to sort on", field=key.field)
        return _Key(leaf.path, leaf, key.descending)

    def _collect(self, query: Query, keys: list[_Key], limit: int) -> list[Address]:
        key, rest = keys[0], keys[1:]
        rows = self._rows(query, key, limit)
        if not rest:
            return [row.address for row in rows]
        groups = [[row.address for row in group] for _, group in groupby(rows, key=lambda row: row.value)]
        boundary: list[Address] = []
        if key.leaf is not None and len(rows) == limit:
            better = [address for group in groups[:-1] for address in group]
            tied = self._with_value(query, key.leaf, rows[-1].value, better)
            boundary = self._collect(tied, rest, len(groups.pop()))
        return self._break_ties(groups, rest)[:limit] + boundary

    def _rows(self, query: Query, key: _Key, limit: int) -> list[_Row]:
        """Return the best documents by one key with its value; those without come last."""
        if key.field == SCORE:
            return self._rows_by_score(query, limit, is_descending=key.is_descending)
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

    def _rows_by_score(self, query: Query, limit: int, *, is_descending: bool) -> list[_Row]:
        search = self._index.searcher.search
        total = self._index.count_hits(query)
        wanted = limit if is_descending else total
        while True:
            hits = search(query, limit=max(wanted, 1), count=False).hits
            is_cut = len(hits) >= limit and len(hits) < total and hits[-1][0] == hits[limit - 1][0]
            if not is_cut or wanted >= _MAX_SCORE_TIES:
                break
            wanted = min(max(wanted * 8, 1000), _MAX_SCORE_TIES)
        rows = [_Row(score, address) for score, address in hits]
        return rows if is_descending else _sort_rows(rows, is_descending=False)

    def _with_value(self, query: Query, leaf: Leaf, value: Value, better: list[Address]) -> Query:
        if value is None:
            return _without(query, Query.exists_query(leaf.name))
        schema = self._index.schema
        if leaf.kind is Kind.KEYWORD:
            equal = Query.term_query(schema, leaf.name, value)
        else:
            kind = FieldType.Float if leaf.kind is Kind.FLOAT else FieldType.Integer
            equal = Query.range_query(schema, leaf.name, kind, value, value)
        tied = _both(query, equal)
        if better and self._index.has_several_values(leaf):
            # A document with several values may have this one too, but is sorted by a better one.
            tied = _without(tied, Query.term_set_query(schema, NUMBER_FIELD, self._index.numbers(better)))
        return tied

    def _break_ties(self, groups: list[list[Address]], keys: list[_Key]) -> list[Address]:
        tied = [address for group in groups if len(group) > 1 for address in group]
        numbers = self._index.numbers(tied) if tied else []
        columns = [(key, self._values(numbers, key)) for key in keys[:-1]]
        of_address = iter(numbers)
        ordered: list[Address] = []
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

    def _values(self, numbers: list[int], key: _Key) -> dict[int, Value]:
        if not numbers:
            return {}
        query = Query.term_set_query(self._index.schema, NUMBER_FIELD, numbers)
        rows = self._rows(query, key, len(numbers))
        return dict(zip(self._index.numbers([row.address for row in rows]), [row.value for row in rows], strict=True))


def _sort_rows(rows: list[_Row], *, is_descending: bool) -> list[_Row]:
    known = [row for row in rows if row.value is not None]
    known.sort(key=lambda row: row.value, reverse=is_descending)
    return known + [row for row in rows if row.value is None]


def _both(query: Query, other: Query) -> Query:
    return Query.boolean_query([(Occur.Must, query), (Occur.Must, other)])


def _without(query: Query, other: Query) -> Query:
    return Query.boolean_query([(Occur.Must, query), (Occur.MustNot, other)])
