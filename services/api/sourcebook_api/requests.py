"""What the gateway knows of every request: its id, and the limit of its body."""

import re
import secrets
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_KEY = "sourcebook.request_id"


def request_id(scope: Scope) -> str:
    """Return the id of a request: the client's `X-Request-ID` if it is harmless, else a new one; the same at every call."""
    known: str | None = scope.get(_KEY)
    if known is None:
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        known = given.decode() if _SAFE_ID.match(given) else secrets.token_hex(8)
        scope[_KEY] = known
    return known


class BodyLimit:
    """Refuses bodies above a size, whether the size is announced or the body comes in chunks."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, refuse: Callable[[Scope, int], ASGIApp]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length")
        if announced is not None:
            # The server reads no more than what is announced.
            too_large = not announced.isdigit() or int(announced) > self._max_bytes
            target = self._refuse(scope, self._max_bytes) if too_large else self._app
            await target(scope, receive, send)
            return
        messages = await self._read(receive)
        if messages is None:
            await self._refuse(scope, self._max_bytes)(scope, receive, send)
            return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> list[Message] | None:
        messages: list[Message] = []
        total = 0
        while True:
            message = await receive()
            messages.append(message)
            total += len(message.get("body", b""))
            if total > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return messages
