"""The one place where an error of the hub becomes an HTTP answer."""

import traceback
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from sourcebook.errors import SourcebookError
from sourcebook.logging import get_logger, hide_secrets_in
from sourcebook_api.query.answer import CORS
from sourcebook_api.query.errors import QueryError
from sourcebook_api.requests import RefusedBody, request_id

log = get_logger(__name__)

_CODES = {
    400: "invalid_request",
    413: "payload_too_large",
    404: "not_found",
    405: "method_not_allowed",
    403: "forbidden",
    415: "unsupported_media_type",
    421: "unknown_host",
}
_BAD_REQUEST = 400
_SERVER_ERROR = 500
_UNSUPPORTED = 415


class ErrorBody(BaseModel):
    """The body of every refusal of the hub; docs/errors.md lists the codes."""

    code: str
    message: str
    details: dict[str, Any]
    request_id: str


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be done; `message` says why and what to do."},
    "5XX": {"model": ErrorBody, "description": "An engine does not answer (503), or a fault of ours (500)."},
}


def error_response(scope: Scope, status: int, code: str, message: str, details: Any = None) -> Response:
    """Return the JSON answer that every refusal of the hub has."""
    identity = request_id(scope)
    told = hide_secrets_in({"message": message, "details": details or {}})
    body = {"code": code, **told, "request_id": identity}
    content = orjson.dumps(body, default=str)
    return Response(content, status, media_type="application/json", headers={"X-Request-ID": identity})


def refuse_body(scope: Scope, refused: RefusedBody) -> Response:
    """Return the answer to a body that is not read, in the shape of the side that was asked: hub or query API."""
    if scope["path"].startswith("/hub"):
        return error_response(scope, refused.status, _CODES[refused.status], refused.message, refused.details)
    body = QueryError(refused.status, details=refused.message).body
    headers = {name.decode(): value.decode() for name, value in CORS}
    if refused.status == _UNSUPPORTED:
        headers["Accept-Encoding"] = "gzip"
    return Response(orjson.dumps(body), refused.status, media_type="application/json", headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Teach the app to answer errors."""
    app.add_exception_handler(SourcebookError, _answer_known)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)


async def _answer_known(request: Request, error: Exception) -> Response:
    if not isinstance(error, SourcebookError) or error.status == _SERVER_ERROR:
        return await _answer_unexpected(request, error)
    if error.status > _SERVER_ERROR:
        log.warning("request_failed", code=error.code, message=error.message, request_id=request_id(request.scope))
    return error_response(request.scope, error.status, error.code, error.message, error.details)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    details = [{"where": ".".join(map(str, item["loc"])), "problem": item["msg"]} for item in problems]
    message = "; ".join(f"{item['where']}: {item['problem']}" for item in details)
    return error_response(request.scope, 422, "invalid_request", message, {"problems": details})


async def _answer_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else _SERVER_ERROR
    detail = error.detail if isinstance(error, HTTPException) else ""
    if status == _BAD_REQUEST:  # FastAPI's word for a body that is not text; other unreadable bodies are 422 too
        return error_response(request.scope, 422, "invalid_request", detail)
    response = error_response(request.scope, status, _CODES.get(status, "http_error"), detail)
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})  # Allow, for one
    return response


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    identity = request_id(request.scope)
    log.error("unexpected_error", request_id=identity, traceback="".join(traceback.format_exception(error)))
    message = f"Something went wrong here; the gateway's log has the reason under request {identity}."
    return error_response(request.scope, _SERVER_ERROR, "internal", message)
