"""How the query API says no: one exception with its body, and the one function that turns any error into an answer."""

import traceback
from collections.abc import Iterable
from typing import Any

from sourcebook.errors import (
    EngineUnavailable,
    IndexOutdated,
    NotFound,
    QuerySyntaxError,
    SourcebookError,
    StoreDamaged,
)
from sourcebook.logging import get_logger

log = get_logger(__name__)

Headers = list[tuple[bytes, bytes]]

TITLES = {
    400: "Bad Request",
    404: "Not Found.",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Payload Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_UNAVAILABLE = 503


class QueryError(Exception):
    """A request that the query API refuses; `extra` is what the contract adds to the body for this case."""

    def __init__(self, status: int = 400, *, headers: Headers | None = None, **extra: Any) -> None:
        super().__init__(extra.get("error", TITLES.get(status, "Error")))
        self.status = status
        self.headers = headers or []
        self.extra = extra

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"code": self.status, "success": False, "error": TITLES.get(self.status, "Error"), **self.extra}


def not_found(**extra: Any) -> QueryError:
    """Return the error for a path, document or API that is not there."""
    return QueryError(404, **extra)


def method_not_allowed(methods: Iterable[str]) -> QueryError:
    """Return the error for a method that a path does not have; `methods` are those that it has."""
    allowed = ", ".join(methods)
    return QueryError(405, headers=[(b"allow", allowed.encode())], details=f"This path takes {allowed}.")


def unreadable_body() -> QueryError:
    """Return the error for a body that is neither JSON nor a form."""
    return QueryError(error="Invalid JSON body.")


def missing(keyword: str, alias: Any) -> QueryError:
    """Return the error for a required parameter that is not given."""
    return QueryError(missing=keyword, **({"alias": alias} if alias else {}))


def value_error(details: str) -> QueryError:
    """Return the error for a value that is well formed but cannot be used."""
    return QueryError(error="ValueError", details=details)


def invalid_jmespath(details: str) -> QueryError:
    """Return the error for a jmespath expression that cannot be compiled or applied."""
    return QueryError(reason="Invalid value for jmespath parameter", keyword="jmespath", details=details)


def translate_error(error: Exception, request_id: str) -> QueryError:
    """Return the answer to any exception; what nobody foresaw is logged with its traceback and says nothing of the inside."""
    match error:
        case QueryError():
            return error
        case QuerySyntaxError():
            return QueryError(error="search_phase_execution_exception", root_cause_line_00=error.message)
        case IndexOutdated():
            return QueryError(
                _UNAVAILABLE,
                code=error.code,
                details="An earlier version wrote the search index of this API, and a new one is being made. Documents are "
                "answered by id meanwhile.",
            )
        case EngineUnavailable():
            log.warning("engine_unavailable", request_id=request_id, message=error.message)
            # The error's own message may name hosts and folders.
            engine = error.details.get("engine", "The search engine")
            return QueryError(_UNAVAILABLE, details=f"{engine} does not answer, or not in time. Try again later.")
        case StoreDamaged():
            log.error("store_damaged", request_id=request_id, message=error.message, **error.details)
            return QueryError(
                _UNAVAILABLE,
                code=error.code,
                details="What is stored of this API is damaged. Whoever runs it has to build it again or restore a backup.",
            )
        case NotFound():
            return not_found()
        case SourcebookError() if error.status < 500:  # noqa: PLR2004 - the client's errors
            return QueryError(error.status, details=error.message)
        case _:
            log.error("unexpected_error", request_id=request_id, traceback="".join(traceback.format_exception(error)))
            return QueryError(500, request_id=request_id)
