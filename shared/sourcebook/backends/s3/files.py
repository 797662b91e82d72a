"""Files in S3 or a store that speaks its protocol: each key is one small object that names the objects of its files.

<bucket>/<prefix>/data/<key>/<random>/...   the files, written first
<bucket>/<prefix>/keys/<key>.json           what is published: the random name and the files; written last, in one step

Staging is a local folder, and so is what readers get: a copy in HOME/files-cache/copies/<random>, made once.
"""

import asyncio
import contextlib
import datetime as dt
import shutil
import uuid
from collections import defaultdict
from pathlib import Path

from pydantic import BaseModel, ValidationError

from sourcebook.backends.local.files import LocalFileStore, check_key
from sourcebook.backends.s3.bucket import S3Bucket, open_bucket
from sourcebook.errors import Conflict, EngineUnavailable, NotFound, StoreDamaged
from sourcebook.logging import get_logger
from sourcebook.settings import Settings

log = get_logger(__name__)

_ABANDONED = dt.timedelta(days=1)  # an upload that is this old and not published was left by the dead
_ENDING = ".json"


class Published(BaseModel):
    """What the object of a key says: where its files are, and the size of each, by path below the key."""

    folder: str
    files: dict[str, int]


class S3FileStore:
    """A FileStore in one bucket."""

    def __init__(self, bucket: S3Bucket, local: Path) -> None:
        self._bucket = bucket
        self._local = LocalFileStore(local)
        self._copies = local / "copies"
        self._copies.mkdir(parents=True, exist_ok=True)
        self._local.prepare()

    async def staging(self, key: str) -> Path:
        return await self._local.staging(key)

    async def discard(self, key: str) -> None:
        await self._local.discard(key)

    async def abandoned(self, seconds: float) -> list[str]:
        return await self._local.abandoned(seconds)

    async def publish(self, key: str) -> None:
        parts = check_key(key)
        if await self._published(key) is not None or await self.keys(key):
            raise Conflict(f"Files are published under {key!r} already.", key=key)
        for parent in parts.parents[:-1]:
            if await self._published(str(parent)) is not None:
                raise Conflict(f"{key!r} lies inside published files.", key=key)
        source = self._local.staging_folder(key)
        if not await asyncio.to_thread(source.is_dir):
            raise NotFound(f"Nothing is staged for {key!r}.", key=key)
        published = await self._upload(key, source)
        if not await self._bucket.create(_marker(key), published.model_dump_json().encode()):
            winner = await self._published(key)
            if winner is None or winner.folder != published.folder:  # else: the answer to our first try was lost
                await self._bucket.remove_below(_data(key, published.folder))
                raise Conflict(f"Files are published under {key!r} already.", key=key)
        await asyncio.to_thread(self._keep_copy, source, key, published)
        await self._local.discard(key)
        await self._remove_abandoned(str(parts.parent))

    async def _upload(self, key: str, source: Path) -> Published:
        paths = [path for path in await asyncio.to_thread(lambda: sorted(source.rglob("*"))) if path.is_file()]
        published = Published(folder=uuid.uuid4().hex, files={})
        for path in paths:
            name = path.relative_to(source).as_posix()
            await self._bucket.upload(path, f"{_data(key, published.folder)}/{name}")
            published.files[name] = path.stat().st_size
        return published

    async def local_folder(self, key: str) -> Path:
        published = await self._published(str(check_key(key)))
        if published is None:
            raise NotFound(f"No files are published under {key!r}.", key=key)
        copy = self._copies / published.folder
        if not await asyncio.to_thread(copy.is_dir):
            await self._download(key, published)
            await self._remove_old_copies()
        return copy

    async def _download(self, key: str, published: Published) -> None:
        folder = self._copies / f".{published.folder}.{uuid.uuid4().hex}"
        await asyncio.to_thread(folder.mkdir)
        try:
            for name, size in published.files.items():
                target = folder / name
                if not target.resolve().is_relative_to(folder.resolve()):
                    raise StoreDamaged(f"The list of files of {key!r} leads out of its folder: {name!r}.", key=key)
                await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
                if not await self._bucket.download(f"{_data(key, published.folder)}/{name}", target):
                    raise NotFound(f"No files are published under {key!r} any more.", key=key)
                if target.stat().st_size != size:
                    raise EngineUnavailable(
                        f"{name!r} of {key!r} arrived with another size than {size} bytes.", key=key
                    )
            await asyncio.to_thread(self._keep_copy, folder, key, published)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _keep_copy(self, folder: Path, key: str, published: Published) -> None:
        (self._copies / f"{published.folder}.key").write_text(key)
        try:
            folder.rename(self._copies / published.folder)
        except OSError:  # another process was faster
            shutil.rmtree(folder, ignore_errors=True)

    async def _remove_old_copies(self) -> None:
        """Remove the copies of what was deleted, also by other machines."""
        for note in await asyncio.to_thread(lambda: list(self._copies.glob("*.key"))):
            with contextlib.suppress(FileNotFoundError):
                published = await self._published(await asyncio.to_thread(note.read_text))
                if published is None or published.folder != note.stem:
                    await asyncio.to_thread(self._remove_copy, note.stem)

    def _remove_copy(self, folder: str) -> None:
        shutil.rmtree(self._copies / folder, ignore_errors=True)
        (self._copies / f"{folder}.key").unlink(missing_ok=True)

    async def exists(self, key: str) -> bool:
        return await self._published(str(check_key(key))) is not None

    async def keys(self, prefix: str) -> list[str]:
        below = f"keys/{check_key(prefix.rstrip('/'))}/" if prefix.rstrip("/") else "keys/"
        return sorted(name.removeprefix("keys/").removesuffix(_ENDING) for name in await self._bucket.names(below))

    async def delete(self, key: str) -> None:
        published = await self._published(str(check_key(key)))
        if published is None:
            return
        await self._bucket.remove(_marker(key))
        await self._bucket.remove_below(_data(key, published.folder))
        await asyncio.to_thread(self._remove_copy, published.folder)

    async def _published(self, key: str) -> Published | None:
        body = await self._bucket.read(_marker(key))
        try:
            return None if body is None else Published.model_validate_json(body)
        except ValidationError as error:
            raise StoreDamaged(
                f"{self._bucket.name}/{_marker(key)} was not written by Sourcebook, or is damaged: remove it and download again.",
                key=key,
            ) from error

    async def _remove_abandoned(self, parent: str) -> None:
        """Remove what uploads that died have left below a parent of keys."""
        folders: dict[tuple[str, str], dt.datetime] = defaultdict(lambda: dt.datetime.min.replace(tzinfo=dt.UTC))
        names = await self._bucket.names(f"data/{parent}/" if parent != "." else "data/")
        for name, modified in names.items():
            key, folder = _parse_data(name)
            folders[key, folder] = max(folders[key, folder], modified)
        for (key, folder), modified in folders.items():
            if dt.datetime.now(dt.UTC) - modified < _ABANDONED:
                continue
            published = await self._published(key)
            if published is None or published.folder != folder:
                log.info("abandoned_upload_removed", key=key)
                await self._bucket.remove_below(_data(key, folder))


def _marker(key: str) -> str:
    return f"keys/{key}{_ENDING}"


def _data(key: str, folder: str) -> str:
    return f"data/{key}/~{folder}"


def _parse_data(name: str) -> tuple[str, str]:
    key, _, rest = name.removeprefix("data/").partition("/~")
    return key, rest.partition("/")[0]


async def open_s3_files(settings: Settings) -> S3FileStore:
    """Open the bucket of `SOURCEBOOK_FILES_URL`: `s3://bucket/prefix`.

    Raises:
        SettingsError: the URL names no bucket, or has an unknown option.
    """
    bucket = open_bucket(settings.files_url, settings.engine_patience)
    return await asyncio.to_thread(S3FileStore, bucket, settings.home / "files-cache")
