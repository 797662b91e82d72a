"""The program itself: settings, HOME, help, and what nobody foresaw."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sourcebook import __version__
from sourcebook.cli import status
from sourcebook.cli.app import COMMANDS, make_command

from .conftest import Sourcebook, write_plugin

MODULE = [sys.executable, "-m", "sourcebook.cli"]
SLOW = {"rich", "pydantic", "structlog", "asyncio", "yaml", "prometheus_client"}
HEAVY = {"celery", "kombu", "redis", "httpx", "fastapi", "uvicorn"}


def test_version_and_help(sourcebook: Sourcebook) -> None:
    assert sourcebook("--version").out == f"sourcebook {__version__}\n"
    shown = sourcebook("--help")
    assert shown.status == 0
    assert "Turn data sources into searchable APIs." in shown.out


@pytest.mark.parametrize("module", ["sourcebook.cli.app", "typer", "sourcebook.cli.status", "pydantic"])
def test_ctrl_c_while_code_is_loaded_is_quiet(home: Path, module: str) -> None:
    del home
    code = f"""
import importlib.abc, os, signal, sys
class PressCtrlC(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, PressCtrlC())
from sourcebook.cli import main
sys.argv = ["sourcebook", "status"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_load_what_they_need_only(home: Path, option: str) -> None:
    del home
    code = (
        f"import sys; from sourcebook.cli.app import main; sys.argv = ['sourcebook', {option!r}]\n"
        f"try: main()\nexcept SystemExit: pass\nsys.exit(','.join({(HEAVY | SLOW)!r} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_table_can_be_loaded() -> None:
    command = make_command()
    for name, (_, about) in COMMANDS.items():
        loaded = command.commands[name]
        assert (loaded.name, about[-1:]) == (name, ".")
        assert loaded.callback or loaded.commands


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SOURCEBOOK_PORT", "x", "SOURCEBOOK_PORT='x'"),
        ("SOURCEBOOK_PROT", "1", "did you mean SOURCEBOOK_PORT?"),
        ("SOURCEBOOK_HOME", "/proc/nowhere", "The folder /proc/nowhere cannot hold the data"),
        ("SOURCEBOOK_HOME", __file__, "cannot hold the data"),
        ("SOURCEBOOK_DOCUMENTS_URL", "ftp:", "known are lmdb:"),
    ],
    ids=["value", "name", "home that cannot be made", "home that is a file", "scheme"],
)
def test_a_wrong_setting_is_named(
    sourcebook: Sourcebook, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    ended = sourcebook("status")
    assert (ended.status, message in ended.err, ended.out) == (2, True, ""), ended


def test_what_nobody_foresaw_is_one_line_and_a_traceback_on_demand(
    sourcebook: Sourcebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        message = "[odd]"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(status, "run_command", fail)
    ended = sourcebook("status")
    assert (ended.status, len(ended.err.splitlines())) == (1, 1)
    assert "ZeroDivisionError('[odd]')" in ended.err
    monkeypatch.setenv("SOURCEBOOK_LOG_LEVEL", "DEBUG")
    with pytest.raises(ZeroDivisionError):
        sourcebook("status")


def test_commands_that_send_no_job_load_no_server_and_no_broker(home: Path) -> None:
    code = (
        "import sys; from sourcebook.cli.app import main; sys.argv = ['sourcebook', 'status']\n"
        f"try: main()\nexcept SystemExit: pass\nsys.exit(','.join({HEAVY!r} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"home    {home}" in done.stdout


@pytest.mark.parametrize("damage", ["other file", "torn page"])
def test_a_damaged_state_store_is_named(served: Sourcebook, home: Path, damage: str) -> None:
    state = home / "catalog.sqlite"
    content = state.read_bytes()
    state.write_bytes(b"no database" * 100 if damage == "other file" else content[:4096] + os.urandom(len(content)))
    for command in ("status", "up"):
        ended = served(command)
        assert ended.status == 4, ended
        assert "[store_damaged]" in ended.err
        assert str(state) in ended.err


def test_a_home_with_spaces_and_a_very_long_path_works(
    sourcebook: Sourcebook, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCEBOOK_HOME", str(tmp_path / "a b" / ("x" * 120) / "home"))
    assert sourcebook("run", str(plugin), "--no-serve").status == 0
    assert sourcebook("status", "--json").json["apis"][0]["name"] == "fruit"


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "TERM"])
def test_an_interrupted_run_ends_its_job_and_its_processes(
    home: Path, tmp_path: Path, number: signal.Signals, expected: int
) -> None:
    slow = write_plugin(tmp_path / "slow")
    (slow / "parser.py").write_text(
        "import pathlib, os, time\n"
        "def load_data(folder):\n"
        "    pathlib.Path(__file__).with_name('pid').write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "    yield {'_id': '1'}\n"
    )
    with subprocess.Popen([*MODULE, "run", str(slow)], stderr=subprocess.PIPE, text=True) as process:
        wait_for(slow / "pid")
        process.send_signal(number)
        _, message = process.communicate(timeout=20)
    assert process.returncode == expected
    assert "Traceback" not in message
    assert not is_alive(int((slow / "pid").read_text()))
    done = subprocess.run(
        [*MODULE, "jobs", "--state", "cancelled"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "upload" in done.stdout
    assert list((home / "scratch").iterdir()) == []


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
