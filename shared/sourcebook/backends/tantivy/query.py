"""From the tree of a query string, or a MatchQuery, to tantivy's query.

What a leaf cannot hold (a word in a number field, a wildcard on a date) finds nothing instead of failing. A text of which no word
is left, such as `"-"` on a text field, takes no part in the query (None), as in OpenSearch.
"""

import math
from collections.abc import Callable, Iterable

from tantivy import FieldType, Occur, Query, Schema

from sourcebook.backends.tantivy.cost import check_patterns
from sourcebook.backends.tantivy.fields import ID_FIELD, MAX_LONG, MIN_LONG, PRESENT_FIELD, FieldTable, Kind, Leaf
from sourcebook.backends.tantivy.patterns import range_regex, wildcard_regex
from sourcebook.backends.tantivy.regex import lucene_regex
from sourcebook.backends.tantivy.values import encode_boolean, encode_float, read_number
from sourcebook.errors import QuerySyntaxError
from sourcebook.language import query_string as lucene
from sourcebook.language.dates import read_moment
from sourcebook.language.query_string import IGNORED_FIELD
from sourcebook.language.requests import ALL_FIELD, MatchQuery

_OCCURS = {lucene.Occur.MUST: Occur.Must, lucene.Occur.SHOULD: Occur.Should, lucene.Occur.MUST_NOT: Occur.MustNot}
_MAX_EDITS = 2
_AUTO_EDITS = (3, 6)

_ID_LEAF = Leaf(path=ID_FIELD, source=ID_FIELD, kind=Kind.KEYWORD, name=ID_FIELD)
_ALL_LEAF = Leaf(path=ALL_FIELD, source=ALL_FIELD, kind=Kind.TEXT, name=ALL_FIELD)
_IGNORED_LEAF = Leaf(path=IGNORED_FIELD, source="", kind=Kind.KEYWORD, name=IGNORED_FIELD)
_DEFAULT_LEAVES = (_ID_LEAF, _ALL_LEAF)
_OURS = (*_DEFAULT_LEAVES, _IGNORED_LEAF)
_STRINGS = (Kind.KEYWORD, Kind.TEXT)

LeafQuery = Callable[[Leaf], Query | None]


