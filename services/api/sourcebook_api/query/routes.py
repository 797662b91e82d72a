"""The routes of the query API: which function answers which path (docs/contracts/query-api.md, section 1).

The first route is that of documents by id: nearly all requests are for one, and Starlette tries routes in turn. It is found in
5 microseconds that way; behind the others it took 14. A request takes 30 in all here, and 150 with the server around it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, NotFound
from sourcebook.language.requests import SearchRequest
from sourcebook_api.console import open_assets, render_console
from sourcebook_api.query.annotation import get_document, post_documents
from sourcebook_api.query.answer import HTML, Answer
from sourcebook_api.query.call import Call
from sourcebook_api.query.endpoint import AssetEndpoint, Endpoint, Service
from sourcebook_api.query.errors import QueryError, not_found
from sourcebook_api.query.examples import Examples
from sourcebook_api.query.metadata import get_fields, get_metadata, get_status
from sourcebook_api.query.openapi import describe_api
from sourcebook_api.query.search import get_query, post_query

FIXED_PATHS = frozenset({"", "docs", "metadata", "metadata/fields", "openapi.json", "query", "spec", "status"})
"""The paths below an API that do not depend on its documents."""
_VERSION = "/v1"
_SLASHES = "sourcebook.slashes"
_NOT_FOUND = 404


class _TypeConvertor(Convertor[str]):
    """A document type: what no other route begins with."""

    regex = "(?!(?:v1|docs|metadata)/)[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _IdConvertor(_TypeConvertor):
    """The id of a document: what no other route has behind the type. It may hold slashes."""

    regex = r"(?!(?:query|metadata|metadata/fields)\Z)(?s:.+)"


register_url_convertor("document_type", _TypeConvertor())
register_url_convertor("document_id", _IdConvertor())


class QueryApp:
    """The query API as an ASGI app. `api` fixes the name; without it the name is the path parameter `name` of the mount."""

    def __init__(self, get_context: Callable[[], Context], api: str | None = None) -> None:
        service = Service(get_context, api)
        routes = [
            route
            for pair in zip(_make_routes(service, ""), _make_routes(service, _VERSION), strict=True)
            for route in pair
        ]
        unknown = Endpoint(service, get=_refuse_path, post=_refuse_path)
        self._router = Router(routes, redirect_slashes=False, default=unknown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("path_params", {})
            await self._router(_tidy_path(scope), receive, send)


def _make_routes(service: Service, prefix: str) -> Iterator[Route]:
    below_type = prefix + "/{type:document_type}"
    yield Route(below_type + "/{id:document_id}", Endpoint(service, get=_get_by_path))
    for start in (prefix, below_type):
        yield Route(start + "/query", Endpoint(service, get=get_query, post=post_query))
        yield Route(start + "/metadata", Endpoint(service, get=get_metadata))
        yield Route(start + "/metadata/fields", Endpoint(service, get=get_fields))
    yield Route(prefix + "/status", Endpoint(service, get=get_status, has_etag=False))
    yield Route(prefix + "/spec", Endpoint(service, get=_get_spec))
    yield Route(prefix + "/openapi.json", Endpoint(service, get=_get_spec))
    yield Route(prefix + "/docs", Endpoint(service, get=_get_docs))
    yield Route(prefix + "/docs/assets/{path:path}", AssetEndpoint(open_assets()))
    yield Route(prefix or "/", Endpoint(service, get=_lead_to_docs))
    yield Route(below_type, Endpoint(service, get=_get_by_parameter, post=post_documents))


def _tidy_path(scope: Scope) -> Scope:
    """Return the scope of the path without slashes at its end: `/query/?q=x` is written often.

    A slash that the client wrote as `%2F` belongs to an id and stays. What was taken off is kept, since ids may be URLs.
    """
    root = scope.get("root_path", "")
    rest = scope["path"].removeprefix(root)
    if rest and not rest.endswith("/") and not rest.startswith("//"):
        return scope
    raw = scope.get("raw_path") or rest.encode()
    written = len(raw) - len(raw.rstrip(b"/"))
    kept = rest.lstrip("/")
    kept = kept[: max(len(kept) - written, 0)]
    return {**scope, "path": f"{root}/{kept}", _SLASHES: "/" * written}


async def _refuse_path(_call: Call) -> Answer:
    raise not_found()


async def _get_by_path(call: Call) -> Answer:
    document_id, slashes = call.scope["path_params"]["id"], call.scope.get(_SLASHES, "")
    if slashes:
        try:
            return await get_document(call, document_id + slashes)
        except QueryError as error:
            if error.status != _NOT_FOUND:
                raise
    return await get_document(call, document_id)


async def _get_spec(call: Call) -> Answer:
    release, server = call.opened.release, call.scope.get("root_path", "")
    examples = Examples(release, await _first_document(call))
    return Answer(orjson.dumps(describe_api(release, api=call.path["api"], server=server, examples=examples)))


async def _first_document(call: Call) -> dict[str, Any] | None:
    request = SearchRequest(size=1, in_id_order=True, timeout_seconds=call.timeout_seconds)
    try:
        found = await call.search(request)
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
