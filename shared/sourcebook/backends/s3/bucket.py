"""One prefix of an S3 bucket: whole objects, patience while the store is away or overloaded, errors that say what to do."""

import asyncio
import datetime as dt
import errno
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import s3fs
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError

from sourcebook.errors import EngineUnavailable, SettingsError, SourcebookError
from sourcebook.logging import get_logger, hide_secrets

log = get_logger(__name__)

T = TypeVar("T")

_OPTIONS = ("endpoint_url", "region")
_LONGEST_PAUSE_SECONDS = 5.0
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_NO_BUCKET = "bucket does not exist"
_OUR_FAULT = {errno.EINVAL, errno.EPERM}  # how s3fs says that S3 understood the request and will never carry it out


class S3Bucket:
    """Objects by name below the prefix. s3fs has a loop of its own: calls wait for it in a thread."""

    def __init__(self, name: str, prefix: str, filesystem: Any, patience: dt.timedelta) -> None:
        self.name = name
        self._root = f"{name}/{prefix}".rstrip("/")
        self._files = filesystem
        self._patience = patience.total_seconds()

    async def read(self, name: str) -> bytes | None:
        """Return an object's bytes, or None if there is none."""
        body: bytes | None = await self._run(lambda: self._files.cat_file(self._path(name)), missing=None)
        return body

    async def create(self, name: str, body: bytes) -> bool:
        """Write an object if there is none of that name, in one step; return False if there is."""

        def create() -> bool:
            try:
                self._files.pipe_file(self._path(name), body, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno != errno.ENOSYS:  # a store that cannot look and write in one step
                    raise
                self._files.pipe_file(self._path(name), body)
            return True

        return bool(await self._run(create))

    async def upload(self, source: Path, name: str) -> None:
        """Write a file as an object."""
        await self._run(lambda: self._files.put_file(str(source), self._path(name)))

    async def download(self, name: str, target: Path) -> bool:
        """Write an object into a file; return False if there is none."""

        def get() -> bool:
            self._files.get_file(self._path(name), str(target))
            return True

        return bool(await self._run(get, missing=False))

    async def names(self, below: str) -> dict[str, dt.datetime]:
        """Return the names of all objects below a folder's name (which ends with `/`), with the time each was written."""
        found = await self._run(lambda: self._files.find(self._path(below), detail=True), missing={})
        return {path.removeprefix(f"{self._root}/"): entry["LastModified"] for path, entry in found.items()}

    async def remove(self, name: str) -> None:
        """Remove an object; nothing happens if there is none."""
        await self._run(lambda: self._files.rm_file(self._path(name)), missing=None)

    async def remove_below(self, folder: str) -> None:
        """Remove every object below a folder's name."""
        for name in await self.names(f"{folder}/"):
            await self.remove(name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    async def _run(self, call: Callable[[], T], *, missing: Any = ...) -> Any:
        """Run `call` in a thread, again and again while the store is away; `missing` is the answer where there is no object."""
        deadline, pause = 0.0, 0.2
        while True:
            try:
                return await asyncio.to_thread(call)
            except FileNotFoundError as error:
                if missing is ... or _NO_BUCKET in str(error):
                    raise self._no_bucket() from error
                return missing
            except (PermissionError, NoCredentialsError, PartialCredentialsError) as error:
                raise self._refused(error) from error
            except (OSError, BotoCoreError) as error:
                now = time.monotonic()
                deadline = deadline or now + self._patience
                if now >= deadline or (isinstance(error, OSError) and error.errno in _OUR_FAULT):
                    raise self._unavailable(error) from error
                log.warning("s3_away", bucket=self.name, problem=_problem(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _no_bucket(self) -> SourcebookError:
        return SettingsError(
            f"There is no bucket {self.name!r}: make it, or correct SOURCEBOOK_FILES_URL.", bucket=self.name
        )

    def _refused(self, error: Exception) -> SourcebookError:
        return SettingsError(
            f"S3 refuses the access to bucket {self.name!r} ({_problem(error)}): put key and secret into SOURCEBOOK_FILES_URL "
            "(s3://key:secret@bucket/prefix), or give this machine a role that may list, read, write and delete there.",
            bucket=self.name,
        )

    def _unavailable(self, error: Exception) -> SourcebookError:
        return EngineUnavailable(
            f"S3 with the bucket {self.name!r} does not answer as it should ({_problem(error)}). Check that it runs and that "
            "SOURCEBOOK_FILES_URL names it.",
            bucket=self.name,
        )


def _problem(error: Exception) -> str:
    return hide_secrets(str(error) or type(error).__name__).rstrip(".")


@functools.cache
def _session() -> Any:
    return AioSession()  # reads the description of S3: once a process is enough


def open_bucket(url: str, patience: dt.timedelta) -> S3Bucket:
    """Return the bucket of `s3://[key:secret@]bucket[/prefix][?endpoint_url=...&region=...]`; it connects at the first call.

    Without key and secret, those of the environment or of the machine's role are used, as by every AWS tool.

    Raises:
        SettingsError: the URL names no bucket, or has an unknown option.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    name = parts.netloc.rpartition("@")[2]
    if not name or options.keys() - set(_OPTIONS):
        raise SettingsError(
            "SOURCEBOOK_FILES_URL must be s3://bucket/prefix or s3://key:secret@bucket/prefix (characters such as / : @ % + "
            f"written as %2F %3A %40 %25 %2B), followed by no options but {', '.join(_OPTIONS)}.",
            setting="files_url",
        )
    filesystem = s3fs.S3FileSystem(
        key=unquote(parts.username) if parts.username else None,
        secret=unquote(parts.password) if parts.password else None,
        endpoint_url=options.get("endpoint_url"),
        client_kwargs={"region_name": options["region"]} if "region" in options else {},
        config_kwargs={
            "connect_timeout": min(_CONNECT_SECONDS, max(1, patience.total_seconds())),
            "read_timeout": min(_READ_SECONDS, max(1, patience.total_seconds())),
            "retries": {"max_attempts": 1, "mode": "standard"},
        },
        session=_session(),
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.retries = 1  # the patience is ours
    return S3Bucket(name, parts.path.strip("/"), filesystem, patience)
