"""Build configurations: what to merge, and how."""

from fastapi import APIRouter

from sourcebook.errors import InvalidRequest
from sourcebook.hub.builds.answers import get_build_config, list_build_configs
from sourcebook.hub.builds.commands import delete_build_config, put_build_config
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.logging import hide_secrets
from sourcebook_api.dependencies import Engines

router = APIRouter(prefix="/build-configs", tags=["builds"])


class EditedBuildConfig(BuildConfig):
    """A build configuration; its name stands in the path."""

    name: str = ""


def _show(config: BuildConfig) -> BuildConfig:
    """Hide a password in the address; a configuration that is put back as it was shown keeps it."""
    return config.model_copy(update={"publish": hide_secrets(config.publish)}) if config.publish else config


@router.get("")
async def list_all(context: Engines) -> list[BuildConfig]:
    """List all build configurations."""
    return [_show(config) for config in await list_build_configs(context)]


@router.get("/{name}")
async def get(context: Engines, name: str) -> BuildConfig:
    """Return a build configuration."""
    return _show(await get_build_config(context, name))


@router.put("/{name}")
async def put(context: Engines, name: str, config: EditedBuildConfig) -> BuildConfig:
    """Create or replace a build configuration."""
    if config.name not in {"", name}:
        raise InvalidRequest(f"The path names {name!r}, the body {config.name!r}.", path=name, body=config.name)
    values = {**config.model_dump(by_alias=True), "name": name}
    return _show(await put_build_config(context, BuildConfig.model_validate(values)))


@router.delete("/{name}", status_code=204)
async def delete(context: Engines, name: str) -> None:
    """Remove a build configuration; its builds stay."""
    await delete_build_config(context, name)
