"""Which version is the newest."""

from __future__ import annotations

import gzip
import os
import time
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ParserError

if TYPE_CHECKING:
    from support.downloads import DumpBench, Site


def test_the_date_of_the_last_url_counts(bench: DumpBench, site: Site) -> None:
    first = site.add("/a.tsv", b"x", headers={"Last-Modified": "Sat, 01 Jun 2024 10:00:00 GMT"})
    bench.write([first, site.add("/b.tsv", b"x")])
    assert bench.dump().version == "2024-01-02"


@pytest.mark.parametrize(("etag", "version"), [('"v1.2"', "v1.2"), ('W/"v1.2"', "v1.2")])
def test_without_a_date_the_etag_counts(bench: DumpBench, site: Site, etag: str, version: str) -> None:
    bench.write(site.add("/a.tsv", b"x", headers={"Last-Modified": "no date", "ETag": etag}))
    assert bench.dump().version == version


def test_without_either_the_version_is_today_with_a_warning(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x", headers={"Last-Modified": None, "ETag": None}))
    assert bench.dump().version == time.strftime("%Y-%m-%d", time.gmtime())
    assert "dumper.release" in bench.warnings[0]


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_server_that_refuses_head_is_asked_with_get(bench: DumpBench, site: Site, status: int) -> None:
    bench.write(site.add("/a.tsv", b"x", head=status))
    assert bench.dump().version == "2024-01-02"


def test_deciding_is_tried_again_and_refused_like_a_download(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 1
    bench.write(site.add("/a.tsv", b"x", head=503, failures=[503, 503]))
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    bench.write(f"{site.url}/nothing.tsv")
    with pytest.raises(DownloadRefused):
        bench.dump()


@pytest.mark.parametrize(
    ("code", "version"),
    [
        ("def get(self): return '2.0'", "2.0"),
        ("def get(self): self.release = ' 2.1 '", "2.1"),
        ("def get(self): return 22", "22"),
        ("def get(self): return self.__class__.SRC_URLS[0].rpartition('/')[2] + self.src_name", "a.tsvbench"),
        ("from helper import VERSION\ndef get(self): print('hello'); return VERSION", "from-helper"),
    ],
    ids=["returned", "set", "number", "attributes", "sibling"],
)
def test_a_function_of_the_plugin_decides(bench: DumpBench, site: Site, code: str, version: str) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code=code)
    (bench.plugin / "helper.py").write_text("VERSION = 'from-helper'")
    assert bench.dump().version == version
    assert bench.dump().unchanged


def test_an_edited_function_takes_effect_at_the_next_dump(bench: DumpBench, site: Site) -> None:
    url = site.add("/a.tsv", b"x")
    for version in ("1", "2", "3"):
        bench.write(url, release="release:get", code=f"def get(self): return '{version}'")
        assert bench.dump().version == version


@pytest.mark.parametrize("value", ["None", "''", "True", "['1']"])
def test_a_function_that_gives_no_version_fails(bench: DumpBench, site: Site, value: str) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code=f"def get(self): return {value}")
    with pytest.raises(ParserError, match="must return the version"):
        bench.dump()


def test_a_version_of_any_form_becomes_a_safe_folder(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code="def get(self): return '../../v 1/ä'")
    message = bench.dump()
    assert message.version == "../../v 1/ä"
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
    assert (second.unchanged, second.version) == (False, f"{first.version}-2")
    assert bench.content() == {"things.tsv": b"two\n"}


def test_a_plugin_that_names_its_versions_is_believed(bench: DumpBench) -> None:
    bench.write("things.tsv", code="def get(self): return '1.0'", release="release:get")
    file = bench.plugin / "things.tsv"
    file.write_bytes(b"one\n")
    bench.dump()
    file.write_bytes(b"two\n")
    assert bench.dump().dump == "bench@1.0"
    assert bench.content() == {"things.tsv": b"one\n"}


