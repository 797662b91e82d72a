"""The gateway: hub control under /hub, every API under /apis/{name}, health, consoles and the front page."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sourcebook import __version__
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import SYSTEM, Caller
from sourcebook.hub.sources.commands import add_plugin_folders
from sourcebook.settings import Settings
from sourcebook_api import front, health, metrics
from sourcebook_api.console import open_assets, render_console
from sourcebook_api.errors import ERROR_RESPONSES, add_error_handlers, refuse_body
from sourcebook_api.events import EventStreams
from sourcebook_api.metrics import RequestTimer, name_api_route, name_hub_route
from sourcebook_api.query.routes import QueryApp
from sourcebook_api.requests import BodyLimit, bind_request
from sourcebook_api.routers import hub
from sourcebook_api.security import HubGuard

OpenContext = Callable[[Settings, Caller], AbstractAsyncContextManager[Context]]

_APIS = "/apis/"
_PATIENCE = timedelta(seconds=2)
_DESCRIPTION = """Control of the hub: register plugins, download and upload sources, build, release, follow jobs.

A command answers 202 with its job and the job's `Location`. Errors are JSON: `code`, `message`, `details`, `request_id`.
Each API has a console of its own at `/apis/{name}/docs`.
"""


class Gateway(FastAPI):
    """The hub's app; requests to an API leave it at the door, since they are many and need nothing of it."""

    _query: ASGIApp
    _hub: ASGIApp

    def serve_queries(self, app: ASGIApp) -> None:
        """Answer `/apis/{name}/...` with an ASGI app; it finds the name among the path parameters."""
        self._query = RequestTimer(app, lambda scope: name_api_route(scope["path"].removeprefix(scope["root_path"])))
        self._hub = RequestTimer(super().__call__, name_hub_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        with bind_request(scope):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if not path.startswith(_APIS):
            await self._hub(scope, receive, send)
            return
        name = path.removeprefix(_APIS).partition("/")[0]
        inner = {**scope, "root_path": f"{root}{_APIS}{name}", "path_params": {"name": name}}
        await self._query(inner, receive, send)


def create_app(settings: Settings, *, open_engines: OpenContext = open_context) -> FastAPI:
    """Return the gateway. `open_engines` opens what the settings name, at the start of the server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_engines(_impatient(settings), SYSTEM) as context:
            app.state.context = context
            await add_plugin_folders(context, settings.plugin_folders)
            app.state.streams = EventStreams(context)
            yield

    app = Gateway(
        title="Sourcebook hub",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(HubGuard, host=settings.host, names=settings.hub_names),
            Middleware(BodyLimit, max_bytes=settings.request_max_bytes, refuse=refuse_body),
        ],
    )
    app.serve_queries(_limit_bodies(settings, QueryApp(lambda: app.state.context)))
    app.mount("/docs/assets", open_assets())
    app.include_router(front.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(hub, responses=ERROR_RESPONSES)
    app.add_api_route("/docs", _show_console, include_in_schema=False)
    add_error_handlers(app)
    return app


def _impatient(settings: Settings) -> Settings:
    """Return the settings for a server: a request must not wait for an engine that is away as long as a job does."""
    return settings.model_copy(update={"engine_patience": min(settings.engine_patience, _PATIENCE)})


async def _show_console() -> HTMLResponse:
    return HTMLResponse(render_console(title="Sourcebook hub", spec="/openapi.json", assets="/docs/assets"))


def _limit_bodies(settings: Settings, app: ASGIApp) -> ASGIApp:
    return BodyLimit(app, max_bytes=settings.request_max_bytes, refuse=refuse_body)


def create_query_app(settings: Settings, api: str, *, open_engines: OpenContext = open_context) -> ASGIApp:
    """Return the query API of one API at the root, and under `/v1`."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_engines(_impatient(settings), SYSTEM) as context:
            app.state.context = context
            yield

    app = Starlette(lifespan=lifespan)
    query = _limit_bodies(settings, QueryApp(lambda: app.state.context, api))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette looks after the start and the end only: between them, a request passes nothing but the query API.
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        with bind_request(scope):
            await query(scope, receive, send)

    return serve
