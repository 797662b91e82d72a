"""Sources: their state, the commands on them, and their mappings."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from sourcebook.hub.documents.answers import MAX_SAMPLE, describe_field, get_document, sample_documents
from sourcebook.hub.documents.fields import FieldStatistics
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.mappings.commands import SavedMapping, commit_mapping, get_mapping, save_mapping
from sourcebook.hub.mappings.model import Mapping, Properties
from sourcebook.hub.sources.answers import SourceView, get_source, list_sources
from sourcebook.hub.sources.commands import start_dump, start_inspect, start_upload
from sourcebook_api.dependencies import Body, Engines, accept_job, accept_jobs

router = APIRouter(prefix="/sources", tags=["sources"])


class DumpOptions(Body):
    """How to download."""

    force: bool = False
    then_upload: bool = True


class UploadOptions(Body):
    """What to upload: one uploader or all."""

    uploader: str | None = None
    force: bool = False


class InspectOptions(Body):
    """What to inspect: one uploader's documents or all."""

    uploader: str | None = None


class EditedMapping(Body):
    """The mapping that builds are to use."""

    properties: Properties


@router.get("")
async def list_all(context: Engines) -> list[SourceView]:
    """List all sources with what is current; one whose plugin cannot be loaded is there with its error."""
    return await list_sources(context)


@router.get("/{name}")
async def get(context: Engines, name: str) -> SourceView:
    """Return one source."""
    return await get_source(context, name)


@router.post("/{name}/dump", status_code=202)
async def dump(context: Engines, name: str, response: Response, options: DumpOptions | None = None) -> Job:
    """Download the newest version, if there is a new one; its uploads follow."""
    chosen = options or DumpOptions()
    return accept_job(response, await start_dump(context, name, force=chosen.force, then_upload=chosen.then_upload))


@router.post("/{name}/upload", status_code=202)
async def upload(
    context: Engines, name: str, response: Response, options: UploadOptions | None = None
) -> Job | list[Job]:
    """Parse the newest dump: one job an uploader, a list if there are several."""
    chosen = options or UploadOptions()
    return accept_jobs(response, await start_upload(context, name, chosen.uploader, force=chosen.force))


@router.post("/{name}/inspect", status_code=202)
async def inspect(
    context: Engines, name: str, response: Response, options: InspectOptions | None = None
) -> Job | list[Job]:
    """Infer the mapping again: one job an uploader, a list if there are several."""
    chosen = options or InspectOptions()
    return accept_jobs(response, await start_inspect(context, name, chosen.uploader))


@router.get("/{name}/documents")
async def sample(
    context: Engines,
    name: str,
    uploader: str | None = None,
    size: Annotated[int, Query(ge=1, le=MAX_SAMPLE, description="How many.")] = 10,
) -> list[dict[str, Any]]:
    """Return some documents of a source as they are stored, from all over their ids."""
    return await sample_documents(context, name, uploader, size)


@router.get("/{name}/documents/{document_id:path}")
async def read_document(context: Engines, name: str, document_id: str, uploader: str | None = None) -> dict[str, Any]:
    """Return one document of a source as it is stored."""
    return await get_document(context, name, uploader, document_id)


@router.get("/{name}/fields/{field}")
async def read_field(context: Engines, name: str, field: str, uploader: str | None = None) -> FieldStatistics:
    """Return in how many documents a field is, and what it holds; all documents are read."""
    return await describe_field(context, name, uploader, field)


@router.get("/{name}/mappings/{uploader}")
async def read_mapping(context: Engines, name: str, uploader: str) -> Mapping:
    """Return the inferred and the committed mapping."""
    return await get_mapping(context, name, uploader)


@router.put("/{name}/mappings/{uploader}")
async def edit_mapping(
    context: Engines, name: str, uploader: str, mapping: EditedMapping, *, dry_run: bool = False
) -> SavedMapping:
    """Commit an edited mapping, which the next build uses; `edit` says what changed and which documents do not fit.

    A type into which no document fits is refused. With `dry_run`, nothing is committed.
    """
    return await save_mapping(context, name, uploader, mapping.properties, confirm=lambda _edit: not dry_run)


@router.post("/{name}/mappings/{uploader}/commit")
async def commit(context: Engines, name: str, uploader: str, *, new_fields: bool = False) -> Mapping:
    """Commit the inferred mapping in place of the committed one; with `new_fields`, add only what that does not have yet."""
    return await commit_mapping(context, name, uploader, new_fields_only=new_fields)
