"""What the gateway knows of every request: its id, who asks, and the limit of its body."""

import re
import secrets
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sourcebook.hub.access.model import ANONYMOUS, Caller
from sourcebook.logging import bind_log_context

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_ENCODINGS = frozenset({b"identity", b"gzip", b"x-gzip"})
_GZIP = 16 + zlib.MAX_WBITS
_KEY = "sourcebook.request_id"


def request_id(scope: Scope) -> str:
    """Return the id of a request: the client's `X-Request-ID` if it is harmless, else a new one; the same at every call."""
    known: str | None = scope.get(_KEY)
    if known is None:
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        known = given.decode() if _SAFE_ID.match(given) else secrets.token_hex(8)
        scope[_KEY] = known
    return known


def find_caller(_scope: Scope) -> Caller:
    """Return who sends a request. There are no accounts yet, so nobody is known."""
    return ANONYMOUS


def bind_request(scope: Scope) -> AbstractContextManager[None]:
    """Return a context manager that names the request and its caller in every log line inside it."""
    return bind_log_context(request_id=request_id(scope), caller=str(find_caller(scope)))


@dataclass(frozen=True, slots=True)
class RefusedBody:
    """Why a request body is not read: the HTTP status, and what to tell the client."""

    status: int
    message: str
    details: dict[str, Any] = field(default_factory=dict)


class BodyLimit:
    """Refuses bodies above a size, whether the size is announced or the body comes in chunks, and unpacks gzip within it."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, refuse: Callable[[Scope, RefusedBody], ASGIApp]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced, encoding = headers.get(b"content-length"), headers.get(b"content-encoding", b"identity").lower()
        if encoding not in _ENCODINGS:
            message = f"The body is encoded as {encoding.decode('latin-1')!r}: send it as gzip or as it is."
            await self._refuse(scope, RefusedBody(415, message))(scope, receive, send)
        elif announced is not None and (not announced.isdigit() or int(announced) > self._max_bytes):
            await self._refuse(scope, self._too_large())(scope, receive, send)
        elif announced is not None and encoding == b"identity":
            await self._app(scope, receive, send)  # the server reads no more than what is announced
        else:
            await self._buffer(scope, receive, send, is_packed=encoding != b"identity")

    async def _buffer(self, scope: Scope, receive: Receive, send: Send, *, is_packed: bool) -> None:
        body = await self._read(receive)
        if isinstance(body, bytes) and is_packed:
            # A few megabytes at most, which takes about ten milliseconds.
            body = _unpack(body, self._max_bytes) or self._too_large()
            names = (b"content-encoding", b"content-length")
            headers = [(name, value) for name, value in scope["headers"] if name not in names]
            if isinstance(body, bytes):
                scope = {**scope, "headers": [*headers, (b"content-length", b"%d" % len(body))]}
        if isinstance(body, RefusedBody):
            await self._refuse(scope, body)(scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | RefusedBody:
        chunks: list[bytes] = []
        total = 0
        while True:
            message = await receive()
            chunks.append(message.get("body", b""))
            total += len(chunks[-1])
            if total > self._max_bytes:
                return self._too_large()
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> RefusedBody:
        message = f"The request body is larger than {self._max_bytes} bytes (SOURCEBOOK_REQUEST_MAX_BYTES)."
        return RefusedBody(413, message, {"max_bytes": self._max_bytes})


def _unpack(packed: bytes, max_bytes: int) -> bytes | RefusedBody | None:
    """Return what a gzip body unpacks to; None if that is more than is allowed."""
    unpacked, rest = b"", packed
    try:
        while rest:  # a file may have several members
            member = zlib.decompressobj(_GZIP)
            unpacked += member.decompress(rest, max_bytes + 1 - len(unpacked))
            if len(unpacked) > max_bytes:
                return None
            if not member.eof:
                return RefusedBody(400, "The gzip body is cut short.")
            rest = member.unused_data
    except zlib.error:
        return RefusedBody(400, "The body is announced as gzip and is not.")
    return unpacked
