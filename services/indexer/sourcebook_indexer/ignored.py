"""Which values of its documents an index could not take: counted by field, once it is written."""

from collections.abc import Iterator

from sourcebook.context import Context
from sourcebook.hub.mappings.model import Properties, iterate_fields
from sourcebook.language.requests import MatchQuery, SearchRequest
from sourcebook.worker import JobRun

_IGNORED = "_ignored"
_WARNINGS = 20


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
    for path, count in list(counts.items())[:_WARNINGS]:
        documents = "1 document has" if count == 1 else f"{count:,} documents have"
        run.warn(
            f"Field {path!r}: {documents} a value that does not fit into the mapping; it is stored, but not indexed. The query "
            f"`{_IGNORED}:{path}` finds them."
        )
    if len(counts) > _WARNINGS:
        run.warn(f"... and {len(counts) - _WARNINGS:,} more fields have values that are not indexed.")
