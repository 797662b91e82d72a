"""What a worker answers to Prometheus and to probes: /metrics, /health/live and /health/ready on a port of its own."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from sourcebook.backends import open_bus
from sourcebook.errors import EngineUnavailable, PortBusy
from sourcebook.flow.stages import BEAT_QUEUE, QUEUES
from sourcebook.metrics import CONTENT_TYPE, make_gauge, render_metrics, share_between_processes
from sourcebook.settings import Settings

BEAT_SECONDS = 1.0
_SILENT_SECONDS = 15.0  # a worker whose loop has not turned for so long is not connected to its broker
_LATE_SECONDS = 30.0  # beat looks after jobs every five seconds: it has missed six turns
_REQUEST_SECONDS = 10.0
_BROKER_PATIENCE = timedelta(seconds=1)


class WorkerProbes:
    """The answers of one worker; its main process calls `beat` at every turn of its loop."""

    def __init__(self, settings: Settings, queue: str, folder: Path) -> None:
        self._settings = settings
        self._is_clock = queue == BEAT_QUEUE
        self._queues = QUEUES if self._is_clock else (queue,)
        self._folder = folder
        self._beaten: float | None = None
        self._ticked: float | None = None

    def beat(self) -> None:
        """Note that the worker is connected and takes jobs."""
        self._beaten = time.monotonic()

    def tick(self) -> None:
        """Note that what happens by itself has happened."""
        self._ticked = time.time()

    @property
    def is_ready(self) -> bool:
        """Whether the worker took part in the broker's traffic lately; beat also did lately what it is there for."""
        is_connected = self._beaten is not None and time.monotonic() - self._beaten < _SILENT_SECONDS
        is_ticking = self._ticked is not None and time.time() - self._ticked < _LATE_SECONDS
        return is_connected and (is_ticking or not self._is_clock)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        status, media, body = self._answer(environ.get("PATH_INFO", ""))
        start_response(status, [("Content-Type", media), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, path: str) -> tuple[str, str, bytes]:
        match path:
            case "/metrics":
                return "200 OK", CONTENT_TYPE, self._render()
            case "/health/live":
                return "200 OK", "application/json", b'{"status":"live"}'
            case "/health/ready" if self.is_ready:
                return "200 OK", "application/json", b'{"status":"ready"}'
            case "/health/ready":
                return "503 Service Unavailable", "application/json", b'{"status":"not ready"}'
            case _:
                return "404 Not Found", "application/json", b'{"code":"not_found"}'

    def _render(self) -> bytes:
        # A broker that is away is no reason to hide what the jobs did.
        lengths: dict[str, int] = {}
        with contextlib.suppress(EngineUnavailable):
            lengths = asyncio.run(_read_lengths(self._settings))
        readings = [((queue,), lengths[queue]) for queue in self._queues if queue in lengths]
        ticks = [] if self._ticked is None else [((), self._ticked)]
        gauges = [make_gauge("sourcebook_queue_length", readings), make_gauge("sourcebook_beat_tick_seconds", ticks)]
        return render_metrics(gauges, self._folder)


async def _read_lengths(settings: Settings) -> dict[str, int]:
    bus = await open_bus(settings.model_copy(update={"engine_patience": _BROKER_PATIENCE}))
    try:
        return await bus.lengths()
    finally:
        await bus.close()


@contextlib.contextmanager
def serve_probes(settings: Settings, queue: str) -> Iterator[tuple[WorkerProbes, Callable[[], None]]]:
    """Listen on SOURCEBOOK_METRICS_PORT; yield the probes, and the function that begins to answer.

    Call that function once the worker's processes are forked: a fork copies no thread, but the locks that it holds.

    Raises:
        PortBusy: another program listens on the port.
    """
    folder = Path(tempfile.mkdtemp(prefix="sourcebook-metrics-"))
    share_between_processes(folder)
    probes = WorkerProbes(settings, queue, folder)
    server = _listen(settings, probes)
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="probes")
    try:
        yield probes, thread.start
    finally:
        if thread.is_alive():
            server.shutdown()
        server.server_close()
        shutil.rmtree(folder, ignore_errors=True)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The original asks the name service for this machine's name, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def log_message(self, *_: Any) -> None:
        """Say nothing: probes come every few seconds."""


def _listen(settings: Settings, app: WorkerProbes) -> WSGIServer:
    host, port = settings.metrics_host, settings.metrics_port
    kind = _Server6 if ":" in host else _Server
    try:
        return make_server(host, port, app, server_class=kind, handler_class=_QuietHandler)
    except OSError as error:
        raise PortBusy(
            f"A worker cannot answer on {host}:{port} ({error.strerror}). Choose another SOURCEBOOK_METRICS_PORT, or 0 for none.",
            host=host,
            port=port,
        ) from error
