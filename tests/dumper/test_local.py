"""Files of this machine and of the plugin."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import DownloadRefused, ManifestError
from sourcebook_dumper.fetchers.partial import PartialFile

if TYPE_CHECKING:
    from pathlib import Path

    from support.downloads import DumpBench

JANUARY_2024 = 1_704_200_000


def test_a_file_of_the_plugin_is_copied_and_dated(bench: DumpBench) -> None:
    (bench.plugin / "data").mkdir()
    (bench.plugin / "data" / "a.tsv").write_bytes(b"one\n")
    os.utime(bench.plugin / "data" / "a.tsv", (JANUARY_2024, JANUARY_2024))
    bench.write("data/a.tsv")
    assert bench.dump().version == "2024-01-02"
    assert bench.content() == {"a.tsv": b"one\n"}
    assert bench.dump().unchanged


def test_a_file_url_names_a_file_of_this_machine(bench: DumpBench, tmp_path: Path) -> None:
    (tmp_path / "a b.tsv").write_bytes(b"one\n")
    bench.write(f"file://{tmp_path}/a%20b.tsv")
    bench.dump()
    assert bench.content() == {"a b.tsv": b"one\n"}


def test_a_path_out_of_the_plugin_is_refused(bench: DumpBench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (bench.plugin / "link").symlink_to(tmp_path / "secret")
    for url in ("../../secret", "link", "data/../../../secret"):
        bench.write(url)
        with pytest.raises(ManifestError, match="leads out of the plugin"):
            bench.dump()


def test_a_missing_file_is_refused_with_a_hint_about_schemes(bench: DumpBench) -> None:
    bench.write("ftp.example.org/pub/a.tsv")
    with pytest.raises(DownloadRefused, match="needs its scheme"):
        bench.dump()


def test_a_folder_is_refused(bench: DumpBench, tmp_path: Path) -> None:
    bench.write(f"file://{tmp_path}")
    with pytest.raises(DownloadRefused, match="folder"):
        bench.dump()


@pytest.mark.parametrize("url", ["file://host/a.tsv", "file:a.tsv", "file:///a%00b"])
def test_a_file_url_of_another_form_is_refused(bench: DumpBench, url: str) -> None:
    bench.write(url)
    with pytest.raises(ManifestError, match="file:///"):
        bench.dump()


def test_a_file_that_is_written_to_while_it_is_copied_is_copied_again(
    bench: DumpBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bench.plugin / "a.tsv"
    file.write_bytes(b"half")
    write = PartialFile.write

    def write_and_go_on(part: PartialFile, chunk: bytes) -> None:
        write(part, chunk)
        if chunk == b"half":
            file.write_bytes(b"whole")

    monkeypatch.setattr(PartialFile, "write", write_and_go_on)
    bench.write("a.tsv")
    bench.dump()
    assert bench.content() == {"a.tsv": b"whole"}
