"""Files by HTTP and HTTPS: resumed where the server can, checked against what it announced."""

import asyncio
import datetime as dt
import functools
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from sourcebook import __version__
from sourcebook.errors import DownloadInterrupted, DownloadRefused
from sourcebook.logging import hide_secrets
from sourcebook.settings import Settings
from sourcebook_dumper.fetchers.part import PartFile
from sourcebook_dumper.progress import Count

_CHUNK_BYTES = 1024 * 1024
_MAX_REDIRECTS = 10
_STRONG_DATE_AGE = dt.timedelta(seconds=60)  # RFC 9110, 8.8.2.2: a date this old names one version
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_SERVER_ERRORS = range(500, 600)
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "It wants a login: put user and password into the URL (https://user:password@host/...).",
    HTTPStatus.FORBIDDEN: "Check whether the file is public, or put user and password into the URL.",
    HTTPStatus.NOT_FOUND: "Check dumper.data_url in the manifest; the file may have moved.",
    HTTPStatus.GONE: "The file was removed; look for its new address and change dumper.data_url.",
}
_PAGE_ENDINGS = (".html", ".htm", ".xhtml")
_PAGE_TYPES = {"text/html", "application/xhtml+xml"}
_PACKED_ENDINGS = (".gz", ".tgz", ".bz2", ".xz", ".zip", ".zst", ".br")
_KEPT_HEADERS = ("last-modified", "etag", "content-type", "content-length", "content-encoding")


@functools.cache
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reads all certificates: once a process is enough


async def open_http_client(settings: Settings) -> httpx.AsyncClient:
    """Return the client that all downloads of a job share. TLS certificates are checked; `file:` is never followed."""
    return httpx.AsyncClient(
        verify=await asyncio.to_thread(_tls_context),
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=settings.download_timeout.total_seconds(),
        headers={"User-Agent": f"sourcebook/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"},
    )


