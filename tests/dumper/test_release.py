"""Which release is the newest."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ParserError

if TYPE_CHECKING:
    from conftest import DumpBench, Site


def test_the_date_of_the_last_url_counts(bench: DumpBench, site: Site) -> None:
    first = site.add("/a.tsv", b"x", headers={"Last-Modified": "Sat, 01 Jun 2024 10:00:00 GMT"})
    bench.write([first, site.add("/b.tsv", b"x")])
    assert bench.dump().release == "2024-01-02"


@pytest.mark.parametrize(("etag", "release"), [('"v1.2"', "v1.2"), ('W/"v1.2"', "v1.2")])
def test_without_a_date_the_etag_counts(bench: DumpBench, site: Site, etag: str, release: str) -> None:
    bench.write(site.add("/a.tsv", b"x", headers={"Last-Modified": "no date", "ETag": etag}))
    assert bench.dump().release == release


def test_without_either_the_release_is_today_with_a_warning(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x", headers={"Last-Modified": None, "ETag": None}))
    assert bench.dump().release == time.strftime("%Y-%m-%d", time.gmtime())
    assert "dumper.release" in bench.warnings[0]


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_server_that_refuses_head_is_asked_with_get(bench: DumpBench, site: Site, status: int) -> None:
    bench.write(site.add("/a.tsv", b"x", head=status))
    assert bench.dump().release == "2024-01-02"


def test_deciding_is_tried_again_and_refused_like_a_download(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 1
    bench.write(site.add("/a.tsv", b"x", head=503, failures=[503, 503]))
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    bench.write(f"{site.url}/nothing.tsv")
    with pytest.raises(DownloadRefused):
        bench.dump()


@pytest.mark.parametrize(
    ("code", "release"),
    [
        ("def get(self): return '2.0'", "2.0"),
        ("def get(self): self.release = ' 2.1 '", "2.1"),
        ("def get(self): return 22", "22"),
        ("def get(self): return self.__class__.SRC_URLS[0].rpartition('/')[2] + self.src_name", "a.tsvbench"),
        ("from helper import VERSION\ndef get(self): print('hello'); return VERSION", "from-helper"),
    ],
    ids=["returned", "set", "number", "attributes", "sibling"],
)
def test_a_function_of_the_plugin_decides(bench: DumpBench, site: Site, code: str, release: str) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code=code)
    (bench.plugin / "helper.py").write_text("VERSION = 'from-helper'")
    assert bench.dump().release == release
    assert bench.dump().unchanged


def test_an_edited_function_takes_effect_at_the_next_dump(bench: DumpBench, site: Site) -> None:
    url = site.add("/a.tsv", b"x")
    for release in ("1", "2", "3"):
        bench.write(url, release="release:get", code=f"def get(self): return '{release}'")
        assert bench.dump().release == release


@pytest.mark.parametrize("value", ["None", "''", "True", "['1']"])
def test_a_function_that_gives_no_release_fails(bench: DumpBench, site: Site, value: str) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code=f"def get(self): return {value}")
    with pytest.raises(ParserError, match="must return the release"):
        bench.dump()


def test_a_release_of_any_form_becomes_a_safe_folder(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code="def get(self): return '../../v 1/ä'")
    message = bench.dump()
    assert message.release == "../../v 1/ä"
    assert bench.archive in bench.home.joinpath("files", bench.current().folder).parents


def test_a_local_file_that_is_edited_on_the_same_day_is_dumped_again(bench: DumpBench) -> None:
    bench.write("things.tsv")
    file = bench.plugin / "things.tsv"
    file.write_bytes(b"one\n")
    os.utime(file, (time.time() - 60, time.time() - 60))
    first = bench.dump()
    assert bench.dump().dump == first.dump
    file.write_bytes(b"two\n")
    second = bench.dump()
    assert (second.unchanged, second.release) == (False, first.release)
    assert bench.content() == {"things.tsv": b"two\n"}


def test_a_plugin_that_names_its_releases_is_believed(bench: DumpBench) -> None:
    bench.write("things.tsv", code="def get(self): return '1.0'", release="release:get")
    file = bench.plugin / "things.tsv"
    file.write_bytes(b"one\n")
    bench.dump()
    file.write_bytes(b"two\n")
    assert bench.dump().dump == "bench@1.0"
    assert bench.content() == {"things.tsv": b"one\n"}