class QueryTranslator:
    """Translates for one index of so many documents."""

    def __init__(self, schema: Schema, table: FieldTable, documents: int) -> None:
        self._schema = schema
        self._table = table
        self._documents = documents

    def translate_string(self, text: str) -> Query | None:
        """Return the query of a query string, or None for one that finds every document; a blank one finds nothing.

        Raises:
            QuerySyntaxError: it cannot be parsed, or one of its expressions is not understood.
        """
        node = lucene.parse_query_string(text)
        if node is not None and lucene.finds_everything(node):
            return None
        if node is not None:
            check_patterns(node, lambda field: sum(map(_has_patterns, self._leaves(field))), self._documents)
        query = None if node is None else self._translate(node)
        return Query.empty_query() if query is None else query

    def translate_match(self, match: MatchQuery) -> Query:
        """Return the query that finds all words of a text in one of several fields."""
        leaves = [leaf for field in match.fields for leaf in self._leaves(field)]
        return _best_of(self._match_words(leaf, match.text) for leaf in leaves) or Query.empty_query()

    def exists(self, path: str) -> Query:
        """Return the query for the documents that have a leaf or an object."""
        if path == ID_FIELD:
            return every_document()
        if path == IGNORED_FIELD:
            return _of_one_score(Query.exists_query(IGNORED_FIELD))
        leaves = [_ALL_LEAF] if path == ALL_FIELD else self._table.under(path)
        queries = [self._has_leaf(leaf) for leaf in leaves]
        # What could not be indexed is there all the same.
        ignored = dict.fromkeys((path, *(leaf.path for leaf in leaves)))
        queries += [Query.term_query(self._schema, IGNORED_FIELD, item) for item in ignored]
        return _of_one_score(Query.boolean_query([(Occur.Should, query) for query in queries]))

    def _has_leaf(self, leaf: Leaf) -> Query:
        if leaf.kind is Kind.TEXT:
            return Query.term_query(self._schema, PRESENT_FIELD, leaf.name)
        return Query.exists_query(leaf.name)

    def _leaves(self, field: str | None) -> Iterable[Leaf]:
        if field is None or field == "*":
            return _DEFAULT_LEAVES if field is None else (*_DEFAULT_LEAVES, *self._table.leaves_searched)
        if field == ID_FIELD:
            return (_ID_LEAF,)
        if field == IGNORED_FIELD:
            return (_IGNORED_LEAF,)
        return (_ALL_LEAF,) if field == ALL_FIELD else self._table.match(field)

    def _translate(self, node: lucene.Node) -> Query | None:
        if isinstance(node, lucene.Boolean):
            return self._translate_boolean(node)
        if isinstance(node, lucene.Boost):
            query = self._translate(node.node)
            return None if query is None else Query.boost_query(query, node.factor)
        if isinstance(node, lucene.Everything):
            return every_document()
        if isinstance(node, lucene.Exists):
            return self.exists(node.field)
        return self._translate_leaf(node)

    def _translate_boolean(self, node: lucene.Boolean) -> Query | None:
        translated = [(_OCCURS[occur], self._translate(inner)) for occur, inner in node.clauses]
        clauses = [(occur, query) for occur, query in translated if query is not None]
        if not clauses:
            return None
        if all(occur is Occur.MustNot for occur, _ in clauses):
            clauses.append((Occur.Must, Query.const_score_query(Query.all_query(), 0.0)))
        return Query.boolean_query(clauses)

    def _translate_leaf(
        self, node: lucene.Term | lucene.Wildcard | lucene.Regex | lucene.Fuzzy | lucene.Range
    ) -> Query | None:
        translate = self._leaf_query(node)
        leaves = list(self._leaves(node.field))
        if not leaves:
            return Query.empty_query()
        return _best_of(translate(leaf) for leaf in leaves)

    def _leaf_query(
        self, node: lucene.Term | lucene.Wildcard | lucene.Regex | lucene.Fuzzy | lucene.Range
    ) -> LeafQuery:
        if isinstance(node, lucene.Term):
            return lambda leaf: (
                self._phrase(leaf, node.text, node.slop) if node.is_phrase else self._match_words(leaf, node.text)
            )
        if isinstance(node, lucene.Wildcard):
            return lambda leaf: self._regex(leaf, wildcard_regex(_fold(leaf, node.pattern)))
        if isinstance(node, lucene.Regex):
            return lambda leaf: self._regex(leaf, lucene_regex(node.pattern, has_lowercase=_is_lower(leaf)))
        if isinstance(node, lucene.Fuzzy):
            return lambda leaf: self._fuzzy(leaf, node)
        return lambda leaf: self._range(leaf, node)

    def _match_words(self, leaf: Leaf, text: str) -> Query | None:
        fraction = lucene.as_fraction(text) if leaf.kind in _STRINGS and leaf not in _OURS else None
        if fraction is None:
            return self._match_text(leaf, text)
        return _best_of(self._match_text(leaf, number) for number in (text, fraction))

    def _match_text(self, leaf: Leaf, text: str) -> Query | None:
        if leaf.kind is not Kind.TEXT:
            return self._value(leaf, text)
        words = leaf.analyze(text)
        if not words:
            return None
        if len(words) == 1:
            return Query.term_query(self._schema, leaf.name, words[0])
        if len(words) > lucene.MAX_CLAUSES:
            raise QuerySyntaxError(f"Failed to parse query: it has more than {lucene.MAX_CLAUSES} words.")
        return Query.boolean_query([(Occur.Must, Query.term_query(self._schema, leaf.name, word)) for word in words])

    def _phrase(self, leaf: Leaf, text: str, slop: int) -> Query | None:
        words = leaf.analyze(text) if leaf.kind is Kind.TEXT else []
        if len(words) <= 1:
            return self._match_words(leaf, text)
        if len(words) > lucene.MAX_CLAUSES:
            raise QuerySyntaxError(f"Failed to parse query: it has more than {lucene.MAX_CLAUSES} words.")
        return Query.phrase_query(self._schema, leaf.name, list(words), slop=slop)

    def _value(self, leaf: Leaf, text: str) -> Query:
        if leaf.kind is Kind.KEYWORD:
            return Query.term_query(self._schema, leaf.name, _fold(leaf, text))
        if leaf.kind is Kind.DATE:
            span = read_moment(text)
            return Query.empty_query() if span is None else self._number_range(leaf, *span)
        if leaf.kind is Kind.FLOAT:
            place = encode_float(leaf, text)
            return Query.empty_query() if place is None else self._number_range(leaf, place, place)
        value = encode_boolean(leaf, text) if leaf.kind is Kind.BOOLEAN else _read_whole(text)
        if value is None:
            return Query.empty_query()
        return _of_one_score(Query.term_query(self._schema, leaf.name, value))

    def _regex(self, leaf: Leaf, expression: str | None) -> Query:
        if expression is None or not _has_patterns(leaf):
            return Query.empty_query()
        try:
            return Query.regex_query(self._schema, leaf.name, expression)
        except ValueError as error:
            reason = str(error).partition("RegexQueryError: ")[2].strip("'") or "it is too large"
            raise QuerySyntaxError(f"Failed to parse query: the expression cannot be used: {reason}") from error

    def _fuzzy(self, leaf: Leaf, node: lucene.Fuzzy) -> Query | None:
        if not _has_patterns(leaf):
            return Query.empty_query()
        text = _fold(leaf, node.text)
        edits = _count_edits(text, node.edits)
        if edits == 0:
            return Query.term_query(self._schema, leaf.name, text)
        return Query.fuzzy_term_query(self._schema, leaf.name, text, distance=edits)

    def _range(self, leaf: Leaf, node: lucene.Range) -> Query:
        if node.low is None and node.high is None:
            return self.exists(leaf.path)
        if leaf.kind in {Kind.TEXT, Kind.KEYWORD}:
            low, high = (None if bound is None else _fold(leaf, bound) for bound in (node.low, node.high))
            expression = range_regex(low, high, include_low=node.include_low, include_high=node.include_high)
            return self._regex(leaf, expression)
        bounds = _whole_bounds(leaf, node)
        return Query.empty_query() if bounds is None else self._number_range(leaf, *bounds)

    def _number_range(self, leaf: Leaf, low: int, high: int) -> Query:
        if low > high or low > MAX_LONG or high < MIN_LONG:
            return Query.empty_query()
        clipped = max(low, MIN_LONG), min(high, MAX_LONG)
        return _of_one_score(Query.range_query(self._schema, leaf.name, FieldType.Integer, clipped[0], clipped[1]))


