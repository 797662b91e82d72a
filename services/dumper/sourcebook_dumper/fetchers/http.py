"""Files by HTTP and HTTPS: resumed where the server can, checked against what it announced."""

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from sourcebook import __version__
from sourcebook.errors import DownloadInterrupted, DownloadRefused
from sourcebook.logging import hide_secrets
from sourcebook.redirects import RedirectGuard
from sourcebook.settings import Settings
from sourcebook_dumper.fetchers.answers import (
    check_status,
    is_encoded,
    is_same_version,
    parse_date,
    read_file_name,
    read_total,
    refuse_page,
    strong_validator,
)
from sourcebook_dumper.fetchers.base import Fetched, RemoteFile
from sourcebook_dumper.fetchers.partial import Kept, PartialFile
from sourcebook_dumper.progress import Count

_CHUNK_BYTES = 1024 * 1024
_MAX_REDIRECTS = 10
_PACKED_ENDINGS = (".gz", ".tgz", ".bz2", ".xz", ".zip", ".zst", ".br", ".z", ".7z")
_KEPT_HEADERS = ("last-modified", "etag", "content-type", "content-length", "content-encoding")
_TOLD = ("last-modified", "etag", "content-length")


@functools.cache
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reads all certificates: once a process is enough


@asynccontextmanager
async def open_http_client(settings: Settings, headers: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Open the client that all downloads of a job share. TLS certificates are checked; `file:` is never followed.

    `headers` go to the servers that the manifest names, not to where these redirect to.
    """
    guard = RedirectGuard(allow_private=settings.redirects_to_private, private_headers=tuple(headers))
    sent = httpx.Headers({"User-Agent": f"sourcebook/{__version__}", "Accept": "*/*"})
    sent.update(headers)
    sent["Accept-Encoding"] = "identity"  # otherwise sizes and ranges are those of the compressed transfer
    async with httpx.AsyncClient(
        verify=await asyncio.to_thread(_tls_context),
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=settings.download_timeout.total_seconds(),
        headers=sent,
        event_hooks={"request": [guard.before_request], "response": [guard.after_response]},
    ) as client:
        yield client


class HttpFetcher:
    """Downloads with one shared client."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def look(self, url: str) -> RemoteFile:
        with _translated_errors(url):
            headers = await self._head(url)
        modified = parse_date(headers.get("last-modified"))
        told = {name: headers[name] for name in _TOLD if headers.get(name)}
        if "etag" in told:
            told["etag"] = told["etag"].removeprefix("W/")
        if modified is not None:
            return RemoteFile(modified.date().isoformat(), told)
        return RemoteFile(told.get("etag", "").strip('"') or None, told)

    async def _head(self, url: str) -> httpx.Headers:
        try:
            response = await self._client.head(url)
            if response.status_code == HTTPStatus.OK:
                return response.headers
        except httpx.RemoteProtocolError:
            pass  # some servers hang up on HEAD
        async with self._client.stream("GET", url) as response:
            check_status(response, url)
            return response.headers

    async def _look_again(self, url: str) -> httpx.Headers:
        try:
            return await self._head(url)
        except DownloadRefused:  # the download itself will tell
            return httpx.Headers()

    async def fetch(self, url: str, partial: PartialFile, count: Count) -> Fetched:
        kept = await asyncio.to_thread(partial.resume_point)
        headers = {"Range": f"bytes={kept.size}-", "If-Range": kept.validator} if kept.size else {}
        with _translated_errors(url):
            async with self._client.stream("GET", url, headers=headers) as response:
                if not (kept.size and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                    check_status(response, url)
                    start = await _resumed_at(response, url, partial, kept)
                    await _receive(response, url, partial, kept=kept if start else Kept(), count=count)
                    return _describe(response.headers, _name_of(response, url))
                whole = read_total(response.headers)
            return await self._accept_complete(url, partial, kept, whole=whole, count=count)

    async def _accept_complete(
        self, url: str, partial: PartialFile, kept: Kept, *, whole: int | None, count: Count
    ) -> Fetched:
        """Take what an earlier try received, of which nothing is left to send, unless the file has changed since then.

        A 416 says how long the file is now, not which version it is of.
        """
        told = await self._look_again(url)
        length = told.get("content-length", "")
        # Many answer HEAD with a length of 0.
        total = int(length) if length.isdigit() and int(length) else whole
        is_same = is_same_version(told, kept.validator, total=total, noted_total=kept.size)
        if whole != kept.size or not is_same:
            await _start_anew(partial, url, "changed on the server")
        await asyncio.to_thread(partial.begin, kept.size, kept.validator, kept.size)
        count.done = count.total = kept.size
        return _describe(told, read_file_name(told))


def _describe(headers: httpx.Headers, name: str) -> Fetched:
    return Fetched({key: headers[key] for key in _KEPT_HEADERS if key in headers}, name)


def _name_of(response: httpx.Response, url: str) -> str:
    """Return what the server calls the file: by its header, else by the address that it redirects to."""
    redirected = str(response.url) if response.history and str(response.url) != url else ""
    return read_file_name(response.headers) or urlsplit(redirected).path.rstrip("/").rpartition("/")[2]


async def _start_anew(partial: PartialFile, url: str, why: str) -> None:
    await asyncio.to_thread(partial.forget)
    raise DownloadInterrupted(f"{hide_secrets(url)}: {why}; the download starts again.", url=hide_secrets(url))


async def _resumed_at(response: httpx.Response, url: str, partial: PartialFile, kept: Kept) -> int:
    """Return the position of the first byte that the server sends.

    Raises:
        DownloadInterrupted: it goes on somewhere else, or with another version (some servers ignore If-Range).
    """
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return 0
    told = response.headers.get("content-range", "")
    if not kept.size or not told.startswith(f"bytes {kept.size}-") or is_encoded(response.headers):
        await _start_anew(partial, url, f"the server resumed at another place ({told!r})")
    total = read_total(response.headers)
    if not is_same_version(response.headers, kept.validator, total=total, noted_total=kept.total):
        await _start_anew(partial, url, "the server went on with another version of the file")
    return kept.size


async def _receive(response: httpx.Response, url: str, partial: PartialFile, *, kept: Kept, count: Count) -> None:
    start = kept.size
    as_sent = not is_encoded(response.headers) or urlsplit(url).path.lower().endswith(_PACKED_ENDINGS)
    length = response.headers.get("content-length")
    total = start + int(length) if as_sent and length is not None and length.isdigit() else None
    if start:
        total = read_total(response.headers) or total
    count.done, count.total = start, total
    # A 206 to If-Range may leave out the headers of the version, but it is that of the bytes before (`_resumed_at`).
    validator = kept.validator if start else strong_validator(response.headers)
    await asyncio.to_thread(partial.begin, start, validator if as_sent else "", total)
    async for chunk in _chunks(response, as_sent=as_sent):
        if partial.size == 0:
            refuse_page(chunk, response.headers, url)
        await asyncio.to_thread(partial.write, chunk)
        count.done = partial.size
    if total is not None and partial.size != total:
        raise DownloadInterrupted(
            f"{hide_secrets(url)}: {partial.size} of {total} bytes arrived.",
            url=hide_secrets(url),
            size=partial.size,
            expected=total,
        )


def _chunks(response: httpx.Response, *, as_sent: bool) -> AsyncIterator[bytes]:
    return response.aiter_raw(_CHUNK_BYTES) if as_sent else response.aiter_bytes(_CHUNK_BYTES)


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
