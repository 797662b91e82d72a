"""`make test-engines` fails where an engine does not come up, and goes on where its programs are not there."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import run_engines
from support.maven import ServerMissing


def start_sleeper(_folder: Path) -> tuple[str, "subprocess.Popen[bytes]"]:
    return "mongodb://there/", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def start_nothing(_folder: Path) -> tuple[str, "subprocess.Popen[bytes]"]:
    raise ServerMissing("Maven is not on this machine")


def start_broken(_folder: Path) -> tuple[str, "subprocess.Popen[bytes]"]:
    raise RuntimeError("it did not start")


@pytest.fixture(autouse=True)
def _two_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = {"First": ("FIRST_URL", "first"), "Second": ("SECOND_URL", "second")}
    monkeypatch.setattr(run_engines, "SERVERS", servers)


def start(monkeypatch: pytest.MonkeyPatch, folder: Path, **starters: object) -> dict[str, str]:
    monkeypatch.setattr(run_engines, "load_reference", starters.__getitem__)
    with ExitStack() as stack:
        return run_engines.start_servers(stack, folder)


def test_an_engine_that_does_not_come_up_fails_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        start(monkeypatch, tmp_path, first=start_sleeper, second=start_broken)


def test_an_engine_whose_programs_are_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = start(monkeypatch, tmp_path, first=start_nothing, second=start_sleeper)
    assert urls == {"SECOND_URL": "mongodb://there/"}
    assert "First: not tested: Maven is not on this machine" in capsys.readouterr().out
