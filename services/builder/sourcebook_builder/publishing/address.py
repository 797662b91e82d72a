"""Read and write the files of published releases: HTTP by httpx, everything else (folders, memory, S3, FTP ...) by fsspec."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import fsspec
import httpx

from sourcebook import __version__
from sourcebook.errors import (
    DamagedRelease,
    DownloadInterrupted,
    DownloadRefused,
    EngineUnavailable,
    InvalidRequest,
    NotFound,
    SourcebookError,
)
from sourcebook.hub.publishing.remotes import READ_ONLY
from sourcebook.logging import hide_secrets
from sourcebook.redirects import RedirectGuard
from sourcebook.settings import Settings

_CHUNK_BYTES = 1 << 20
_MAX_REDIRECTS = 10
# Where a file is written in place, so that a reader could see half of it: it is written beside and moved.
_WRITTEN_IN_PLACE = {"file", "local", "sftp", "ftp"}
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "sftp": "paramiko"}
_TRY_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_NO_PLACE = "the bucket or folder to write to does not exist"
ByteListener = Callable[[int], Awaitable[None]]


class OpenAddress(Protocol):
    """Where published releases are; paths are relative to it."""

    shown: str
    """The URL without secrets."""

    def stream(self, path: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file.

        Raises:
            NotFound: there is no such file.
            TransientError: it cannot be read now.
        """
        ...


