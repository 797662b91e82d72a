"""Downloads by HTTP: resuming, truncation, retries, redirects, pages instead of files."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import DownloadInterrupted, DownloadRefused

if TYPE_CHECKING:
    from conftest import DumpBench, Site

BODY = bytes(range(256)) * 12_000  # three chunks


def test_a_download_that_breaks_off_is_resumed_where_it_stopped(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.bin", BODY, failures=[("cut", 2_000_000)]))
    bench.dump()
    assert bench.content() == {"a.bin": BODY}
    first, second = site.gets()
    assert "range" not in first
    assert int(second["range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert second["if-range"] == '"one"'


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 0
    bench.write(site.add("/a.bin", BODY, failures=[("cut", 2_000_000)]))
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    site.add("/a.bin", BODY[::-1], headers={"ETag": '"two"'})
    bench.dump()
    assert bench.content() == {"a.bin": BODY[::-1]}


def test_a_file_that_shrank_is_downloaded_anew(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 1
    bench.write(site.add("/a.bin", BODY, failures=[("cut", 2_000_000), 503]))
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    site.add("/a.bin", b"short")  # with the same ETag: the server is wrong, we still notice
    bench.dump()
    assert bench.content() == {"a.bin": b"short"}


@pytest.mark.parametrize(
    "headers",
    [{"ETag": 'W/"one"', "Last-Modified": None}, {"ETag": None, "Last-Modified": None}],
    ids=["weak-etag", "nothing"],
)
def test_without_a_strong_validator_a_download_starts_anew(
    bench: DumpBench, site: Site, headers: dict[str, str | None]
) -> None:
    bench.write(site.add("/a.bin", BODY, headers=headers, failures=[("cut", 2_000_000)]))
    bench.dump()
    assert bench.content() == {"a.bin": BODY}
    assert all("range" not in request for request in site.gets())


def test_an_old_date_is_a_strong_validator(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.bin", BODY, headers={"ETag": None}, failures=[("cut", 2_000_000)]))
    bench.dump()
    assert bench.content() == {"a.bin": BODY}
    assert site.gets()[-1]["if-range"] == "Tue, 02 Jan 2024 10:00:00 GMT"


def test_a_server_without_ranges_sends_the_whole_file_again(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.bin", BODY, ranges=False, failures=[("cut", 2_000_000)]))
    bench.dump()
    assert bench.content() == {"a.bin": BODY}


def test_a_truncated_file_is_never_published(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 2
    bench.write(site.add("/a.bin", BODY, ranges=False, failures=[("cut", 1000)] * 3))
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    assert bench.state().dump is None
    assert not bench.archive.exists()


def test_a_silent_server_is_given_up(bench: DumpBench, site: Site) -> None:
    bench.overrides |= {"download_retries": 0, "download_timeout": 0.2}
    bench.write(site.add("/a.bin", BODY, failures=[("hang", 10)]))
    with pytest.raises(DownloadInterrupted, match="ReadTimeout"):
        bench.dump()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_transient_answers_are_tried_again(bench: DumpBench, site: Site, status: int) -> None:
    bench.write(site.add("/a.tsv", b"one\n", failures=[status, status]))
    bench.dump()
    assert bench.content() == {"a.tsv": b"one\n"}
    assert len(site.gets()) == 3


def test_retries_end(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 2
    bench.write(site.add("/a.tsv", b"one\n", failures=[503] * 9))
    with pytest.raises(DownloadInterrupted, match="503"):
        bench.dump()
    assert len(site.gets()) == 3


def test_a_server_that_asks_for_a_long_pause_is_left_to_the_next_attempt(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"one\n", headers={"Retry-After": "3600"}, failures=[429] * 9))
    with pytest.raises(DownloadInterrupted) as caught:
        bench.dump()
    assert caught.value.details["retry_after"] == 3600
    assert len(site.gets()) == 1


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "user and password"), (403, "public"), (404, "data_url"), (410, "removed")]
)
def test_final_answers_are_refused_at_once_with_advice(bench: DumpBench, site: Site, status: int, advice: str) -> None:
    bench.write(site.add("/a.tsv", b"one\n", failures=[status] * 9))
    with pytest.raises(DownloadRefused, match=rf"/a\.tsv.*{status}.*{advice}"):
        bench.dump()
    assert len(site.gets()) == 1


def test_a_server_that_is_not_there_is_named(bench: DumpBench) -> None:
    bench.overrides["download_retries"] = 1
    bench.write("http://127.0.0.1:9/a.tsv")
    with pytest.raises(DownloadInterrupted, match=r"127\.0\.0\.1:9"):
        bench.dump()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"Sorry, come back later", {"Content-Type": "text/html; charset=utf-8"}),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><p>Sorry", {}),
        (b"<HTML><p>Sorry", {"Content-Type": "text/plain"}),
    ],
    ids=["type", "doctype", "html"],
)
def test_a_web_page_instead_of_a_file_is_refused(
    bench: DumpBench, site: Site, body: bytes, headers: dict[str, str]
) -> None:
    bench.write(site.add("/a.tsv", body, headers=headers))
    with pytest.raises(DownloadRefused, match="web page"):
        bench.dump()


def test_a_web_page_is_welcome_when_the_url_names_one(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.html", b"<html>", headers={"Content-Type": "text/html"}))
    bench.dump()
    assert bench.content() == {"a.html": b"<html>"}


def test_redirects_are_followed_and_the_url_names_the_file(bench: DumpBench, site: Site) -> None:
    site.add("/real", b"one\n")
    bench.write(site.add("/a.tsv", status=302, headers={"Location": "/real"}))
    bench.dump()
    assert bench.content() == {"a.tsv": b"one\n"}


def test_endless_redirects_are_refused(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", status=302, headers={"Location": "/a.tsv"}))
    with pytest.raises(DownloadRefused, match="10 redirects"):
        bench.dump()
    assert len(site.log) == 11


def test_a_redirect_to_a_file_of_this_machine_is_refused(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", status=302, headers={"Location": "file:///etc/passwd"}))
    with pytest.raises(DownloadRefused):
        bench.dump()


def test_what_the_server_packed_for_the_journey_is_unpacked(bench: DumpBench, site: Site) -> None:
    packed = gzip.compress(b"one\n")
    headers = {"Content-Encoding": "gzip"}
    bench.write([site.add("/a.tsv", packed, headers=headers), site.add("/b.tsv.gz", packed, headers=headers)])
    bench.dump()
    assert bench.content() == {"a.tsv": b"one\n", "b.tsv.gz": packed}


def test_an_empty_file_is_a_file(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b""))
    bench.dump()
    assert bench.content() == {"a.tsv": b""}


def test_files_download_side_by_side_up_to_the_limit_of_a_host(bench: DumpBench, site: Site) -> None:
    bench.overrides["downloads_per_host"] = 2
    bench.write([site.add(f"/{number}.tsv", b"x", seconds=0.05) for number in range(6)])
    bench.dump()
    assert site.most_active == 2
    assert len(bench.content()) == 6