def every_document() -> Query:
    """Return the query that finds every document, with the score 1."""
    return _of_one_score(Query.all_query())


def _of_one_score(query: Query) -> Query:
    # What finds every document of a segment (a range, a field that all have, the query for all) is left out of a conjunction
    # there, and its score with it, unless it stands behind this.
    return Query.const_score_query(query, 1.0)


def _best_of(queries: Iterable[Query | None]) -> Query | None:
    found = [query for query in queries if query is not None]
    if len(found) > 1:
        return Query.disjunction_max_query(found)
    return found[0] if found else None


def _has_patterns(leaf: Leaf) -> bool:
    """Whether words are looked up by pattern: not in numbers."""
    return leaf.kind in {Kind.TEXT, Kind.KEYWORD}


def _is_lower(leaf: Leaf) -> bool:
    return leaf.has_lowercase or (leaf.kind is Kind.TEXT and leaf.analyzer not in {"whitespace", "keyword"})


def _fold(leaf: Leaf, text: str) -> str:
    """Return a word as the leaf's terms are written: analysed texts are lower case, most keywords too."""
    return text.lower() if _is_lower(leaf) else text


def _count_edits(text: str, edits: float | None) -> int:
    if edits is None:
        return 0 if len(text) < _AUTO_EDITS[0] else 1 if len(text) < _AUTO_EDITS[1] else _MAX_EDITS
    if 0 < edits < 1:  # the similarity of old Lucene versions
        return min(int((1 - edits) * len(text)), _MAX_EDITS)
    return min(int(edits), _MAX_EDITS)


def _whole_bounds(leaf: Leaf, node: lucene.Range) -> tuple[int, int] | None:
    """Return the bounds of a range as whole numbers that belong to it; None if a bound is not a number."""
    low, high = MIN_LONG, MAX_LONG
    if node.low is not None:
        span = _read_bound(leaf, node.low)
        if span is None:
            return None
        low = span[0] if node.include_low else span[1] + 1
    if node.high is not None:
        span = _read_bound(leaf, node.high)
        if span is None:
            return None
        high = span[1] if node.include_high else span[0] - 1
    return low, high


def _read_whole(text: str) -> int | None:
    number = read_number(text)
    whole = None if number is None or number != int(number) else int(number)
    return whole if whole is not None and MIN_LONG <= whole <= MAX_LONG else None


def _read_bound(leaf: Leaf, text: str) -> tuple[int, int] | None:
    """Return the first and last whole number that a bound stands for: a date's span; for 1.5 none (2 to 1)."""
    if leaf.kind is Kind.DATE:
        return read_moment(text)
    if leaf.kind is Kind.INTEGER:
        number = read_number(text)
        return None if number is None else (math.ceil(number), math.floor(number))
    value = encode_boolean(leaf, text) if leaf.kind is Kind.BOOLEAN else encode_float(leaf, text)
    return None if value is None else (value, value)
