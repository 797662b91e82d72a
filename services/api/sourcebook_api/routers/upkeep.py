"""What is new, what is scheduled, and what the keep rules no longer keep."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from sourcebook.hub.builds.news import ConfigNews, find_news
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.schedules.commands import ScheduleView, list_schedules
from sourcebook.hub.upkeep.cleanup import CleanUpPlan, plan_clean_up, start_clean_up
from sourcebook.hub.upkeep.verify import start_verify
from sourcebook_api.dependencies import Body, Engines, accept_job

router = APIRouter(tags=["upkeep"])


@router.get("/news")
async def list_news(context: Engines, config: str | None = None) -> list[ConfigNews]:
    """List, for each build configuration, the uploads that are newer than its last build."""
    return await find_news(context, config)


@router.get("/schedules")
async def list_all_schedules(context: Engines) -> list[ScheduleView]:
    """List what is done by itself: when it is due, and what it did last."""
    return await list_schedules(context)


@router.get("/clean")
async def plan_cleaning(context: Engines) -> CleanUpPlan:
    """Say what the keep rules would remove now; nothing is removed."""
    return await plan_clean_up(context)


@router.post("/clean", status_code=202)
async def clean(context: Engines, response: Response) -> Job:
    """Remove what the keep rules do not keep."""
    return accept_job(response, await start_clean_up(context))


class Verification(Body):
    """What to verify: a source, an upload, a build or an API; by default everything."""

    name: Annotated[str, Field(min_length=1, max_length=600)] | None = None


@router.post("/verify", status_code=202)
async def verify(context: Engines, response: Response, what: Verification | None = None) -> Job:
    """Read everything that is stored, and say what is damaged; the job fails if something is."""
    return accept_job(response, await start_verify(context, what.name if what else None))
