"""Downloads by HTTP: resuming, truncation, retries, redirects, pages instead of files."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import DownloadInterrupted, DownloadPostponed, DownloadRefused, TransientError

if TYPE_CHECKING:
    from support.downloads import DumpBench, Site

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


@pytest.mark.parametrize("status", [202, 408, 425, 429, 500, 502, 503, 504])
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


def test_a_server_that_asks_for_a_long_pause_ends_the_job_and_says_when_to_come_back(
    bench: DumpBench, site: Site
) -> None:
    bench.write(site.add("/a.tsv", b"one\n", headers={"Retry-After": "3600"}, failures=[429] * 9))
    with pytest.raises(
        DownloadPostponed, match=r"in 1:00:00: start the dump again after 20..-..-.. ..:.. UTC"
    ) as caught:
        bench.dump()
    assert caught.value.details["retry_after"] == 3600
    assert not isinstance(caught.value, TransientError)  # no worker tries it again in two seconds
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
        (b"<p>Sorry, come back later</p>", {"Content-Type": "text/html; charset=utf-8"}),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><p>Sorry", {}),
        (b"<HTML><p>Sorry", {"Content-Type": "text/plain"}),
        (b"<!-- made by us -->\n<html><p>Sorry", {}),
    ],
    ids=["type", "doctype", "html", "comment"],
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


@pytest.mark.parametrize("etag", ['"two"', None], ids=["other", "none"])
def test_a_server_that_ignores_if_range_does_not_make_a_mixture_of_two_versions(
    bench: DumpBench, site: Site, etag: str | None
) -> None:
    bench.overrides["download_retries"] = 0
    bench.write(site.add("/a.bin", BODY, failures=[("cut", 2_000_000)]))
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    site.add("/a.bin", BODY[::-1], headers={"ETag": etag}, rude=True)
    with pytest.raises(DownloadInterrupted, match="another version"):
        bench.dump()
    bench.dump()
    assert bench.content() == {"a.bin": BODY[::-1]}


def test_a_resumed_file_whose_size_changed_starts_anew_whatever_its_validator(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 1
    bench.write(site.add("/a.bin", BODY, failures=[("cut", 2_000_000), 503]))
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    site.add("/a.bin", BODY + b"more")
    bench.dump()
    assert bench.content() == {"a.bin": BODY + b"more"}


def test_a_complete_file_of_an_earlier_try_is_not_taken_for_a_new_one_of_the_same_size(
    bench: DumpBench, site: Site
) -> None:
    bench.overrides["download_retries"] = 1
    bench.write([site.add("/a.tsv", b"one\n"), site.add("/b.tsv", b"b", failures=[503, 503], seconds=0.2)])
    with pytest.raises(DownloadInterrupted):
        bench.dump()
    site.add("/a.tsv", b"two\n", headers={"ETag": '"two"'}, rude=True)
    bench.dump()
    assert bench.content() == {"a.tsv": b"two\n", "b.tsv": b"b"}


def test_a_packed_file_without_a_length_that_ends_early_is_an_interruption(bench: DumpBench, site: Site) -> None:
    packed = gzip.compress(b"one\n" * 1000)
    site.add("/a.tsv.gz", packed, headers={"Content-Length": ""}, failures=[("cut", len(packed) - 9)])
    bench.write(f"{site.url}/a.tsv.gz")
    bench.dump()
    assert bench.content() == {"a.tsv.gz": packed}
    assert len(site.gets()) == 2


def test_a_packed_file_that_the_server_has_in_part_is_an_interruption_when_it_is_unpacked(
    bench: DumpBench, site: Site
) -> None:
    packed = gzip.compress(b"one\n" * 1000)
    bench.write(site.add("/a.tsv.gz", packed[:-9]), uncompress=True)
    with pytest.raises(DownloadInterrupted, match=r"a\.tsv\.gz ends early"):
        bench.dump()
    site.add("/a.tsv.gz", packed)
    bench.dump()
    assert bench.content()["a.tsv"] == b"one\n" * 1000


def test_what_was_downloaded_before_a_long_pause_is_kept(bench: DumpBench, site: Site) -> None:
    site.add("/b.tsv", b"b", headers={"Retry-After": "9999"}, failures=[202], seconds=0.2)
    bench.write([site.add("/a.bin", BODY), f"{site.url}/b.tsv"])
    with pytest.raises(DownloadPostponed):
        bench.dump()
    bench.dump()
    assert bench.content() == {"a.bin": BODY, "b.tsv": b"b"}
    ranges = [headers.get("range") for method, path, headers in site.log if (method, path) == ("GET", "/a.bin")]
    assert ranges == [None, f"bytes={len(BODY)}-"]


def test_a_data_file_that_is_served_as_a_page_is_judged_by_its_body(bench: DumpBench, site: Site) -> None:
    page = {"Content-Type": "text/html; charset=utf-8"}
    urls = [site.add("/a.tsv", b"id\tname\n1\t<p>\n", headers=page), site.add("/b.xml", b"<genes/>", headers=page)]
    bench.write([*urls, site.add("/c.gz", gzip.compress(b"c"), headers=page)])
    bench.dump()
    assert sorted(bench.content()) == ["a.tsv", "b.xml", "c.gz"]


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/export", {"Content-Disposition": 'attachment; filename="genes.tsv"'}, "genes.tsv"),
        ("/get.php", {"Content-Disposition": "attachment; filename*=UTF-8''g%C3%A9nes.tsv"}, "g\u00e9nes.tsv"),
        ("/v1.2", {"Content-Disposition": 'attachment; filename="../../etc/x.tsv"'}, "x.tsv"),
        ("/export", {"Content-Disposition": "inline"}, "export"),
        ("/a.tsv", {"Content-Disposition": 'attachment; filename="other.tsv"'}, "a.tsv"),
    ],
)
def test_the_server_names_a_file_whose_url_does_not(
    bench: DumpBench, site: Site, path: str, headers: dict[str, str], name: str
) -> None:
    bench.write(site.add(path, b"x", headers=headers))
    bench.dump()
    assert list(bench.content()) == [name]


def test_a_redirect_names_a_file_whose_url_does_not(bench: DumpBench, site: Site) -> None:
    site.add("/files/genes.tsv", b"x")
    bench.write(site.add("/latest", status=302, headers={"Location": "/files/genes.tsv?token=secret"}))
    bench.dump()
    assert list(bench.content()) == ["genes.tsv"]
    assert "secret" not in bench.current().model_dump_json()


def test_the_manifest_names_files_above_all(bench: DumpBench, site: Site) -> None:
    named = {"Content-Disposition": 'attachment; filename="other.tsv"'}
    bench.write([site.add("/a/x.zip", b"1"), site.add("/b/x.zip", b"2", headers=named)], file_names=["a.bin", "b.bin"])
    bench.dump()
    assert bench.content() == {"a.bin": b"1", "b.bin": b"2"}
    assert [file.name for file in bench.current().files] == ["a.bin", "b.bin"]
