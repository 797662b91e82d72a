"""Which values of its documents an index could not take: counted by field, once it is written."""

from collections.abc import Iterator

from sourcebook.context import Context
from sourcebook.hub.documents.record import say_documents
from sourcebook.hub.mappings.model import Properties, iterate_fields
from sourcebook.language.requests import MatchQuery, SearchRequest
from sourcebook.worker import JobRun

_IGNORED = "_ignored"
_NAMES = 20


async def count_ignored(context: Context, index: str, properties: Properties) -> dict[str, int]:
    """Return the number of documents with a value that could not be indexed, by field."""
    if not (await context.search.search(index, SearchRequest(query=f"_exists_:{_IGNORED}", size=0))).total:
        return {}
    counts = {}
    for path in _list_paths(properties):
        match = MatchQuery(path, (_IGNORED,))
        found = await context.search.search(index, SearchRequest(query=(match,), size=0))
        if found.total:
            counts[path] = found.total
    return counts


def _list_paths(properties: Properties) -> Iterator[str]:
    for field in iterate_fields(properties):
        yield field.path
        yield from (f"{field.path}.{name}" for name in field.spec.get("fields", {}))


def warn_of_ignored(run: JobRun, counts: dict[str, int]) -> None:
    """Say in a job which fields have values that cannot be found."""
    if not counts:
        return
    (path, count), *others = counts.items()
    verb, them = ("has", "it") if count == 1 else ("have", "them")
    names = ", ".join(f"{other!r} ({number:,})" for other, number in others[: _NAMES - 1])
    more = f" and {len(counts) - _NAMES:,} more" if len(counts) > _NAMES else ""
    same = f" The same goes for {names}{more}." if others else ""
    run.warn(
        f"Field {path!r}: {say_documents(count)} {verb} a value that does not fit into the mapping; it is stored, but not "
        f"indexed. The query `{_IGNORED}:{path}` finds {them}.{same}"
    )
