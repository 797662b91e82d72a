"""Query strings on their way to OpenSearch: fields that are called otherwise there, and what it left out of an index."""

from collections.abc import Container, Sequence
from itertools import pairwise
from re import Match

from sourcebook.backends.opensearch.mapping import IGNORED_KEY
from sourcebook.language.query_string import ID_FIELD, IGNORED_FIELD, as_fraction, match_tokens, unescape

_OURS = IGNORED_KEY.replace("~", "\\~")


def rename_field(query: str, field: str, name: str) -> str:
    """Return a query string in which a field is called otherwise.

    Args:
        query: a query string that can be parsed.
        field: the field.
        name: what it is called, escaped as it has to be.
    """
    if field not in query and "\\" not in query:
        return query
    parts: list[str] = []
    end = 0
    for match, following in pairwise(match_tokens(query)):
        if match["word"] is not None and following["symbol"] == ":" and unescape(match["word"]) == field:
            parts += [query[end : match.start("word")], name]
            end = match.end("word")
    return "".join((*parts, query[end:]))


def find_ignored(query: str) -> str:
    """Return a query string in which `_exists_:x` and `x:*` also find documents whose value of x could not be indexed.

    What OpenSearch notes of such values stands in `_ignored`, the rest in a field of ours; `_ignored:x` asks for both.

    Args:
        query: a query string that can be parsed.
    """
    if "_exists_" not in query and ":*" not in query and IGNORED_FIELD not in query:
        return query
    tokens = list(match_tokens(query))
    parts: list[str] = []
    end = 0
    for at, (name, colon) in enumerate(pairwise(tokens)):
        if name["word"] is None or colon["symbol"] != ":" or name.start("word") < end:
            continue
        stop = _find_end(tokens, at + 2)
        others = _ask_also(name["word"], tokens[at + 2], query[colon.end() : stop].lstrip())
        if others:
            start = name.start("word")
            parts += [query[end:start], f"({' OR '.join((query[start:stop], *others))})"]
            end = stop
    return "".join((*parts, query[end:]))


def find_fractions(query: str, fields: Container[str]) -> str:
    """Return a query string in which a whole number that is looked for in one of some fields also finds it as a fraction.

    Args:
        query: a query string that can be parsed.
        fields: the fields that are indexed as strings.
    """
    tokens = list(match_tokens(query))
    parts: list[str] = []
    end = 0
    for at, (name, colon) in enumerate(pairwise(tokens)):
        if name["word"] is None or colon["symbol"] != ":" or unescape(name["word"]) not in fields:
            continue
        stop = _find_end(tokens, at + 2)
        for value, following in pairwise(tokens[at + 2 :]):
            if value.start() >= stop:
                break
            fraction = as_fraction(value["word"] or "")
            if fraction is None or following["fuzzy"] is not None or following["symbol"] == ":":
                continue
            parts += [query[end : value.start("word")], f"({value['word']} OR {fraction})"]
            end = value.end("word")
    return "".join((*parts, query[end:]))


def _ask_also(name: str, value: Match[str], text: str) -> list[str]:
    """Return what else has to be asked for where a query says `name:text`; `value` is the first token of the text."""
    if name == IGNORED_FIELD:
        return [f"{_OURS}:{text}"]
    is_exists = name == "_exists_"
    field = (value["word"] or value["quoted"]) if is_exists else name if value["word"] == "*" else None
    if field in {None, "*", ID_FIELD}:
        return []
    if field == IGNORED_FIELD:
        return [f"_exists_:{_OURS}"]
    patterns = (field,) if value["quoted"] else (field, f"{field}.*")
    return [f"{noted}:{pattern}" for noted in (IGNORED_FIELD, _OURS) for pattern in patterns]


def _find_end(tokens: Sequence[Match[str]], at: int) -> int:
    """Return where the value that begins with a token ends: after its closing parenthesis, or its fuzziness."""
    depth = 0
    while True:
        depth += {"(": 1, ")": -1}.get(tokens[at]["symbol"] or "", 0)
        if depth <= 0 or at + 1 >= len(tokens):
            break
        at += 1
    if at + 1 < len(tokens) and tokens[at + 1]["fuzzy"] is not None:
        at += 1
    return tokens[at].end()
