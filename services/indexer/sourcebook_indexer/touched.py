"""Finds the documents that have values in some fields, quickly: most are told apart by their bytes."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from sourcebook.context import Context
from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import Record, read_document
from sourcebook.worker import JobRun


async def find_documents_with(
    context: Context, run: JobRun, build: Build, paths: Sequence[str]
) -> AsyncIterator[list[Record]]:
    """Yield, batch by batch, the documents of a build that have one of some dotted paths; no paths, no reading."""
    if not paths:
        return
    # A key ends like this also where it is dotted, and it is the last one of its path.
    ends = {orjson.dumps(path.rpartition(".")[2])[1:] + b":" for path in paths}
    keys = [path.split(".") for path in paths]
    done = 0
    async for batch in context.documents.scan(build.collection, size=context.settings.batch_documents):
        candidates = [record for record in batch if any(end in record[1] for end in ends)]
        found = [record for record in candidates if _has_any(read_document(record), keys)]
        if found:
            yield found
        done += len(batch)
        await run.progress("look for new fields", done, build.count, "documents")


def _has_any(document: dict[str, Any], paths: Sequence[list[str]]) -> bool:
    return any(has_path(document, path) for path in paths)


def has_path(value: Any, keys: Sequence[str]) -> bool:
    """Whether a value has something at a path: through lists, and where keys are dotted, as the search engines read them."""
    if isinstance(value, list):
        return any(has_path(item, keys) for item in value)
    if not keys:
        return value is not None
    if not isinstance(value, dict):
        return False
    lengths = range(1, len(keys) + 1)
    heads = ((".".join(keys[:length]), keys[length:]) for length in lengths)
    return any(head in value and has_path(value[head], rest) for head, rest in heads)
