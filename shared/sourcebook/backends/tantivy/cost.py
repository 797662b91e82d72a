"""What a search costs, before it runs: whether it is refused, and whether it is too short to be handed to a thread and back.

The switch takes about a tenth of a millisecond of processor time, more when several searches run at once; a word in 20,000
documents is found in a quarter of that.
"""

import re
from collections.abc import Callable, Iterator

from sourcebook.errors import QuerySyntaxError
from sourcebook.language import query_string as lucene
from sourcebook.language.requests import SearchRequest

MAX_COST = 400_000  # postings; these take at most a few milliseconds, in which nothing else is answered
_FACET_COST = 3  # counting a value takes as long as scoring it three times
MAX_TERMS = 30_000_000  # looked at for the patterns of one search; a million take two seconds
MAX_EXPRESSIONS = 100  # each takes up to a tenth of a second to compile
_FREE_PATTERNS = 4  # a word in the default fields, and another one, on an index of any size
_PREFIX = 2
_PREFIX_SHARE = 0.02  # of the terms begin with what a pattern begins with
_MAX_HITS = 100
_MAX_CHARACTERS = 200
# Patterns and ranges may have any number of terms.
_UNBOUNDED = re.compile(r"[*?/~\[{<>]")


def check_patterns(node: lucene.Node, count_leaves: Callable[[str | None], int], documents: int) -> None:
    """Refuse a query whose patterns would take longer to look up than any search may: a search that runs cannot be ended.

    Args:
        node: the query.
        count_leaves: how many fields of the index a field of the query means.
        documents: of the index; a field has about as many different values at most.

    Raises:
        QuerySyntaxError: it is such a query; the message says what to change.
    """
    patterns, expressions = 0.0, 0
    for found in _iterate_patterns(node):
        leaves = count_leaves(found.field)
        patterns += leaves * (_PREFIX_SHARE if _has_prefix(found) else 1.0)
        expressions += leaves if isinstance(found, lucene.Regex) else 0
    if expressions > MAX_EXPRESSIONS:
        raise QuerySyntaxError(
            f"Failed to parse query: its regular expressions are looked up in {expressions} fields together; {MAX_EXPRESSIONS} "
            "are allowed. Name the field of each."
        )
    if patterns > _FREE_PATTERNS and patterns * documents > MAX_TERMS:
        raise QuerySyntaxError(
            f"Failed to parse query: its patterns are looked up in {patterns:,.0f} lists of terms of an index of {documents:,} "
            "documents, which takes too long. Use fewer patterns, name the field of each, or begin them with letters."
        )


def _iterate_patterns(node: lucene.Node) -> Iterator[lucene.Wildcard | lucene.Regex | lucene.Fuzzy]:
    match node:
        case lucene.Boolean(clauses):
            for _, inner in clauses:
                yield from _iterate_patterns(inner)
        case lucene.Boost(inner):
            yield from _iterate_patterns(inner)
        case lucene.Wildcard() | lucene.Regex() | lucene.Fuzzy():
            yield node


def _has_prefix(node: lucene.Wildcard | lucene.Regex | lucene.Fuzzy) -> bool:
    return isinstance(node, lucene.Fuzzy) or node.pattern[:_PREFIX].isalnum()


def is_heavy(request: SearchRequest) -> bool:
    """Whether a search may take seconds: it looks up patterns or ranges, which may have any number of terms."""
    texts = (request.query, request.filter, request.post_filter)
    return any(isinstance(text, str) and _UNBOUNDED.search(text) is not None for text in texts)


def is_quick(request: SearchRequest, documents: int) -> bool:
    """Whether to answer a search at once, on an index of so many documents that is open already."""
    if request.sort or request.random or request.explain or request.offset + request.size > _MAX_HITS:
        return False
    if any(facet.inner for facet in request.facets) or request.facet_size > _MAX_HITS:
        return False
    texts = [text for text in (request.filter, request.post_filter) if text is not None]
    if isinstance(request.query, str):
        texts.append(request.query)
    elif request.query is not None:
        texts += [match.text for match in request.query for _ in match.fields]
    if sum(map(len, texts)) > _MAX_CHARACTERS or any(map(_UNBOUNDED.search, texts)):
        return False
    words = sum(len(text.split()) for text in texts)
    return documents * (words + _FACET_COST * len(request.facets)) <= MAX_COST
