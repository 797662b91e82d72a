"""The command line in this process, on a HOME of the test, with or without something that listens as a broker would."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sourcebook.cli import app, progress, terminal

PARSER = """
import json
from pathlib import Path

def load_data(folder):
    for line in (Path(folder) / "data.ndjson").open():
        yield json.loads(line)
"""


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Sourcebook = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOURCEBOOK_HOME", str(tmp_path / "home"))
    # Nobody listens there: commands that need a broker must say so, whatever runs on this machine.
    monkeypatch.setenv("SOURCEBOOK_BROKER_URL", f"redis+socket://{tmp_path}/nobody.sock")
    return tmp_path / "home"


@pytest.fixture
def sourcebook(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sourcebook:
    """Run a command as a shell would: `sourcebook("jobs", "--json")`."""
    del home

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["sourcebook", *arguments])
        try:
            status = app.main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capfd.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that start jobs put them in a queue of this process, where nobody takes them."""
    run_command = terminal.run_command
    monkeypatch.setattr(progress, "run_command", lambda work, **_: run_command(work, inline=True))


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin `fruit` of three documents."""
    return write_plugin(tmp_path / "fruit")


@pytest.fixture
def served(sourcebook: Sourcebook, plugin: Path) -> Sourcebook:
    """The command line after `run`: a source, a configuration, a build and an API, all named `fruit`."""
    ended = sourcebook("run", str(plugin), "--no-serve")
    assert ended.status == 0, ended.err
    assert "API fruit is ready" in ended.out
    return sourcebook


def write_plugin(folder: Path, **manifest: Any) -> Path:
    folder.mkdir(parents=True)
    sections = {"dumper": {"data_url": "data.ndjson"}, "uploader": {"parser": "parser:load_data"}, **manifest}
    (folder / "manifest.json").write_text(json.dumps(sections))
    (folder / "parser.py").write_text(PARSER)
    lines = [{"_id": name, "grams": grams} for name, grams in (("apple", 180), ("kiwi", 75), ("plum", 66))]
    (folder / "data.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
