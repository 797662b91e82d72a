"""/metrics of the gateway, and how long requests took, by route."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import lru_cache

from fastapi import APIRouter, Response
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sourcebook.errors import EngineUnavailable
from sourcebook.hub.jobs.queues import QueueLoad, read_queues
from sourcebook.metrics import CONTENT_TYPE, REQUEST_SECONDS, make_gauge, render_metrics
from sourcebook_api.dependencies import Engines
from sourcebook_api.query.routes import FIXED_PATHS

router = APIRouter()

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_API = "/apis/{name}"
_QUEUES_SECONDS = 3.0  # Prometheus gives up after ten
_VERSION = "v1/"
_ASSETS = "docs/assets/"


@router.get("/metrics", include_in_schema=False)
async def metrics(context: Engines) -> Response:
    """Answer Prometheus; while an engine is away, without the queues."""
    loads: dict[str, QueueLoad] = {}
    # The gateway's own numbers are worth most while something is wrong elsewhere.
    with contextlib.suppress(EngineUnavailable, TimeoutError):
        async with asyncio.timeout(_QUEUES_SECONDS):
            loads = await read_queues(context)
    waiting = [((queue,), load.waiting) for queue, load in loads.items() if load.waiting is not None]
    active = [
        ((queue, state), number)
        for queue, load in loads.items()
        for state, number in (("queued", load.queued), ("running", load.running))
    ]
    gauges = [make_gauge("sourcebook_queue_length", waiting), make_gauge("sourcebook_jobs_active", active)]
    return Response(render_metrics(gauges), media_type=CONTENT_TYPE)


@lru_cache(maxsize=1024)
def _find_timer(method: str, route: str, status: int) -> Histogram:
    """Return the child of the histogram; to find it anew takes as long as to note the time."""
    return REQUEST_SECONDS.labels(method, route, str(status))


class RequestTimer:
    """Notes how long each request waited for its answer to begin; `name_route` tells its route once it is answered."""

    def __init__(self, app: ASGIApp, name_route: Callable[[Scope], str]) -> None:
        self._app = app
        self._name_route = name_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else "other"
                timer = _find_timer(method, self._name_route(scope), message["status"])
                timer.observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_timed)


def name_hub_route(scope: Scope) -> str:
    """Return the path of the hub's route that answered, as it is declared: names and ids would make endless metrics."""
    if "route" not in scope:
        return "other"
    # A route that was included from a router knows the rest of its path only.
    names = {str(value): f"{{{name}}}" for name, value in scope["path_params"].items()}
    return "/".join(names.get(part, part) for part in scope["path"].split("/"))


def name_api_route(path: str) -> str:
    """Return the route of a path below `/apis/{name}`.

    >>> name_api_route("v1/gene/1017")
    '/apis/{name}/{type}/{id}'
    """
    path = path.strip("/").removeprefix(_VERSION)
    if path in FIXED_PATHS:
        return f"{_API}/{path}".rstrip("/")
    if path.startswith(_ASSETS):
        return f"{_API}/docs/assets"
    doc_type, _, rest = path.partition("/")
    if rest in FIXED_PATHS and rest:
        return f"{_API}/{{type}}/{rest}"
    return f"{_API}/{{type}}/{{id}}" if rest and doc_type else f"{_API}/{{type}}"
