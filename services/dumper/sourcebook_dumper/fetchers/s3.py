"""Files in S3 buckets (`s3://bucket/key`), with s3fs, which is installed with `sourcebook[s3]`."""

import asyncio
import datetime as dt
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ManifestError
from sourcebook.logging import hide_secrets
from sourcebook_dumper.fetchers.base import Fetched, RemoteFile
from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count, run_in_thread

_CHUNK_BYTES = 4 * 1024 * 1024
_OPTIONS = ("endpoint_url", "region")


class S3Fetcher:
    """Downloads objects. Key and secret come from the URL, else from this machine (environment, role), else nobody asks."""

    def __init__(self, timeout: dt.timedelta) -> None:
        self._timeout = timeout

    async def look(self, url: str) -> RemoteFile:
        def read(_stop: threading.Event) -> RemoteFile:
            with _translated_errors(url):
                files, path = self._open(url)
                info = files.info(path)
                modified = info.get("LastModified")
                etag, size = str(info.get("ETag", "")), str(info.get("size", ""))
                told = {"etag": etag, "last-modified": str(modified or ""), "size": size}
                return RemoteFile(
                    modified.date().isoformat() if modified else etag.strip('"') or None,
                    {name: value for name, value in told.items() if value},
                )

        return await run_in_thread(read)

    async def fetch(self, url: str, partial: PartialFile, count: Count) -> Fetched:
        return await run_in_thread(lambda stop: self._fetch(url, partial, count, stop))

    def _fetch(self, url: str, partial: PartialFile, count: Count, stop: threading.Event) -> Fetched:
        with _translated_errors(url):
            files, path = self._open(url)
            info = files.info(path)
            if info.get("type") != "file":
                raise DownloadRefused(f"{hide_secrets(url)}: is a folder; name the files.", url=hide_secrets(url))
            size, etag = int(info["size"]), str(info.get("ETag", ""))
            kept = partial.resume_point()
            offset = kept.size if kept.validator == etag and kept.size <= size else 0
            partial.begin(offset, etag, size)
            count.done, count.total = offset, size
            while partial.size < size and not stop.is_set():
                # Each request says which content it continues: an object that changes meanwhile is an error, not a mixture.
                partial.write(self._read(files, path, partial.size, min(size, partial.size + _CHUNK_BYTES), etag))
                count.done = partial.size
            return Fetched({"etag": etag, "last-modified": str(info.get("LastModified", ""))})

    def _read(self, files: Any, path: str, start: int, end: int, etag: str) -> bytes:
        bucket, _, key = path.partition("/")
        answer = files.call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", IfMatch=etag)
        body: bytes = _read_body(files, answer)
        if len(body) != end - start:
            raise TimeoutError(f"{len(body)} of {end - start} bytes arrived")
        return body

    def _open(self, url: str) -> tuple[Any, str]:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        bucket, key = parts.netloc.rpartition("@")[2], unquote(parts.path).lstrip("/")
        if not key or options.keys() - set(_OPTIONS):
            raise ManifestError(
                f"dumper.data_url {hide_secrets(url)!r} must be s3://bucket/key, followed by no options but "
                f"{', '.join(_OPTIONS)}.",
                key="dumper.data_url",
            )
        seconds = max(1.0, self._timeout.total_seconds())
        files = _s3fs().S3FileSystem(
            key=unquote(parts.username) if parts.username else None,
            secret=unquote(parts.password) if parts.password else None,
            anon=not parts.username and not _has_login(),
            endpoint_url=options.get("endpoint_url"),
            client_kwargs={"region_name": options["region"]} if "region" in options else {},
            config_kwargs={
                "connect_timeout": min(10.0, seconds),
                "read_timeout": seconds,
                "retries": {"max_attempts": 1, "mode": "standard"},
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        files.retries = 1  # retrying is the caller's
        return files, f"{bucket}/{key}"


def _s3fs() -> Any:
    try:
        return importlib.import_module("s3fs")
    except ModuleNotFoundError as error:
        raise ManifestError(
            "dumper.data_url names s3:, which needs s3fs: pip install 'sourcebook[s3]'", key="dumper.data_url"
        ) from error


def _has_login() -> bool:
    """Whether this machine has a key of its own. Public buckets are read without one."""
    return importlib.import_module("botocore.session").get_session().get_credentials() is not None


def _read_body(files: Any, answer: Any) -> bytes:
    async def read() -> bytes:
        async with answer["Body"] as stream:
            body: bytes = await stream.read()
            return body

    return asyncio.run_coroutine_threadsafe(read(), files.loop).result()


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    shown = hide_secrets(url)
    _s3fs()
    broken: type[Exception] = importlib.import_module("botocore.exceptions").BotoCoreError
    try:
        yield
    except FileNotFoundError as error:
        raise DownloadRefused(f"{shown}: there is no such object. Check dumper.data_url.", url=shown) from error
    except PermissionError as error:
        raise DownloadRefused(
            f"{shown}: S3 refuses the access ({error}): put key and secret into the URL (s3://key:secret@bucket/key).",
            url=shown,
        ) from error
    except (OSError, broken) as error:
        problem = hide_secrets(str(error) or type(error).__name__).rstrip(".")
        raise DownloadInterrupted(f"{shown}: {problem}.", url=shown) from error
