"""Whether the gateway is alive, and whether it can work."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Response

from sourcebook.context import Context
from sourcebook.hub.jobs.queues import QueueLoad, read_queues
from sourcebook.hub.releases.model import Api
from sourcebook.logging import get_logger
from sourcebook_api.dependencies import Engines, show_docstrings

router = APIRouter(prefix="/health", tags=["health"])
log = get_logger(__name__)

_CHECK_SECONDS = 3.0


@router.get("/live")
async def live() -> dict[str, str]:
    """Whether this process answers."""
    return {"status": "live"}


@router.get("/ready")
async def ready(context: Engines, response: Response) -> dict[str, Any]:
    """Whether every engine answers; 503 names those that do not."""
    results = await check_engines(context)
    if not all(results.values()):
        response.status_code = 503
    return {"status": "ready" if all(results.values()) else "not ready", "engines": results}


@router.get("/queues")
async def queues(context: Engines) -> dict[str, QueueLoad]:
    """The work of each queue: messages that wait on the broker, jobs that are queued, running, and both together (active)."""
    return await read_queues(context)


async def check_engines(context: Context) -> dict[str, bool]:
    """Return for each engine whether it answers."""
    checks = {
        "state": context.state.find(Api, limit=1),
        "documents": context.documents.names(),
        "search": context.search.names(),
        "broker": context.bus.ping(),
    }
    answers = await asyncio.gather(*(_answers(name, check) for name, check in checks.items()))
    return dict(zip(checks, answers, strict=True))


async def _answers(name: str, check: Awaitable[Any]) -> bool:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await check
    # Whatever an engine raises, it is not ready; the log says why.
    except Exception as error:  # noqa: BLE001
        log.warning("engine_not_ready", engine=name, message=str(error))
        return False
    return True


show_docstrings(router)
