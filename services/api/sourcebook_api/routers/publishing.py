"""Publish builds, install what others published, subscribe to it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from sourcebook.hub.jobs.model import Job
from sourcebook.hub.publishing.answers import SubscriptionView, list_subscriptions
from sourcebook.hub.publishing.commands import start_install, start_publish, subscribe, unsubscribe
from sourcebook_api.dependencies import Body, Engines, accept_job

router = APIRouter(tags=["publishing"])
Url = Annotated[str, Field(min_length=1, max_length=2000)]


class Publication(Body):
    """Where to publish to, and how; the default address is that of the build configuration."""

    url: Url | None = None
    mode: Literal["auto", "full", "incremental"] = "auto"


class Installation(Body):
    """What to install: by default the newest release at the address, under the last part of the address as name."""

    url: Url
    name: str | None = None
    version: str | None = None
    api: str | None = None


class EditedSubscription(Body):
    """Where to look for new releases, and when; `keep` is the number of installed builds whose documents stay."""

    url: Url
    cron: str = "@hourly"
    api: str | None = None
    keep: int = Field(2, ge=1, le=1000)


@router.post("/builds/{name}/publish", status_code=202)
async def publish(context: Engines, name: str, response: Response, target: Publication | None = None) -> Job:
    """Write a build to an address from which other machines install it."""
    chosen = target or Publication()
    return accept_job(response, await start_publish(context, name, chosen.url, mode=chosen.mode))


@router.post("/install", status_code=202)
async def install(context: Engines, what: Installation, response: Response) -> Job:
    """Fetch a published release by the shortest way from what is here, check it, and serve it."""
    job = await start_install(context, what.url, name=what.name, version=what.version, api=what.api)
    return accept_job(response, job)


@router.get("/subscriptions")
async def list_all(context: Engines) -> list[SubscriptionView]:
    """List the subscriptions."""
    return await list_subscriptions(context)


@router.put("/subscriptions/{name}")
async def put(context: Engines, name: str, wanted: EditedSubscription) -> SubscriptionView:
    """Look at an address on a schedule, and install and serve what is new."""
    return await subscribe(context, wanted.url, wanted.cron, name=name, api=wanted.api, keep=wanted.keep)


@router.delete("/subscriptions/{name}", status_code=204)
async def delete(context: Engines, name: str) -> None:
    """End a subscription; what was installed stays."""
    await unsubscribe(context, name)
