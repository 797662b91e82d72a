"""Runs a scenario with every embedded engine open in a folder of the test, and messages kept in this process."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.settings import Settings

T = TypeVar("T")


def run_in_context(home: Path, scenario: Callable[[Context], Awaitable[T]], **settings: Any) -> T:
    """Open the context, run the scenario, close the context."""

    async def main() -> T:
        async with open_context(Settings(home=home, **settings), ANONYMOUS, bus=open_inline_bus()) as context:
            return await scenario(context)

    return asyncio.run(main())