class HttpFetcher:
    """Downloads with one shared client."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def release(self, url: str) -> str | None:
        with _translated_errors(url):
            headers = await self._head(url)
        modified = _parse_date(headers.get("last-modified"))
        if modified is not None:
            return modified.date().isoformat()
        return headers.get("etag", "").removeprefix("W/").strip('"') or None

    async def _head(self, url: str) -> httpx.Headers:
        try:
            response = await self._client.head(url)
            if response.status_code < HTTPStatus.BAD_REQUEST:
                return response.headers
        except httpx.RemoteProtocolError:
            pass  # some servers hang up on HEAD
        async with self._client.stream("GET", url) as response:
            _check_status(response, url)
            return response.headers

    async def fetch(self, url: str, part: PartFile, count: Count) -> dict[str, str]:
        offset, validator = await asyncio.to_thread(part.resume_point)
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        with _translated_errors(url):
            async with self._client.stream("GET", url, headers=headers) as response:
                if offset and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    await self._accept_complete(response, url, part, offset=offset, validator=validator)
                    count.done = count.total = offset
                    return {"etag" if validator.startswith('"') else "last-modified": validator}
                _check_status(response, url)
                start = await _resumed_at(response, url, part, offset=offset)
                await _receive(response, url, part, start=start, count=count)
                return {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}

    async def _accept_complete(
        self, response: httpx.Response, url: str, part: PartFile, *, offset: int, validator: str
    ) -> None:
        # Nothing is left to send: an earlier try had received the whole file, and it has not changed.
        if response.headers.get("content-range", "").replace(" ", "") == f"bytes*/{offset}":
            await asyncio.to_thread(part.begin, offset, validator)
            return
        await asyncio.to_thread(part.forget)
        raise DownloadInterrupted(
            f"{hide_secrets(url)}: changed on the server; the download starts anew.", url=hide_secrets(url)
        )


async def _resumed_at(response: httpx.Response, url: str, part: PartFile, *, offset: int) -> int:
    """Return the position of the first byte that the server sends."""
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return 0
    told = response.headers.get("content-range", "")
    if offset and told.startswith(f"bytes {offset}-") and not _is_encoded(response):
        return offset
    await asyncio.to_thread(part.forget)
    raise DownloadInterrupted(
        f"{hide_secrets(url)}: the server resumed at another place ({told!r}).", url=hide_secrets(url)
    )


async def _receive(response: httpx.Response, url: str, part: PartFile, *, start: int, count: Count) -> None:
    _refuse_page_type(response, url)
    as_sent = not _is_encoded(response) or urlsplit(url).path.lower().endswith(_PACKED_ENDINGS)
    length = response.headers.get("content-length")
    total = start + int(length) if as_sent and length is not None and length.isdigit() else None
    count.done, count.total = start, total
    await asyncio.to_thread(part.begin, start, _strong_validator(response) if as_sent else "")
    async for chunk in _chunks(response, as_sent=as_sent):
        if part.size == 0:
            _refuse_page_body(chunk, url)
        await asyncio.to_thread(part.write, chunk)
        count.done = part.size
    if total is not None and part.size != total:
        raise DownloadInterrupted(
            f"{hide_secrets(url)}: {part.size} of {total} bytes arrived.",
            url=hide_secrets(url),
            size=part.size,
            expected=total,
        )


def _chunks(response: httpx.Response, *, as_sent: bool) -> AsyncIterator[bytes]:
    return response.aiter_raw(_CHUNK_BYTES) if as_sent else response.aiter_bytes(_CHUNK_BYTES)


def _is_encoded(response: httpx.Response) -> bool:
    return response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}


def _strong_validator(response: httpx.Response) -> str:
    """Return what If-Range may carry: a strong ETag, or a Last-Modified that is old enough to name one version."""
    etag: str = response.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    text: str = response.headers.get("last-modified", "")
    modified, sent = _parse_date(text), _parse_date(response.headers.get("date"))
    return text if modified and sent and sent - modified >= _STRONG_DATE_AGE else ""


def _parse_date(text: str | None) -> dt.datetime | None:
    try:
        parsed = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


# What is not the file


def _check_status(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return
    shown = hide_secrets(url)
    phrase = f"{status} {response.reason_phrase}".strip()
    if status in _TRANSIENT or status in _SERVER_ERRORS:
        pause = _retry_after(response.headers.get("retry-after"))
        raise DownloadInterrupted(
            f"{shown}: the server answered {phrase}.", url=shown, http_status=status, retry_after=pause
        )
    advice = _ADVICE.get(status, "Check dumper.data_url.")
    raise DownloadRefused(f"{shown}: the server answered {phrase}. {advice}", url=shown, http_status=status)


def _retry_after(text: str | None) -> float | None:
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    until = _parse_date(text)
    return max(0.0, until.timestamp() - time.time()) if until else None


def _refuse_page_type(response: httpx.Response, url: str) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _PAGE_TYPES and not urlsplit(url).path.lower().endswith(_PAGE_ENDINGS):
        raise _page_instead_of_file(url, f"says {kind}")


def _refuse_page_body(chunk: bytes, url: str) -> None:
    start = chunk[:512].removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    if start.startswith((b"<!doctype html", b"<html")) and not urlsplit(url).path.lower().endswith(_PAGE_ENDINGS):
        raise _page_instead_of_file(url, f"starts with {start.decode('ascii', 'replace')!r}")


def _page_instead_of_file(url: str, why: str) -> DownloadRefused:
    shown = hide_secrets(url)
    return DownloadRefused(
        f"{shown}: the server sent a web page instead of a data file (the answer {why}). Open the address in a browser: it may "
        "be an error or login page, or the file may have moved.",
        url=shown,
    )


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    shown = hide_secrets(url)
    try:
        yield
    except httpx.TooManyRedirects as error:
        raise DownloadRefused(f"{shown}: more than {_MAX_REDIRECTS} redirects.", url=shown) from error
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise DownloadRefused(f"{shown}: leads to an address that cannot be fetched: {error}.", url=shown) from error
    except httpx.HTTPError as error:
        if _is_certificate_error(error):
            raise DownloadRefused(f"{shown}: the server's certificate is not valid: {error}.", url=shown) from error
        problem = str(error) or type(error).__name__
        raise DownloadInterrupted(f"{shown}: {hide_secrets(problem)}.", url=shown) from error


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