def test_a_new_first_file_is_news_although_the_last_one_is_old(bench: DumpBench, site: Site) -> None:
    bench.write([site.add("/a.tsv", b"old"), site.add("/b.tsv", b"b")])
    bench.dump()
    site.add("/a.tsv", b"new", headers={"Last-Modified": "Wed, 03 Jan 2024 10:00:00 GMT", "ETag": '"two"'})
    second = bench.dump()
    assert (second.unchanged, second.version) == (False, "2024-01-02-2")
    assert bench.content() == {"a.tsv": b"new", "b.tsv": b"b"}
    assert bench.dump().unchanged


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"new", {"ETag": '"two"'}),
        (b"longer", {}),
        (b"new", {"ETag": '"one"', "Last-Modified": "Tue, 02 Jan 2024 11:00:00 GMT"}),
    ],
    ids=["etag", "size", "hour"],
)
def test_a_second_version_on_one_day_is_news(
    bench: DumpBench, site: Site, body: bytes, headers: dict[str, str]
) -> None:
    bench.write(site.add("/a.tsv", b"old", headers={"Content-Length": "3"}))
    assert bench.dump().version == "2024-01-02"
    site.add("/a.tsv", body, headers={"Content-Length": str(len(body)), **headers})
    assert bench.dump().version == "2024-01-02-2"
    site.add("/a.tsv", b"third", headers={"ETag": '"three"'})
    assert bench.dump().version == "2024-01-02-3"
    assert bench.content() == {"a.tsv": b"third"}
    assert bench.dump().unchanged


def test_other_validators_of_the_same_bytes_are_no_new_version_and_are_looked_at_once(
    bench: DumpBench, site: Site
) -> None:
    bench.write(site.add("/a.tsv", b"same"))
    first = bench.dump()
    site.add("/a.tsv", b"same", headers={"ETag": '"of another mirror"'})
    again = bench.dump()
    assert (again.unchanged, again.dump) == (True, first.dump)
    assert [path.name for path in bench.archive.iterdir() if path.is_dir()] == ["2024-01-02"]
    assert bench.staged == []
    requests = len(site.gets())
    assert bench.dump().unchanged
    assert len(site.gets()) == requests


def test_files_of_which_nothing_is_told_are_compared_byte_by_byte(bench: DumpBench, site: Site) -> None:
    silent = {"Last-Modified": None, "ETag": None}
    bench.write([site.add("/a.tsv", b"old", headers=silent), site.add("/b.tsv", b"b")])
    first = bench.dump()
    assert bench.dump().dump == first.dump
    site.add("/a.tsv", b"new", headers=silent)
    assert bench.dump().version == "2024-01-02-2"
    assert bench.content() == {"a.tsv": b"new", "b.tsv": b"b"}


def test_another_url_or_other_unpacking_is_dumped_again_although_the_server_has_nothing_new(
    bench: DumpBench, site: Site
) -> None:
    packed = gzip.compress(b"a")
    bench.write(site.add("/a.tsv.gz", packed))
    bench.dump()
    bench.write(f"{site.url}/a.tsv.gz", uncompress=True)
    unpacked = bench.dump()
    assert (unpacked.unchanged, unpacked.version) == (False, "2024-01-02")  # the same bytes: the same version
    assert bench.content() == {"a.tsv.gz": packed, "a.tsv": b"a"}
    bench.write([f"{site.url}/a.tsv.gz", site.add("/b.tsv", b"b")], uncompress=True)
    assert bench.dump().version == "2024-01-02-2"
    assert bench.dump().unchanged


def test_an_etag_becomes_a_version_that_can_be_printed(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x", headers={"Last-Modified": None, "ETag": '"v1\x1b[31m\x9b2J"'}))
    assert bench.dump().version == "v1_[31m_2J"
    assert "\\u001b" not in bench.current().model_dump_json()


def test_a_function_of_the_plugin_gives_a_version_that_can_be_printed(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code="def get(self): return 'v1\\x1b[31m'")
    assert bench.dump().version == "v1_[31m"


def test_validators_of_another_kind_are_no_proof_that_a_file_is_the_same(bench: DumpBench, site: Site) -> None:
    bench.write([site.add("/a.tsv", b"old", headers={"Last-Modified": None}), site.add("/b.tsv", b"b")])
    bench.dump()
    site.add("/a.tsv", b"new", headers={"ETag": None})  # a date now, where an ETag was
    assert bench.dump().version == "2024-01-02-2"
    assert bench.content() == {"a.tsv": b"new", "b.tsv": b"b"}


def test_another_question_to_the_same_address_is_another_file(bench: DumpBench, site: Site) -> None:
    url = site.add("/a.tsv", b"x")
    bench.write(f"{url}?key=genes")
    first = bench.dump()
    bench.write(f"{url}?key=proteins")
    assert not bench.dump().unchanged
    bench.write(f"{url}?key=proteins".replace("://", "://me:secret@"))
    assert bench.dump().unchanged  # another login asks for the same
    assert first.version == "2024-01-02"
