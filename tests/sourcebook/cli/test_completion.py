"""The shell completes names that are in HOME, and is told nothing where there are none."""

from pathlib import Path

import pytest

from .conftest import Sourcebook

LINES = {
    "source": "dump fr",
    "upload": "show f",
    "configuration": "build ",
    "api": "serve f",
    "build": "archive fruit_",
    "build or configuration": "release apply fruit",
    "inner command": "config show f",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_names_are_completed(served: Sourcebook, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    _ask(monkeypatch, line)
    assert served().out.split()[0].startswith("fruit")


def test_nothing_is_completed_or_made_where_there_is_no_home(
    sourcebook: Sourcebook, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(monkeypatch, "dump fr")
    ended = sourcebook()
    assert (ended.out.strip(), ended.err, home.exists()) == ("", "", False)


def _ask(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    words = ["sourcebook", *line.split(" ")]
    monkeypatch.setenv("_SOURCEBOOK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
