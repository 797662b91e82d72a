"""From checked parameters to the engine-neutral search request (docs/contracts/query-api.md, sections 3 and 5). Pure."""

from collections.abc import Mapping
from typing import Any

from sourcebook.language.requests import FacetRequest, MatchQuery, SearchRequest, SortKey
from sourcebook_api.query.errors import QueryError, value_error
from sourcebook_api.query.params import MAX_BATCH_HITS, MAX_BATCH_LOOKUPS, MAX_BUCKETS, MAX_WINDOW, PAGE_SIZE
from sourcebook_api.query.values import Options

_ALL_DOCUMENTS = frozenset({"__all__", "*", "*:*"})
_RANDOM = "__any__"
_MAX_FACET_DEPTH = 5
_BUCKET_KEYS = frozenset({"count", "term"})
_ID_SCOPES = (("_id",), ["_id"])


def plan_query(options: Options, *, templates: Mapping[str, str], timeout_seconds: float) -> SearchRequest:
    """Return the search of GET /query.

    Args:
        options: the checked parameters.
        templates: the named queries of the build configuration, for `userquery`.
        timeout_seconds: how long the engine may take.

    Raises:
        QueryError: the page lies beyond the window, a facet cannot be read, or there is no such named query.
    """
    query, extra_filter = _apply_userquery(options, templates)
    facets = tuple(parse_facet(str(item)) for item in options["facets"] or ())
    _check_facets(facets, options["facet_size"])
    size = options["size"]
    if facets and "size" not in options.given and (query is None or query == "__all__"):
        size = 0
    _check_window(options["from"], size)
    return SearchRequest(
        query=None if query is None or query.strip() in _ALL_DOCUMENTS or query == _RANDOM else query,
        filter=_both(options["filter"] or None, extra_filter),
        post_filter=options["post_filter"] or None,
        offset=options["from"],
        size=size,
        sort=parse_sort(options["sort"]),
        facets=facets,
        facet_size=options["facet_size"],
        random=query == _RANDOM,
        explain=options["explain"],
        timeout_seconds=timeout_seconds,
    )


def _apply_userquery(options: Options, templates: Mapping[str, str]) -> tuple[str | None, str | None]:
    query, name = options["q"], options["userquery"]
    if not name:
        return query, None
    template = templates.get(name)
    if template is None:
        raise QueryError(keyword="userquery", allowed=sorted(templates), alias="userfilter")
    if "{q}" not in template:
        return query, template
    if query is None or query.strip() in _ALL_DOCUMENTS:
        query = "*"
    return template.replace("{q}", f"({query})" if query != "*" else query), None


def _both(left: str | None, right: str | None) -> str | None:
    return f"({left}) AND ({right})" if left and right else left or right


def plan_page(
    options: Options, *, templates: Mapping[str, str], timeout_seconds: float, after: str | None
) -> SearchRequest:
    """Return the search of one page of a walk over all hits (fetch_all, search_after), in `_id` order.

    Raises:
        QueryError: as `plan_query`, or a sort is asked for: the walk has an order of its own.
    """
    if options["sort"]:
        raise value_error("A walk over all hits (fetch_all, search_after) is in the order of _id: leave sort out.")
    request = plan_query(options, templates=templates, timeout_seconds=timeout_seconds)
    size = options["size"] if "size" in options.given and options["search_after"] else PAGE_SIZE
    return SearchRequest(
        query=request.query,
        filter=request.filter,
        post_filter=request.post_filter,
        size=max(size, 1),
        in_id_order=True,
        after=after,
        facets=request.facets if after is None else (),
        facet_size=request.facet_size,
        timeout_seconds=timeout_seconds,
    )


def plan_batch(options: Options, *, timeout_seconds: float) -> list[SearchRequest]:
    """Return one search for each term of POST /query.

    Raises:
        QueryError: too many terms for so many hits each, or compound terms that do not fit the scopes.
    """
    terms, scopes, size = options["q"], options["scopes"], options["size"]
    if len(terms) * size > MAX_BATCH_HITS:
        raise QueryError(
            error="Too Many Hits Requested.",
            details=f"{len(terms)} terms of up to {size} hits each are more than {MAX_BATCH_HITS}; ask for fewer of either.",
        )
    fields = None if any(isinstance(term, list) for term in terms) else _all_scopes(scopes)
    lookups = len(terms) * len(_all_scopes(scopes))
    if lookups > MAX_BATCH_LOOKUPS:
        raise QueryError(
            error="Too Many Lookups Requested.",
            details=f"{len(terms)} terms, each in {len(_all_scopes(scopes))} scopes, are {lookups} lookups, and "
            f"{MAX_BATCH_LOOKUPS} are allowed; ask for fewer of either.",
        )
    _check_window(options["from"], size)
    sort = parse_sort(options["sort"])
    return [
        SearchRequest(
            query=plan_term(term, scopes, fields),
            filter=options["filter"] or None,
            post_filter=options["post_filter"] or None,
            offset=options["from"],
            size=size,
            sort=sort,
            timeout_seconds=timeout_seconds,
        )
        for term in terms
    ]


