"""The routed app of the query API: which function answers which path, and what every answer has in common (section 1)."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, NotFound
from sourcebook.model.query import SearchRequest
from sourcebook_api.console import open_assets, render_console
from sourcebook_api.query.annotation import get_document, post_documents
from sourcebook_api.query.answer import (
    HTML,
    Answer,
    is_unchanged,
    json_answer,
    make_etag,
    not_modified,
    send_answer,
)
from sourcebook_api.query.call import Call
from sourcebook_api.query.errors import QueryError, not_found, translate_error
from sourcebook_api.query.examples import Examples
from sourcebook_api.query.metadata import get_fields, get_metadata, get_status
from sourcebook_api.query.openapi import describe_api
from sourcebook_api.query.releases import Releases
from sourcebook_api.query.search import get_query, post_query
from sourcebook_api.requests import request_id

Route = Callable[[Call], Awaitable[Answer]]

_METHOD_NOT_ALLOWED = 405
_VERSION = "v1"
_ASSETS = "docs/assets/"


class QueryApp:
    """The query API as an ASGI app. `api` fixes the name; without it the name is the path parameter `name` of the mount.

    Its own dispatch, because the document type in the paths is that of the release, and because a request by id passes here.
    """

    def __init__(self, get_context: Callable[[], Context], api: str | None = None) -> None:
        self._get_context = get_context
        self._api = api
        self._releases: Releases | None = None
        self._assets = open_assets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = _route_path(scope)
        try:
            if path.startswith(_ASSETS) and scope["method"] != "OPTIONS":
                await self._send_asset(scope, receive, send, path.removeprefix(_ASSETS))
                return
            answer = await self._answer(scope, receive, path)
        # One place turns whatever happened into an answer; translate_error logs what nobody foresaw.
        except Exception as error:  # noqa: BLE001
            refused = translate_error(error, request_id(scope))
            answer = json_answer(refused.body, refused.status)
        await send_answer(answer, scope, send)

    async def _send_asset(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        try:
            await self._assets({**scope, "path": path, "root_path": ""}, receive, send)
        except HTTPException as error:  # raised before anything was sent
            raise QueryError(error.status_code) from error

    async def _answer(self, scope: Scope, receive: Receive, path: str) -> Answer:
        if scope["method"] == "OPTIONS":
            return Answer(b"", 204)
        context = self._get_context()
        if self._releases is None:
            self._releases = Releases(context)
        api = self._api or scope["path_params"]["name"]
        opened = await self._releases.current(api)
        call = Call(context, self._releases, opened, scope, receive)
        call.path = {"api": api}
        return await _answer_call(call, path)


def _route_path(scope: Scope) -> str:
    path: str = scope["path"].removeprefix(scope.get("root_path", "")).strip("/")
    return path.removeprefix(_VERSION).lstrip("/") if path == _VERSION or path.startswith(_VERSION + "/") else path


async def _answer_call(call: Call, path: str) -> Answer:
    scope, opened = call.scope, call.opened
    etag = None
    if scope["method"] != "POST" and path != "status" and not _may_vary(scope["query_string"]):
        etag = make_etag(opened.release.name, scope)
        if is_unchanged(scope["headers"], etag):
            return not_modified(etag, opened.max_age)
    try:
        answer = await _dispatch(call, path)
    except QueryError as error:
        answer = json_answer(error.body, error.status)
        answer.repeatable = not _is_walk(scope["query_string"])
    except NotFound as error:
        # The release was removed between the look at the catalogue and the look at its data.
        raise EngineUnavailable(error.message) from error
    if answer.repeatable:
        answer.max_age = opened.max_age
        answer.etag = etag if answer.status == 200 else None  # noqa: PLR2004 - only answers that can be repeated
    return answer


def _may_vary(query_string: bytes) -> bool:
    """Whether an answer may change while the release stays: named queries are configuration, and `now` is the clock."""
    return any(name in query_string for name in (b"userquery", b"userfilter", b"now"))


def _is_walk(query_string: bytes) -> bool:
    return any(name in query_string for name in (b"scroll_id", b"fetch_all", b"search_after"))


async def _dispatch(call: Call, path: str) -> Answer:
    match call.scope["method"]:
        case "GET" | "HEAD":
            return await _get(call, path)
        case "POST":
            return await _route(_POST, call, path)(call)
        case _:
            raise QueryError(_METHOD_NOT_ALLOWED)


async def _get(call: Call, path: str) -> Answer:
    first, slash, rest = path.partition("/")
    if slash and first == call.opened.release.doc_type and rest and rest not in _BELOW_TYPE:
        return await get_document(call, rest)
    return await _route(_GET, call, path)(call)


def _route(table: dict[str, Route], call: Call, path: str) -> Route:
    """Return the function for a path; `{type}` in front of a path that may have it is the release's document type."""
    first, _, rest = path.partition("/")
    doc_type = call.opened.release.doc_type
    name = "{type}" if path == doc_type else rest if first == doc_type and rest in _BELOW_TYPE else path
    route = table.get(name)
    if route is not None:
        return route
    if name in _GET or name in _POST:
        raise QueryError(_METHOD_NOT_ALLOWED)
    raise not_found()


async def _get_spec(call: Call) -> Answer:
    release, server = call.opened.release, call.scope.get("root_path", "")
    examples = Examples(release, await _first_document(call))
    return Answer(orjson.dumps(describe_api(release, api=call.path["api"], server=server, examples=examples)))


async def _first_document(call: Call) -> dict[str, Any] | None:
    request = SearchRequest(size=1, in_id_order=True, timeout_seconds=call.timeout_seconds)
    try:
        found = await call.context.search.search(call.opened.release.index, request)
    except (EngineUnavailable, NotFound):
        return None  # the document describes the API, whether its engine answers or not
    document: dict[str, Any] | None = orjson.loads(found.hits[0].body) if found.hits else None
    return document


async def _get_docs(call: Call) -> Answer:
    root = call.scope.get("root_path", "")
    page = render_console(title=f"{call.path['api']} API", spec=f"{root}/openapi.json", assets=f"{root}/docs/assets")
    return Answer(page, media=HTML)


async def _lead_to_docs(call: Call) -> Answer:
    target = f"{call.scope.get('root_path', '')}/docs"
    return Answer(b"", 307, headers=[(b"location", target.encode("latin-1", "replace"))])


async def _get_by_parameter(call: Call) -> Answer:
    """Answer GET /{type}?id=x; without an id this refuses as every missing parameter is."""
    options = await call.read_options("annotation_get")
    return await get_document(call, options["id"])


_BELOW_TYPE = frozenset({"query", "metadata", "metadata/fields"})
_GET: dict[str, Route] = {
    "": _lead_to_docs,
    "status": get_status,
    "metadata": get_metadata,
    "metadata/fields": get_fields,
    "spec": _get_spec,
    "openapi.json": _get_spec,
    "docs": _get_docs,
    "query": get_query,
    "{type}": _get_by_parameter,
}
_POST: dict[str, Route] = {"query": post_query, "{type}": post_documents}
FIXED_PATHS = frozenset(_GET) | frozenset(_POST)
"""The paths below an API that do not depend on its documents."""
