"""Files by FTP, with the standard library's client in a thread."""

import contextlib
import datetime as dt
import ftplib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ManifestError
from sourcebook.logging import hide_secrets
from sourcebook_dumper.fetchers.base import Fetched, RemoteFile
from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count, run_in_thread

_CHUNK_BYTES = 1024 * 1024
_POLL_SECONDS = 0.5  # how soon a cancelled job stops when the server is silent


class FtpFetcher:
    """Downloads over passive data connections; login as the URL says, else anonymous."""

    def __init__(self, timeout: dt.timedelta) -> None:
        self._timeout = timeout

    async def look(self, url: str) -> RemoteFile:
        def read(_stop: threading.Event) -> RemoteFile:
            with self._session(url) as (ftp, path):
                modified = _modified(ftp, path)
                size = _size(ftp, path, must_exist=not modified)
                day = f"{modified[:4]}-{modified[4:6]}-{modified[6:8]}" if modified else None
                told = {"mdtm": modified, "size": "" if size is None else str(size)}
                return RemoteFile(day, {name: value for name, value in told.items() if value})

        return await run_in_thread(read)

    async def fetch(self, url: str, partial: PartialFile, count: Count) -> Fetched:
        return await run_in_thread(lambda stop: self._fetch(url, partial, count, stop))

    def _fetch(self, url: str, partial: PartialFile, count: Count, stop: threading.Event) -> Fetched:
        with self._session(url) as (ftp, path):
            size, modified = _size(ftp, path), _modified(ftp, path)
            validator = f"{modified};{size}" if modified and size is not None else ""
            kept = partial.resume_point()
            offset = kept.size if validator and kept.validator == validator and kept.size <= (size or 0) else 0
            partial.begin(offset, validator, size)
            count.done, count.total = offset, size
            if size is None or offset < size:
                self._receive(ftp, path, partial, count=count, stop=stop)
            if size is not None and partial.size != size and not stop.is_set():
                raise DownloadInterrupted(
                    f"{hide_secrets(url)}: {partial.size} of {size} bytes arrived.",
                    url=hide_secrets(url),
                    expected=size,
                )
            if not stop.is_set() and (_size(ftp, path), _modified(ftp, path)) != (size, modified):
                partial.forget()
                raise DownloadInterrupted(
                    f"{hide_secrets(url)}: changed on the server; the download starts again.", url=hide_secrets(url)
                )
            return Fetched({"mdtm": modified} if modified else {})

    def _receive(
        self, ftp: ftplib.FTP, path: str, partial: PartialFile, *, count: Count, stop: threading.Event
    ) -> None:
        silent = 0.0
        with ftp.transfercmd(f"RETR {path}", rest=partial.size or None) as connection:
            connection.settimeout(_POLL_SECONDS)
            while not stop.is_set():
                try:
                    chunk = connection.recv(_CHUNK_BYTES)
                except TimeoutError:
                    silent += _POLL_SECONDS
                    if silent >= self._timeout.total_seconds():
                        raise
                    continue
                if not chunk:
                    break
                silent = 0.0
                partial.write(chunk)
                count.done = partial.size
        if not stop.is_set():
            ftp.voidresp()

    @contextmanager
    def _session(self, url: str) -> Iterator[tuple[ftplib.FTP, str]]:
        parts = urlsplit(url)
        path = unquote(parts.path).removeprefix("/")
        if not path or any(character in path for character in "\r\n\x00"):
            raise ManifestError(
                f"dumper.data_url {hide_secrets(url)!r} names no file.", key="dumper.data_url", value=url
            )
        ftp = ftplib.FTP(timeout=self._timeout.total_seconds())  # noqa: S321 - the URL asks for it
        # Closed without QUIT: after a broken transfer its answer is no longer in step.
        with _translated_errors(url), contextlib.closing(ftp):
            ftp.connect(parts.hostname or "", parts.port or ftplib.FTP_PORT)
            ftp.login(unquote(parts.username or ""), unquote(parts.password or ""))
            ftp.voidcmd("TYPE I")  # binary: sizes are those of the bytes
            yield ftp, path


def _modified(ftp: ftplib.FTP, path: str) -> str:
    """Return MDTM's answer, YYYYMMDDHHMMSS in UTC, or an empty string where the server does not know it."""
    with contextlib.suppress(ftplib.error_perm):
        answer = ftp.sendcmd(f"MDTM {path}").partition(" ")[2].strip()
        return answer if answer[:8].isdigit() else ""
    return ""


def _size(ftp: ftplib.FTP, path: str, *, must_exist: bool = False) -> int | None:
    try:
        return ftp.size(path)
    except ftplib.error_perm:
        if must_exist:
            raise
        return None


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    shown = hide_secrets(url)
    try:
        yield
    except ftplib.error_perm as error:
        raise DownloadRefused(f"{shown}: the server answered {error}. Check dumper.data_url.", url=shown) from error
    except (ftplib.Error, EOFError, OSError) as error:
        raise DownloadInterrupted(f"{shown}: {error or type(error).__name__}.", url=shown) from error
