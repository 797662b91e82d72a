"""What people are told of fields, the same on every search engine: why one cannot be counted, and where words were looked for."""

import difflib
from collections.abc import Iterable

from sourcebook.errors import QuerySyntaxError
from sourcebook.hub.mappings.default_search import list_default_fields
from sourcebook.hub.mappings.model import Properties
from sourcebook.language.query_string import parse_query_string, uses_default_fields
from sourcebook.language.requests import SearchRequest

_SHOWN = 5


def searched_in_vain(request: SearchRequest, total: int, properties: Properties) -> tuple[str, ...]:
    """Return where the words of a query that found nothing were looked for; nowhere if each of them names a field."""
    if total or not isinstance(request.query, str) or not uses_default_fields(parse_query_string(request.query)):
        return ()
    return tuple(list_default_fields(properties))


def refuse_facet(field: str, known: Iterable[str], *, is_text: bool) -> QuerySyntaxError:
    """Return the error for a facet on a field whose values cannot be counted.

    Args:
        field: what was asked for.
        known: the fields that the index has.
        is_text: it is one of them, and its values are cut into words.
    """
    if is_text:
        return _refuse(
            field,
            f"Cannot count the values of [{field}]: it is a text. Facets are on keyword, number, date or boolean fields.",
        )
    return _refuse(field, f"No mapping found for [{field}] in order to count its values{_explain(field, known)}")


def refuse_sort(field: str, known: Iterable[str], *, is_text: bool) -> QuerySyntaxError:
    """Return the error for a sort on a field that has no order; the arguments are those of `refuse_facet`."""
    if is_text:
        return _refuse(
            field, f"Cannot sort on [{field}]: it is a text. Sort on a keyword, number, date or boolean field."
        )
    return _refuse(field, f"No mapping found for [{field}] in order to sort on{_explain(field, known)}")


def _refuse(field: str, message: str) -> QuerySyntaxError:
    return QuerySyntaxError(message, field=field)


def _explain(field: str, known: Iterable[str]) -> str:
    paths = sorted(known)
    below = [path for path in paths if path.startswith(f"{field}.")]
    if below:
        more = ", ..." if len(below) > _SHOWN else ""
        return f": it is an object; name a field in it ({', '.join(below[:_SHOWN])}{more})"
    near = difflib.get_close_matches(field, paths, 1)
    hint = f"did you mean {near[0]}?" if near else "/metadata/fields lists those that there are"
    return f": no field of that name is indexed; {hint}"
