"""Releases: what is served and was, and what changed from one to the next."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from sourcebook.hub.changes.model import ChangeKind
from sourcebook.hub.releases.answers import (
    MAX_PAGE,
    ChangesPage,
    ReleaseView,
    get_release,
    list_releases,
    read_changed_documents,
    read_notes,
)
from sourcebook.hub.releases.commands import MAX_NOTE_CHARACTERS, set_note
from sourcebook.hub.releases.model import Release
from sourcebook.hub.releases.notes import NotesFormat, ReleaseNotes, render_notes
from sourcebook_api.dependencies import Body, Engines

router = APIRouter(prefix="/releases", tags=["releases"])

_MEDIA_TYPES = {"text": "text/plain", "markdown": "text/markdown", "json": "application/json"}


class Note(Body):
    """What a person says of a release; empty text takes it away."""

    note: str = Field(max_length=MAX_NOTE_CHARACTERS)


@router.get("")
async def list_all(context: Engines, api: str | None = None, config: str | None = None) -> list[ReleaseView]:
    """List releases, newest first."""
    return await list_releases(context, api=api, config=config)


@router.get("/{name}")
async def get(context: Engines, name: str) -> Release:
    """Return a release."""
    return await get_release(context, name)


@router.put("/{name}/note")
async def put_note(context: Engines, name: str, note: Note) -> Release:
    """Say something of a release; it stands in its notes."""
    return await set_note(context, name, note.note)


@router.get(
    "/{name}/notes",
    response_model=ReleaseNotes,
    responses={200: {"content": {"text/plain": {}, "text/markdown": {}}, "description": "The notes."}},
)
async def notes(context: Engines, name: str, form: Annotated[NotesFormat, Query(alias="format")] = "json") -> Response:
    """Return what changed since the release before: versions, documents, fields, root keys."""
    found = await read_notes(context, name)
    return Response(render_notes(found, form), media_type=_MEDIA_TYPES[form])


@router.get("/{name}/changes", response_model_by_alias=True, response_model_exclude_none=True)
async def changes(
    context: Engines,
    name: str,
    kind: Annotated[ChangeKind | None, Query(alias="type")] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> ChangesPage:
    """Return the documents that were added, updated or deleted since the release before, in the order of their ids."""
    return await read_changed_documents(context, name, kind=kind, page=page, size=size)
