"""Names that the shell completes: of sources, builds, configurations and APIs, as they are in HOME."""

import asyncio
from collections.abc import Callable
from typing import Any

from sourcebook.backends import open_inline_bus
from sourcebook.context import open_context
from sourcebook.errors import SourcebookError
from sourcebook.hub.access.model import SYSTEM
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.releases.model import Api
from sourcebook.hub.sources.model import Plugin
from sourcebook.settings import load_settings


def _complete(*kinds: type[Any]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        # The shell shows what a completion prints: an engine that is away completes nothing, and says nothing.
        try:
            names = asyncio.run(_find_names(kinds))
        except (SourcebookError, OSError):
            return []
        return sorted({name for name in names if name.startswith(incomplete)})

    return complete


async def _find_names(kinds: tuple[type[Any], ...]) -> list[str]:
    settings = load_settings()
    if not settings.home.is_dir():
        return []
    async with open_context(settings, SYSTEM, bus=open_inline_bus()) as context:
        return [record.name for kind in kinds for record in await context.state.find(kind)]


complete_source = _complete(Plugin)
complete_config = _complete(BuildConfig)
complete_build = _complete(Build)
complete_build_or_config = _complete(Build, BuildConfig)
complete_api = _complete(Api)