class HttpAddress:
    """A folder on a web server; it can be read."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.shown = hide_secrets(url)
        self._url = url
        self._client = client

    async def stream(self, path: str) -> AsyncGenerator[bytes, None]:
        shown = f"{self.shown}/{path}"
        try:
            async with self._client.stream("GET", f"{self._url}/{path}") as response:
                _check_status(response.status_code, shown)
                async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                    yield chunk
        except httpx.HTTPError as error:
            problem = hide_secrets(str(error)) or type(error).__name__
            raise DownloadInterrupted(f"{shown}: {problem}.", url=shown) from error


def _check_status(status: int, shown: str) -> None:
    if status == HTTPStatus.OK:
        return
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise NotFound(f"There is no {shown}.", url=shown)
    if status in _TRY_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise DownloadInterrupted(f"{shown}: the server answered {status}.", url=shown, http_status=status)
    raise DownloadRefused(f"{shown}: the server answered {status}.", url=shown, http_status=status)


class FileSystemAddress:
    """A folder of a file system that fsspec knows; it can be read and written."""

    def __init__(self, url: str) -> None:
        self.shown = hide_secrets(url)
        scheme = url.partition(":")[0].lower()
        self._is_local = scheme in {"file", "local"}
        self._moves = scheme in _WRITTEN_IN_PLACE
        self._has_folders = self._moves or scheme == "memory"
        try:
            with _translated_errors(self.shown):
                self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            package = _PACKAGES.get(scheme, f"a package for {scheme}:")
            raise InvalidRequest(
                f"{self.shown}: {scheme}: addresses need {package}, which is not installed: pip install {package}",
                url=self.shown,
            ) from error

    async def stream(self, path: str) -> AsyncGenerator[bytes, None]:
        with _translated_errors(f"{self.shown}/{path}"):
            file = await asyncio.to_thread(self._files.open, self._path(path), "rb")
        try:
            while True:
                with _translated_errors(f"{self.shown}/{path}"):
                    chunk = await asyncio.to_thread(file.read, _CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk
        finally:
            await asyncio.to_thread(file.close)

    async def put_file(self, source: Path, path: str) -> None:
        """Copy a local file to the address, replacing what an earlier try left there.

        Raises:
            TransientError: the address cannot be written to now.
        """
        with _translated_errors(f"{self.shown}/{path}", missing=_NO_PLACE):
            await asyncio.to_thread(self._put_file, source, self._path(path))

    def _put_file(self, source: Path, target: str) -> None:
        self._make_folder(target)
        self._files.put_file(str(source), target)
        self._let_read(target)

    async def replace(self, path: str, data: bytes) -> None:
        """Write a small file so that readers see the old one or the new one, never a part."""
        with _translated_errors(f"{self.shown}/{path}", missing=_NO_PLACE):
            await asyncio.to_thread(self._replace, self._path(path), data)

    def _make_folder(self, target: str) -> None:
        # An object store has none; asked for one, its library would look for the bucket, which may not be allowed.
        if self._has_folders:
            folder = Path(target).parent
            missing = [path for path in (folder, *folder.parents) if self._is_local and not path.exists()]
            self._files.makedirs(str(folder), exist_ok=True)
            for path in missing:
                self._let_read(str(path), 0o755)

    def _let_read(self, path: str, mode: int = 0o644) -> None:
        """Let everybody of this machine read what is published to a folder of it; all else that we write is ours alone."""
        if self._is_local:
            Path(path).chmod(mode)

    def _replace(self, target: str, data: bytes) -> None:
        self._make_folder(target)
        if not self._moves:
            self._files.pipe_file(target, data)
            return
        folder, _, name = target.rpartition("/")
        beside = f"{folder}/.{name}.{secrets.token_hex(4)}"
        try:
            self._files.pipe_file(beside, data)
            self._let_read(beside)
            self._files.mv(beside, target)
        except BaseException:
            with contextlib.suppress(Exception):
                self._files.rm_file(beside)
            raise

    def _path(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


@contextmanager
def _translated_errors(shown: str, *, missing: str = "there is no such file") -> Iterator[None]:
    try:
        yield
    except (SourcebookError, ImportError):
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{shown}: {missing}.", url=shown) from error
    except PermissionError as error:
        raise DownloadRefused(f"{shown}: no permission.", url=shown) from error
    # Each library behind fsspec has errors of its own; all say that the address does not work now.
    except Exception as error:
        problem = hide_secrets(str(error)) or type(error).__name__
        raise EngineUnavailable(f"{shown}: {problem}.", url=shown) from error


@asynccontextmanager
async def open_address(url: str, settings: Settings) -> AsyncIterator[OpenAddress]:
    """Open an address to read from. TLS certificates are checked.

    Raises:
        InvalidRequest: a package is missing that reads such addresses.
    """
    if url.partition(":")[0].lower() not in READ_ONLY:
        yield await asyncio.to_thread(FileSystemAddress, url)
        return
    guard = RedirectGuard(allow_private=settings.redirects_to_private)
    async with httpx.AsyncClient(
        verify=await asyncio.to_thread(httpx.create_ssl_context),
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=settings.download_timeout.total_seconds(),
        headers={"User-Agent": f"sourcebook/{__version__}"},
        event_hooks={"request": [guard.before_request], "response": [guard.after_response]},
    ) as client:
        yield HttpAddress(url, client)


async def read_file(address: OpenAddress, path: str, *, max_bytes: int) -> bytes:
    """Return the contents of a small file.

    Raises:
        NotFound: there is no such file.
        DamagedRelease: it is larger than `max_bytes`.
    """
    data = bytearray()
    async with contextlib.aclosing(address.stream(path)) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > max_bytes:
                raise DamagedRelease(f"{address.shown}/{path} is larger than {max_bytes} bytes.", url=address.shown)
    return bytes(data)


async def fetch_file(
    address: OpenAddress, path: str, target: Path, *, size: int, sha256: str, count: ByteListener
) -> None:
    """Copy a file to `target` and check it; one that an earlier try left there complete is not fetched again.

    Raises:
        NotFound: there is no such file.
        DamagedRelease: it has another size or checksum.
        OSError: the disk does not take it.
    """
    if await asyncio.to_thread(_checksum, target) == (size, sha256):
        await count(size)
        return
    digest, done = hashlib.sha256(), 0
    with await asyncio.to_thread(target.open, "wb") as file:
        async with contextlib.aclosing(address.stream(path)) as chunks:
            async for chunk in chunks:
                done += len(chunk)
                if done > size:
                    break
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
                await count(len(chunk))
    if (done, digest.hexdigest()) != (size, sha256):
        found = f"more than {size}" if done > size else f"{done} bytes with sha256 {digest.hexdigest()}"
        raise DamagedRelease(
            f"{address.shown}/{path} is damaged: expected {size} bytes with sha256 {sha256}, found {found}. "
            "Install it again later; if that does not help, ask whoever published it to publish it again.",
            url=f"{address.shown}/{path}",
            expected=sha256,
            found=digest.hexdigest(),
        )


def _checksum(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
        return path.stat().st_size, digest.hexdigest()
    except FileNotFoundError:
        return 0, ""
