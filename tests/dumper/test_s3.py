"""Downloads from S3."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from support.servers_s3 import new_bucket, running_s3

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ManifestError
from sourcebook_dumper.fetchers import s3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.downloads import DumpBench


class Bucket:
    """A bucket of the test."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.name = new_bucket(endpoint).partition("@")[2].partition("/")[0]

    def put(self, key: str, body: bytes) -> str:
        httpx.put(f"{self.endpoint}/{self.name}/{key}", content=body, trust_env=False).raise_for_status()
        return f"s3://key:hunter2@{self.name}/{key}?endpoint_url={self.endpoint}"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_s3() as address:
        yield address


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    return Bucket(endpoint)


@pytest.fixture(autouse=True)
def _no_role_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_an_object_is_downloaded_and_dated_by_the_server(bench: DumpBench, bucket: Bucket) -> None:
    bench.write([bucket.put("pub/a.tsv", b"one\n"), bucket.put("empty", b"")])
    assert len(bench.dump().version) == len("2026-01-01")
    assert bench.content() == {"a.tsv": b"one\n", "empty": b""}
    assert "hunter2" not in str(bench.records())
    assert bench.dump().unchanged


def test_a_download_that_breaks_off_is_resumed(
    bench: DumpBench, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytes(range(256)) * 100
    monkeypatch.setattr(s3, "_CHUNK_BYTES", 10_000)
    real, starts = s3.S3Fetcher._read, []

    def read(self: Any, files: Any, path: str, *bounds: Any) -> bytes:
        starts.append(bounds[0])
        if len(starts) == 2:
            raise OSError(16, "Please reduce your request rate.")
        return real(self, files, path, *bounds)

    monkeypatch.setattr(s3.S3Fetcher, "_read", read)
    bench.write(bucket.put("a.bin", body))
    bench.dump()
    assert bench.content() == {"a.bin": body}
    assert starts == [0, 10_000, 10_000, 20_000]


def test_an_object_that_changes_meanwhile_is_not_mixed(
    bench: DumpBench, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_CHUNK_BYTES", 10_000)
    real, calls = s3.S3Fetcher._read, []

    def read(self: Any, files: Any, path: str, *bounds: Any) -> bytes:
        calls.append(1)
        if len(calls) == 2:
            files.pipe_file(path, b"b" * 25_000)
        return real(self, files, path, *bounds)

    monkeypatch.setattr(s3.S3Fetcher, "_read", read)
    bench.write(bucket.put("a.bin", b"a" * 30_000))
    bench.dump()
    assert bench.content() == {"a.bin": b"b" * 25_000}


def test_what_is_missing_or_forbidden_is_refused(
    bench: DumpBench, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = bucket.put("a", b"x")
    bench.write(known.replace("/a?", "/nothing?"))
    with pytest.raises(DownloadRefused, match="no such object"):
        bench.dump()
    bench.write(known.replace("/a?", "?"))
    with pytest.raises(ManifestError, match="s3://bucket/key"):
        bench.dump()

    def refuse(*_: Any) -> bytes:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(s3.S3Fetcher, "_read", refuse)
    bench.write(known)
    with pytest.raises(DownloadRefused, match="put key and secret into the URL") as caught:
        bench.dump()
    assert "hunter2" not in str(caught.value)


def test_a_store_that_is_away_is_an_interruption(bench: DumpBench) -> None:
    bench.write("s3://key:hunter2@bucket/a?endpoint_url=http://127.0.0.1:1")
    bench.overrides["download_retries"] = 1
    with pytest.raises(DownloadInterrupted, match=r"127\.0\.0\.1:1") as caught:
        bench.dump()
    assert "hunter2" not in str(caught.value)


def test_without_the_extra_the_error_names_the_command(bench: DumpBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    bench.write("s3://bucket/a")
    with pytest.raises(ManifestError, match=r"pip install 'sourcebook\[s3\]'"):
        bench.dump()
