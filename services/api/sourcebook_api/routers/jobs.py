"""Jobs: list, follow, cancel."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from sourcebook.hub.jobs.answers import get_job, list_jobs
from sourcebook.hub.jobs.commands import cancel_job
from sourcebook.hub.jobs.model import Job
from sourcebook_api.dependencies import Engines, Streams

router = APIRouter(tags=["jobs"])

_EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events named `job`, each with a job as data."}
}


@router.get("/jobs")
async def list_all(
    context: Engines,
    *,
    state: str | None = None,
    kind: str | None = None,
    target: str | None = None,
    parent: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    after: str | None = None,
) -> list[Job]:
    """List jobs, newest first; those of a `parent` are its parts, and what followed it.

    The next page begins `after` the id of the last job of this one; an empty page is the end.
    """
    return await list_jobs(context, limit=limit, after=after, state=state, kind=kind, target=target, parent=parent)


@router.get("/jobs/{job_id}")
async def get(context: Engines, job_id: str) -> Job:
    """Return a job."""
    return await get_job(context, job_id)


@router.post("/jobs/{job_id}/cancel")
async def cancel(context: Engines, job_id: str) -> Job:
    """Cancel a job: at once while it is queued, within seconds while it runs."""
    return await cancel_job(context, job_id)


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=_EVENT_STREAM)
async def follow(context: Engines, streams: Streams, job_id: str, request: Request) -> StreamingResponse:
    """Follow a job until it is finished (server-sent events)."""
    return streams.open_stream(request, await get_job(context, job_id))


@router.get("/events", response_class=StreamingResponse, responses=_EVENT_STREAM)
async def follow_all(streams: Streams, request: Request) -> StreamingResponse:
    """Follow all jobs (server-sent events)."""
    return streams.open_stream(request)
