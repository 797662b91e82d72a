"""What a connection may cost: how long a client may take to send its request and to read the answer, and how many there are.

uvicorn closes a connection that is idle after an answer. One that never sends its request, sends half of it, or does not read
the answer stays open there for ever, so this protocol watches each connection once a second.
"""

import asyncio
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from sourcebook.settings import Settings
from sourcebook_api.query.errors import QueryError

MAX_URL_BYTES = 64_000  # what uvicorn's parser can hold is little more
MAX_HEAD_BYTES = 128_000
_MAX_HEAD_SECONDS = 10.0
_WATCH_SECONDS = 1.0
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a client may take to send the head of a request, and all of it; how many connections may be open at once."""

    head_seconds: float
    request_seconds: float
    connections: int


def limit_connections(settings: Settings) -> Callable[..., "BoundedHttp"]:
    """Return what uvicorn is to make of each new connection."""
    seconds = settings.request_timeout.total_seconds()
    limits = ConnectionLimits(min(seconds / 3, _MAX_HEAD_SECONDS), seconds, settings.max_connections)
    return functools.partial(BoundedHttp, limits=limits)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol, within limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._number = next(_numbers)
        self._began: float | None = None  # when the request that is being read was begun, or waited for
        self._in_head = True
        self._head_bytes = 0
        self._unsent, self._unsent_since = 0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._began = self.loop.time()
        if len(self.connections) > self._limits.connections and not self._make_room():
            self._refuse(503, f"All {self._limits.connections} connections are in use. Try again later.")
            return
        self._watch_later()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(*_judge_head(self.url))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._began = self.loop.time()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.url) <= MAX_URL_BYTES and self._head_bytes <= MAX_HEAD_BYTES:
            super().on_headers_complete()
            return
        # A body may be among these bytes, so the head has to be measured.
        head_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if len(self.url) > MAX_URL_BYTES or head_bytes > MAX_HEAD_BYTES:
            app, self.app = self.app, cast("Any", _Refusal(*_judge_head(self.url)))
            self.url = b"/"
            super().on_headers_complete()
            self.app = app
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._began = None
        self._head_bytes = 0
        self._in_head = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def is_waiting(self) -> bool:
        """Whether nothing is being worked out for this connection: it is idle, or its request is not complete."""
        return self._began is not None or self.cycle is None or self.cycle.response_complete

    def age_key(self) -> tuple[float, int]:
        """Return what sorts waiting connections, the first to go first; one that served its client already goes last."""
        return (self._began if self._began is not None else math.inf, self._number)

    def _make_room(self) -> bool:
        """Close one waiting connection, the oldest of the address that has most; return whether there was any."""
        others = [item for item in self.connections if isinstance(item, BoundedHttp) and item is not self]
        open_by_address = Counter(item.client[0] if item.client else "" for item in others)
        waiting = [item for item in others if item.is_waiting() and not item.transport.is_closing()]
        if not waiting:
            return False
        victim = min(
            waiting, key=lambda item: (-open_by_address[item.client[0] if item.client else ""], item.age_key())
        )
        victim.transport.abort()
        return True

    def _watch_later(self) -> None:
        self.loop.call_later(min(_WATCH_SECONDS, self._limits.head_seconds / 4), self._watch)

    def _watch(self) -> None:
        if self.transport.is_closing():
            # What the client does not read any more must not keep the socket.
            if self._is_stalled():
                self.transport.abort()
                return
        elif self._began is not None and not self.pipeline:
            limit = self._limits.head_seconds if self._in_head else self._limits.request_seconds
            if self.loop.time() - self._began > limit:
                self._time_out(limit)
        elif self._is_stalled():
            self.transport.abort()
            return
        if self.parser is not None:  # uvicorn drops it when the connection is gone
            self._watch_later()

    def _is_stalled(self) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent or not self._unsent:
            self._unsent_since = self.loop.time()
        self._unsent = unsent
        return unsent > 0 and self.loop.time() - self._unsent_since > self._limits.request_seconds

    def _time_out(self, limit: float) -> None:
        if self._head_bytes == 0:
            self.transport.close()  # nobody asked anything
        else:
            self._refuse(408, f"The request was not complete after {limit:g} seconds.")

    def _refuse(self, status: int, details: str) -> None:
        """Answer without the app, and close. Whoever works on the request already sees that the client is gone."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            refusal = _Refusal(status, details)
            headers = [*self.server_state.default_headers, *refusal.headers, (b"connection", b"close")]
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + refusal.body)
        self._began = None
        self.transport.close()


class _Refusal:
    """Answers every request alike, as the query API says no."""

    def __init__(self, status: int, details: str) -> None:
        self.status = status
        self.body = orjson.dumps(QueryError(status, details=details).body)
        self.headers = [
            (b"content-type", b"application/json; charset=UTF-8"),
            (b"content-length", b"%d" % len(self.body)),
            (b"access-control-allow-origin", b"*"),
        ]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


def _judge_head(url: bytes) -> tuple[int, str]:
    if len(url) > MAX_URL_BYTES:
        return 414, f"The URL has more than {MAX_URL_BYTES} bytes: send the request as a POST."
    return 431, f"The headers have more than {MAX_HEAD_BYTES} bytes."
