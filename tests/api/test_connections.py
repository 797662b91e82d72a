"""Connections that cost without asking: half-sent, idle, unread, too many, with heads without end. Raw sockets throughout."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from sourcebook.settings import Settings
from sourcebook_api.connections import MAX_URL_BYTES, limit_connections

PATIENCE = 20  # seconds that a test waits for what should come in less than one
LARGE = b"x" * 50_000_000  # more than the buffers of two sockets hold


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body; `/large` with more than a socket takes at once."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    body = LARGE if scope["path"] == "/large" else b"%d" % length
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serve(settings: Settings) -> Iterator["_Connections"]:
    """Serve `echo` in a thread; calling what this gives connects to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener, _Connections(listener.getsockname()) as connections:
        protocol: Any = limit_connections(settings)
        server = uvicorn.Server(
            uvicorn.Config(echo, lifespan="off", log_config=None, http=protocol, ws="none", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            connections.server = server
            yield connections
        finally:
            server.should_exit = True
            thread.join()


class _Connections:
    """Sockets that are closed together, and the server that they lead to."""

    server: uvicorn.Server

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for item in self._open:
            item.close()

    def __call__(self) -> socket.socket:
        """Return a new connection."""
        self._open.append(socket.create_connection(self._address, timeout=PATIENCE))
        return self._open[-1]

    def wait_until_none_is_open(self) -> bool:
        """Whether the server closes every connection while a test waits."""
        pause = threading.Event()
        for _ in range(PATIENCE * 20):
            if not self.server.server_state.connections:
                return True
            pause.wait(0.05)
        return False


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    chunks = []
    with suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 20):
            chunks.append(chunk)
    return b"".join(chunks)


def read_answer(raw: bytes) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of an answer that ended with its connection."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
def impatient(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, request_timeout="0.6")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET /endless",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["headers", "request line", "body", "chunks"],
)
def test_a_request_that_is_half_sent_ends_with_its_reason(impatient: Settings, sent: bytes) -> None:
    with serve(impatient) as connect:
        connection = connect()
        connection.sendall(sent)
        status, body = read_answer(read_all(connection))
    assert (status, body["code"], body["error"]) == (408, 408, "Request Timeout")
    assert "not complete after" in body["details"]


def test_a_connection_without_a_request_is_closed(impatient: Settings) -> None:
    with serve(impatient) as connect:
        assert [read_all(connection) for connection in [connect() for _ in range(20)]] == [b""] * 20


def test_the_second_request_of_a_connection_has_to_come_whole_too(impatient: Settings) -> None:
    with serve(impatient) as connect:
        connection = connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET / HTT")
        assert b"408" in read_all(connection)


def test_an_answer_that_nobody_reads_is_given_up(impatient: Settings) -> None:
    with serve(impatient) as connect:
        connection = connect()
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert connect.wait_until_none_is_open()
        assert len(read_all(connection)) < len(LARGE)


def test_slow_but_steady_clients_are_served(tmp_path: Path) -> None:
    with serve(Settings(home=tmp_path)) as connect:
        connection = connect()
        for byte in b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc":
            connection.sendall(bytes([byte]))
        assert read_all(connection).endswith(b"\r\n\r\n3")


def test_connections_that_wait_make_room_for_one_that_asks(tmp_path: Path) -> None:
    with serve(Settings(home=tmp_path, max_connections=5)) as connect:
        silent = [connect() for _ in range(40)]
        silent[-1].sendall(b"GET / HTTP/1.1\r\n")
        asking = connect()
        asking.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(asking).startswith(b"HTTP/1.1 200")
        assert [read_all(connection) for connection in silent[:35]] == [b""] * 35


@pytest.mark.parametrize("excess", [1, MAX_URL_BYTES, 8 * MAX_URL_BYTES], ids=["just over", "twice", "much more"])
def test_a_url_over_the_limit_is_refused_as_json(tmp_path: Path, excess: int) -> None:
    with serve(Settings(home=tmp_path)) as connect:
        connection = connect()
        url = b"/" + b"u" * (MAX_URL_BYTES + excess)
        with suppress(ConnectionError):
            connection.sendall(b"GET " + url + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        status, body = read_answer(read_all(connection))
    assert (status, body["code"], body["error"]) == (414, 414, "URI Too Long")


def test_a_url_at_the_limit_and_a_large_body_pass(tmp_path: Path) -> None:
    with serve(Settings(home=tmp_path)) as connect:
        connection = connect()
        url = b"/" + b"u" * (MAX_URL_BYTES - 1)
        head = b"POST " + url + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head + b"b" * 1_000_000)
        assert read_all(connection).endswith(b"\r\n\r\n1000000")


def test_headers_without_end_are_refused_as_json(tmp_path: Path) -> None:
    with serve(Settings(home=tmp_path)) as connect:
        for headers in (b"A: " + b"h" * 200_000 + b"\r\n\r\n", b"A: b\r\n" * 100_000):
            connection = connect()
            with suppress(ConnectionError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers)
            raw = read_all(connection)
            assert not raw or read_answer(raw)[0] == 431


def test_what_is_no_http_is_refused_as_json(tmp_path: Path) -> None:
    with serve(Settings(home=tmp_path)) as connect:
        connection = connect()
        connection.sendall(b"no http at all\r\n\r\n")
        status, body = read_answer(read_all(connection))
    assert (status, body["error"]) == (400, "Bad Request")
