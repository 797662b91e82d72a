"""APIs: the names that releases are served under, and the way back to an earlier release."""

from fastapi import APIRouter
from pydantic import Field

from sourcebook.hub.releases.answers import get_api, list_apis
from sourcebook.hub.releases.commands import delete_api, put_api, rollback
from sourcebook.hub.releases.model import Api
from sourcebook_api.dependencies import Body, Engines

router = APIRouter(prefix="/apis", tags=["apis"])


class EditedApi(Body):
    """What can be set of an API."""

    config: str
    max_age: int = Field(60, ge=0, le=31_536_000, description="Cache-Control max-age of answers, seconds")


class Rollback(Body):
    """The release to serve again; the default is the one before that was not rolled back itself."""

    to: str | None = None


@router.get("")
async def list_all(context: Engines) -> list[Api]:
    """List all APIs."""
    return await list_apis(context)


@router.get("/{name}")
async def get(context: Engines, name: str) -> Api:
    """Return an API, its release, and the releases kept for rollback."""
    return await get_api(context, name)


@router.put("/{name}")
async def put(context: Engines, name: str, api: EditedApi) -> Api:
    """Create an API or change it; the release that it serves is moved by releases alone."""
    return await put_api(context, Api(name=name, config=api.config, max_age=api.max_age))


@router.delete("/{name}", status_code=204)
async def delete(context: Engines, name: str) -> None:
    """Stop serving an API; its builds stay."""
    await delete_api(context, name)


@router.post("/{name}/rollback")
async def roll_back(context: Engines, name: str, target: Rollback | None = None) -> Api:
    """Serve an earlier release again, at once."""
    return await rollback(context, name, target.to if target else None)
