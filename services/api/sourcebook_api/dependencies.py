"""What the routers of the hub are given, and how they answer a command."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from sourcebook.context import Context
from sourcebook.hub.jobs.model import Job
from sourcebook_api.events import EventStreams
from sourcebook_api.requests import find_caller


def read_context(request: Request) -> Context:
    """Return the engines that the app opened at its start, to work with in the name of who asks."""
    context: Context = request.app.state.context
    return context.asked_by(find_caller(request.scope))


def read_streams(request: Request) -> EventStreams:
    """Return the open event streams."""
    streams: EventStreams = request.app.state.streams
    return streams


Engines = Annotated[Context, Depends(read_context)]
Streams = Annotated[EventStreams, Depends(read_streams)]


class Body(BaseModel):
    """A request body; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


def show_docstrings(router: APIRouter) -> APIRouter:
    """Make the console show docstrings as titles; the functions' names would only repeat the paths."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.summary, route.description = route.description, ""
    return router


def accept_job(response: Response, job: Job) -> Job:
    """Answer a command: the job, and where to follow it."""
    response.headers["Location"] = f"/hub/jobs/{job.id}"
    return job


def accept_jobs(response: Response, jobs: list[Job]) -> Job | list[Job]:
    """Answer a command that may start several jobs: the job, or the list of them."""
    if len(jobs) == 1:
        return accept_job(response, jobs[0])
    response.headers["Location"] = f"/hub/jobs?kind={jobs[0].kind}" if jobs else "/hub/jobs"
    return jobs