def is_id_lookup(options: Options) -> bool:
    """Whether a batch asks for nothing but documents by `_id`, which the document store answers in one go."""
    plain = not (options["filter"] or options["post_filter"] or options["sort"] or options["from"])
    return (
        plain
        and options["size"] > 0
        and options["scopes"] in _ID_SCOPES
        and not any(isinstance(t, list) for t in options["q"])
    )


def plan_term(term: Any, scopes: Any, fields: tuple[str, ...] | None = None) -> str | tuple[MatchQuery, ...]:
    """Return the query of one term of a batch; a list is a compound term, one part for each entry of `scopes`.

    `fields` are those of all scopes, for terms that share them.

    Raises:
        QueryError: parts and scopes do not pair up, or a term is an object.
    """
    if isinstance(term, list):
        if not term or len(term) != len(scopes):
            raise value_error("A compound term needs one entry in scopes for each of its parts.")
        return tuple(
            MatchQuery(_term_text(part), _scope_fields(scope)) for part, scope in zip(term, scopes, strict=True)
        )
    text = _term_text(term)
    if not scopes:
        return text
    return (MatchQuery(text, _all_scopes(scopes) if fields is None else fields),)


def _all_scopes(scopes: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field for scope in scopes for field in _scope_fields(scope)))


def _term_text(term: Any) -> str:
    if isinstance(term, bool):
        return "true" if term else "false"
    if isinstance(term, str | int | float):
        return str(term)
    raise value_error("A term must be a text, a number or a list of these.")


def _scope_fields(scope: Any) -> tuple[str, ...]:
    return tuple(map(str, scope)) if isinstance(scope, list) else (str(scope),)


def _check_window(offset: int, size: int) -> None:
    if offset + size > MAX_WINDOW:
        raise value_error(
            f"Result window is too large: from + size must be at most {MAX_WINDOW} but was {offset + size}. "
            "Use fetch_all to read all hits."
        )


def parse_sort(items: list[Any] | None) -> tuple[SortKey, ...]:
    """Return the keys of a sort. The best score always comes first."""
    keys = []
    for item in map(str, items or ()):
        name = item.removeprefix("-")
        if name:
            keys.append(SortKey(name, descending=item.startswith("-") or name == "_score"))
    return tuple(keys)


def _check_facets(facets: tuple[FacetRequest, ...], size: int) -> None:
    buckets = _count_buckets(facets, size)
    if buckets > MAX_BUCKETS:
        raise QueryError(
            error="Too Many Facet Values Requested.",
            details=f"The facets may have {buckets} values, and {MAX_BUCKETS} are allowed; ask for fewer facets, fewer inside "
            "each other, or a smaller facet_size.",
        )


def _count_buckets(facets: tuple[FacetRequest, ...], size: int) -> int:
    return sum(size * (1 + _count_buckets(facet.inner, size)) for facet in facets)


def parse_facet(text: str) -> FacetRequest:
    """Read `a(b c(d))`.

    Raises:
        QueryError: the parentheses do not match, or are too deep.
    """
    facet, rest = _read_facet(text, 0, text)
    if rest != len(text):
        raise value_error(f"Cannot read the facet {text!r}: write field or field(inner).")
    return facet


def _read_facet(text: str, start: int, whole: str, depth: int = 0) -> tuple[FacetRequest, int]:
    end = start
    while end < len(text) and text[end] not in "(), \t":
        end += 1
    if end == start or depth > _MAX_FACET_DEPTH:
        raise value_error(f"Cannot read the facet {whole!r}: write field or field(inner).")
    name, inner = text[start:end], []
    if end < len(text) and text[end] == "(":
        end = _skip_separators(text, end + 1)
        while end < len(text) and text[end] != ")":
            facet, end = _read_facet(text, end, whole, depth + 1)
            if facet.field in _BUCKET_KEYS:
                raise value_error(
                    f"A facet inside another cannot be of the field {facet.field!r}: every value has that key."
                )
            inner.append(facet)
            end = _skip_separators(text, end)
        if end >= len(text) or not inner:
            raise value_error(f"Cannot read the facet {whole!r}: a parenthesis is not closed.")
        end += 1
    return FacetRequest(name, tuple(inner)), end


def _skip_separators(text: str, position: int) -> int:
    while position < len(text) and text[position] in ", \t":
        position += 1
    return position
