"""What a route leads to, and what all answers have in common (docs/contracts/query-api.md, section 1)."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, NotFound
from sourcebook_api.query.answer import Answer, is_unchanged, make_etag, not_modified, refusal, send_answer
from sourcebook_api.query.call import Call, Lanes
from sourcebook_api.query.encode import choose_format
from sourcebook_api.query.errors import QueryError, method_not_allowed, not_found, translate_error
from sourcebook_api.query.releases import Releases
from sourcebook_api.requests import request_id

QueryHandler = Callable[[Call], Awaitable[Answer]]

_OK, _METHOD_NOT_ALLOWED = 200, 405
_ANY = b"*"


class Endpoint:
    """Answers the requests of one route. A `type` in its path has to be the release's document type."""

    def __init__(
        self,
        service: "Service",
        *,
        get: QueryHandler | None = None,
        post: QueryHandler | None = None,
        has_etag: bool = True,
    ) -> None:
        self._service = service
        found = {"GET": get, "HEAD": get, "POST": post}
        self._handlers = {method: handler for method, handler in found.items() if handler is not None}
        self._has_etag = has_etag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        # One place turns whatever happened into an answer; translate_error logs what nobody foresaw.
        except Exception as error:  # noqa: BLE001
            answer = _refuse(error, scope)
        await send_answer(answer, scope, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] == "OPTIONS":
            return Answer(b"", 204)
        call = await self._service.open_call(scope, receive)
        opened, etag, known = call.opened, None, _read_preferences(call)
        if self._has_etag and scope["method"] != "POST" and not _may_vary(scope["query_string"]):
            etag = make_etag(opened.release.name, scope, call.accepts)
            if known and is_unchanged(known, etag):
                return not_modified(etag, opened.max_age)
        answer = await self._carry_out(call)
        if etag is not None and known.strip() == _ANY and answer.status == _OK and answer.repeatable:
            return not_modified(etag, opened.max_age)
        if answer.repeatable:
            answer.max_age = opened.max_age
            answer.etag = etag if answer.status == _OK else None
        return answer

    async def _carry_out(self, call: Call) -> Answer:
        try:
            return await self._choose(call.scope, call.opened.release.doc_type)(call)
        except QueryError as error:
            answer = refusal(error)
            answer.repeatable = not _is_walk(call.scope["query_string"])
            return answer
        except NotFound as error:
            # The release was removed between the look at the state and the look at its data.
            raise EngineUnavailable(error.message) from error

    def _choose(self, scope: Scope, doc_type: str) -> QueryHandler:
        if scope["path_params"].get("type", doc_type) != doc_type:
            raise not_found()
        handler = self._handlers.get(scope["method"])
        if handler is None:
            raise method_not_allowed((*self._handlers, "OPTIONS"))
        return handler


class Service:
    """What endpoints answer from. `api` fixes the name; without it the name is the path parameter `name` of the mount."""

    def __init__(self, get_context: Callable[[], Context], api: str | None) -> None:
        self._get_context = get_context
        self._api = api
        self._releases: Releases | None = None
        self._lanes: Lanes | None = None

    async def open_call(self, scope: Scope, receive: Receive) -> Call:
        """Return the call of a request.

        Raises:
            QueryError: there is no such API, or it has no release.
        """
        context = self._get_context()
        if self._releases is None or self._lanes is None:
            self._releases, self._lanes = Releases(context), Lanes(context)
        api = self._api or scope["path_params"]["name"]
        opened = await self._releases.current(api)
        return Call(context, self._lanes, self._releases, opened, scope, receive, {"api": api})


class AssetEndpoint:
    """Answers with the console's files; what is wrong is JSON here too."""

    def __init__(self, files: ASGIApp) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await send_answer(Answer(b"", 204), scope, send)
            return
        path = scope["path_params"]["path"]
        try:
            await self._files({**scope, "path": path, "root_path": ""}, receive, send)
        except HTTPException as error:  # raised before anything was sent
            not_allowed = error.status_code == _METHOD_NOT_ALLOWED
            refused = method_not_allowed(("GET", "HEAD", "OPTIONS")) if not_allowed else QueryError(error.status_code)
            await send_answer(refusal(refused), scope, send)


def _refuse(error: Exception, scope: Scope) -> Answer:
    return refusal(translate_error(error, request_id(scope)))


def _read_preferences(call: Call) -> bytes:
    """Note the format that the client prefers, and return its `If-None-Match`."""
    known = b""
    for name, value in call.scope["headers"]:
        if name == b"accept":
            call.accepts = choose_format(value)
        elif name == b"if-none-match":
            known = value
    return known


def _may_vary(query_string: bytes) -> bool:
    """Whether an answer may change while the release stays: named queries are configuration, and `now` is the clock."""
    return bool(query_string) and any(name in query_string for name in (b"userquery", b"userfilter", b"now"))


def _is_walk(query_string: bytes) -> bool:
    return any(name in query_string for name in (b"scroll_id", b"fetch_all", b"search_after"))
