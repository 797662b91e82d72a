"""A look at the documents of a source, before anything is built of them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, MissingUpload, NotFound
from sourcebook.hub.documents.fields import FieldCounter, FieldStatistics
from sourcebook.hub.documents.record import Record, read_document
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.sources.commands import choose_uploaders
from sourcebook.hub.sources.model import SourceState, Upload

MAX_SAMPLE = 1000
_SAMPLE_BYTES = 8 * 1024 * 1024


async def get_document(context: Context, source: str, uploader: str | None, document_id: str) -> dict[str, Any]:
    """Return one document of a source.

    Raises:
        NotFound: there is no such source, uploader or document.
        MissingUpload: it has no documents yet.
    """
    upload = await _get_upload(context, source, uploader)
    (body,) = await context.documents.get_many(upload.collection, [document_id])
    if body is None:
        raise NotFound(f"{upload.source}/{upload.uploader} has no document {document_id!r}.", id=document_id)
    found: dict[str, Any] = orjson.loads(body)
    return found


async def sample_documents(context: Context, source: str, uploader: str | None, size: int) -> list[dict[str, Any]]:
    """Return documents that stand about equally far apart in the order of their ids, at most `size`.

    Raises:
        NotFound: there is no such source or uploader.
        MissingUpload: it has no documents yet.
    """
    if not 1 <= size <= MAX_SAMPLE:
        raise InvalidRequest(f"A sample has 1 to {MAX_SAMPLE} documents, not {size}.", size=size)
    upload = await _get_upload(context, source, uploader)
    keys = await context.documents.sample_keys(upload.collection, max(1, upload.count // size))
    found: list[dict[str, Any]] = []
    taken = 0
    wanted = min(size, len(keys))
    for key in [keys[len(keys) * number // wanted] for number in range(wanted)]:
        async for batch in context.documents.scan(upload.collection, start=key, size=1):
            found.append(read_document(batch[0]))
            taken += len(batch[0][1])
            break
        if taken > _SAMPLE_BYTES:
            break
    return found


async def describe_field(context: Context, source: str, uploader: str | None, field: str) -> FieldStatistics:
    """Return how many documents of a source have a field, and what is in it. All documents are read.

    Raises:
        NotFound: there is no such source or uploader, or no document has the field.
        MissingUpload: it has no documents yet.
    """
    upload = await _get_upload(context, source, uploader)
    counter = FieldCounter(field)
    async for batch in context.documents.scan(upload.collection, size=500):
        await asyncio.to_thread(_count, counter, batch)
    told = counter.statistics()
    if not told.count:
        raise NotFound(f"No document of {upload.source}/{upload.uploader} has the field {field!r}.", field=field)
    return told


def _count(counter: FieldCounter, batch: Sequence[Record]) -> None:
    for record in batch:
        counter.add(read_document(record))


async def _get_upload(context: Context, source: str, uploader: str | None) -> Upload:
    names = await choose_uploaders(context, source, uploader)
    if len(names) > 1:
        raise InvalidRequest(
            f"Source {source!r} has several uploaders: name one, as in {source}/{names[0]}.", source=source
        )
    state = await context.state.get(SourceState, source)
    upload_id = state.uploads.get(names[0]) if state is not None else None
    upload = await context.state.get(Upload, upload_id) if upload_id else None
    if upload is None:
        name = build_upload_name(source, names[0])
        raise MissingUpload(f"{name} has no documents yet: sourcebook upload {source}", source=source)
    return upload
