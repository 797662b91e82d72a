"""Plugins: register, list, remove."""

from fastapi import APIRouter

from sourcebook.hub.sources.answers import list_plugins
from sourcebook.hub.sources.commands import add_plugin, remove_plugin
from sourcebook.hub.sources.model import Plugin
from sourcebook_api.dependencies import Body, Engines

router = APIRouter(prefix="/plugins", tags=["plugins"])


class NewPlugin(Body):
    """A folder on the hub's machine that holds a manifest."""

    folder: str


@router.get("")
async def list_all(context: Engines) -> list[Plugin]:
    """List the registered plugins."""
    return await list_plugins(context)


@router.post("", status_code=201)
async def add(context: Engines, plugin: NewPlugin) -> Plugin:
    """Register a plugin folder; registering it again changes nothing."""
    return await add_plugin(context, plugin.folder)


@router.delete("/{name}", status_code=204)
async def remove(context: Engines, name: str) -> None:
    """Forget a plugin; its folder and what a build serves stay."""
    await remove_plugin(context, name)
