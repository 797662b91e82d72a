"""Discovery of plugin folders."""

import logging
from pathlib import Path

import pytest

from sourcebook.sdk.plugins import find_plugins


def make(folder: Path, name: str = "manifest.json") -> Path:
    folder.mkdir(parents=True)
    (folder / name).touch()
    return folder


def test_plugins_are_the_subfolders_with_a_manifest(tmp_path: Path) -> None:
    b, a = make(tmp_path / "b", "manifest.yaml"), make(tmp_path / "a")
    make(tmp_path / ".hidden")
    (tmp_path / "no_plugin").mkdir()
    (tmp_path / "file").touch()
    assert find_plugins([tmp_path]) == [a, b]


def test_a_folder_with_a_manifest_is_a_plugin_itself(tmp_path: Path) -> None:
    plugin = make(tmp_path / "a")
    make(plugin / "inner")
    assert find_plugins([plugin]) == [plugin]


def test_a_folder_that_is_not_there_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin = make(tmp_path / "plugins" / "a")
    with caplog.at_level(logging.WARNING):
        assert find_plugins([tmp_path / "nothing", tmp_path / "plugins"]) == [plugin]
    assert "nothing" in caplog.text
