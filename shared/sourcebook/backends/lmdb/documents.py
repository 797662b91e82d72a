"""Documents in LMDB: one environment folder a collection, written beside and renamed when complete.

A complete collection never changes, so readers need no lock file, no reader table and no map resizing. Writers fill a folder
under `.new/`, hold an flock on it (so that leftovers of dead processes can be told apart), and rename it at commit.
"""

import asyncio
import secrets
import shutil
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sourcebook.backends.checksums import StoredFile
from sourcebook.backends.lmdb.check import verify_collection
from sourcebook.backends.lmdb.layout import INFO_FILE, Segment, StoredInfo, check_files, read_info, read_segments
from sourcebook.backends.lmdb.reader import OpenCollection
from sourcebook.backends.lmdb.writer import (
    LmdbPatcher,
    LmdbWriter,
    fill_folder_with_copy,
    fill_folder_with_links,
    hold_lock_file,
    lock_path,
    publish_folder,
    remove_leftovers,
)
from sourcebook.errors import NotFound, SettingsError, StoreDamaged
from sourcebook.hub.documents.record import Digest, Record
from sourcebook.ports.documents import BATCH_BYTES, CollectionInfo
from sourcebook.settings import Settings

_OPEN_COLLECTIONS = 32
_HELD_SCANS = 128
_INLINE_IDS = 64  # so few look-ups cost less than the switch to a thread
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "fuse.s3fs", "9p", "ceph", "glusterfs"}
)
_ReadBatch = Callable[[bytes, int, int], tuple[list[Record], bool]]


class LmdbDocumentStore:
    """The documents port on LMDB folders."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._new = root / ".new"
        self._open: OrderedDict[str, OpenCollection] = OrderedDict()
        self._mutex = threading.Lock()
        self._scans = 0

    @asynccontextmanager
    async def create(self, name: str) -> AsyncIterator[LmdbWriter]:
        target = self._path(name)
        async with self._new_folder(name) as folder:
            writer = LmdbWriter(folder, target)
            try:
                yield writer
            finally:
                await asyncio.to_thread(writer.abort)

    @asynccontextmanager
    async def derive(self, name: str, base: str) -> AsyncIterator[LmdbPatcher]:
        target = self._path(name)
        async with self._new_folder(name) as folder:
            info = await asyncio.to_thread(self._copy, base, folder)
            patcher = LmdbPatcher(folder, target, info)
            try:
                yield patcher
            finally:
                await asyncio.to_thread(patcher.abort)

    def _copy(self, base: str, folder: Path) -> StoredInfo:
        path = self._path(base)
        info = read_info(path)
        if info is None:
            raise _not_found(base)
        try:
            check_files(path, info)  # what is damaged must not live on in a copy
            fill_folder_with_copy(folder, read_segments(path))
        except (FileNotFoundError, StoreDamaged) as error:
            if read_info(path) is None:  # it was dropped meanwhile
                raise _not_found(base) from error
            raise
        return info

    async def join(self, name: str, pieces: Sequence[str]) -> CollectionInfo:
        target = self._path(name)
        async with self._new_folder(name) as folder:
            joining = asyncio.ensure_future(asyncio.to_thread(self._join, folder, target, pieces))
            try:
                return await asyncio.shield(joining)
            finally:  # the thread goes on when we are cancelled: the folder must not be removed under it
                await asyncio.wait({joining})

    def _join(self, folder: Path, target: Path, pieces: Sequence[str]) -> CollectionInfo:
        digest, size, last = Digest(), 0, b""
        segments: list[Segment] = []
        known: dict[Path, StoredFile] = {}
        for piece in pieces:
            with self._reading(piece) as collection:
                info = read_info(self._path(piece))
                if info is None:  # it was dropped since it was opened
                    raise _not_found(piece)
                known |= {self._path(piece) / file.name: file for file in info.files}
                for first, end, path in collection.read_ends():
                    if segments and first <= last:
                        raise ValueError(f"key {first!r} does not follow {last!r}")
                    segments.append(Segment(first, path))
                    last = end
            digest.join(info.count, info.digest)
            size += info.size
        try:
            files = fill_folder_with_links(folder, segments, known)
        except FileNotFoundError as error:
            raise _not_found(str(pieces)) from error
        size = sum(file.size for file in files) or size
        info = StoredInfo(name=target.name, count=digest.count, digest=digest.hex(), size=size, files=files)
        return publish_folder(folder, target, info)

    async def sample_keys(self, name: str, step: int) -> list[bytes]:
        with self._reading(name) as collection:
            return await asyncio.to_thread(collection.read_keys, step)

    @asynccontextmanager
    async def _new_folder(self, name: str) -> AsyncIterator[Path]:
        """Make a folder to fill; its lock file says that we live. Who commits renames the folder, who aborts removes it."""
        folder = self._new / f"{name}.{secrets.token_hex(4)}"
        self._new.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(remove_leftovers, self._new)
        guard = hold_lock_file(folder)
        try:
            folder.mkdir()
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            guard.close()
            lock_path(folder).unlink(missing_ok=True)

    async def info(self, name: str) -> CollectionInfo | None:
        return read_info(self._path(name))

    async def check(self, name: str) -> None:
        await asyncio.to_thread(self._check, name)

    def _check(self, name: str) -> None:
        info = read_info(self._path(name))
        if info is None:
            raise _not_found(name)
        with self._reading(name):  # one that is dropped meanwhile is not damage
            try:
                check_files(self._path(name), info)
            except StoreDamaged as error:
                if read_info(self._path(name)) is None:
                    raise _not_found(name) from error
                raise

    async def verify(self, name: str) -> list[str]:
        info = read_info(self._path(name))
        if info is None:
            raise _not_found(name)
        problems = await asyncio.to_thread(verify_collection, self._path(name), info)
        if problems and read_info(self._path(name)) is None:  # it is not damaged, it was dropped meanwhile
            raise _not_found(name)
        return problems

    async def scan(
        self,
        name: str,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        size: int = 5000,
        max_bytes: int = BATCH_BYTES,
    ) -> AsyncIterator[list[Record]]:
        position, more = start or b"", True
        async with self._scanning(name) as read:
            while more:
                batch, more = await asyncio.to_thread(read, position, size, max_bytes)
                if stop is not None and batch and batch[-1][0] >= stop:
                    batch = batch[: bisect_left(batch, stop, key=lambda record: record[0])]
                    more = False
                if batch:
                    yield batch
                    position = batch[-1][0] + b"\0"

    @asynccontextmanager
    async def _scanning(self, name: str) -> AsyncIterator[_ReadBatch]:
        """Give what reads the batches of a collection; one that is dropped meanwhile is read to its end.

        Beyond a number of scans at once, files are opened for each batch, so that there are never too many: one that is dropped
        then is gone.
        """
        self._scans += 1
        try:
            if self._scans <= _HELD_SCANS:
                with self._reading(name) as collection:
                    yield collection.read_batch
            else:
                with self._reading(name) as collection:
                    identity = collection.identity
                yield partial(self._read_batch, name, identity)
        finally:
            self._scans -= 1

    def _read_batch(self, name: str, identity: object, *place: Any) -> tuple[list[Record], bool]:
        with self._reading(name) as collection:
            if collection.identity != identity:
                raise _not_found(name)
            return collection.read_batch(*place)

    async def get_many(self, name: str, ids: Sequence[str], *, max_bytes: int | None = None) -> list[bytes | None]:
        if len(ids) <= _INLINE_IDS:
            return self._get_many(name, ids, max_bytes)
        return await asyncio.to_thread(self._get_many, name, ids, max_bytes)

    def _get_many(self, name: str, ids: Sequence[str], max_bytes: int | None) -> list[bytes | None]:
        with self._reading(name) as collection:
            return collection.get_many(ids, max_bytes)

    async def names(self) -> list[str]:
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if (path / INFO_FILE).is_file())

    async def drop(self, name: str) -> None:
        path = self._path(name)
        self._new.mkdir(parents=True, exist_ok=True)
        trash = self._new / f"{name}.{secrets.token_hex(4)}"
        try:
            path.rename(trash)
        except FileNotFoundError:
            return
        with self._mutex:
            collection = self._open.pop(name, None)
        if collection is not None:
            collection.retire()
        # Readers keep their map of the deleted file until they close it.
        await asyncio.to_thread(shutil.rmtree, trash, ignore_errors=True)

    async def close(self) -> None:
        with self._mutex:
            while self._open:
                self._open.popitem()[1].retire()

    @contextmanager
    def _reading(self, name: str) -> Iterator["OpenCollection"]:
        with self._mutex:
            collection = self._open.get(name)
            if collection is None:
                collection = self._open[name] = self._open_collection(name)
            self._open.move_to_end(name)
            collection.start_reading()
        try:
            yield collection
        finally:
            collection.stop_reading()

    def _open_collection(self, name: str) -> "OpenCollection":
        path = self._path(name)
        info = read_info(path)
        if info is None:
            raise _not_found(name)
        idle = [key for key, collection in self._open.items() if not collection.readers]
        gone = [key for key in idle if not self._path(key).is_dir()]
        for key in {*gone, *idle[: max(0, len(self._open) - _OPEN_COLLECTIONS + 1)]}:
            self._open.pop(key).retire()
        try:
            return OpenCollection(path, info)
        except FileNotFoundError as error:
            raise _not_found(name) from error
        except StoreDamaged as error:
            if read_info(path) is None:  # it is not damaged, it was dropped just now
                raise _not_found(name) from error
            raise

    def _path(self, name: str) -> Path:
        if "/" in name or name.startswith("."):
            raise _not_found(name)
        return self._root / name


def _not_found(name: str) -> NotFound:
    return NotFound(f"There is no collection {name!r}.", collection=name)


def refuse_network_file_system(path: Path) -> None:
    """Memory maps and file locks are not dependable over a network.

    Raises:
        SettingsError: `path` lies on a network file system.
    """
    best = ("", "")
    for line in Path("/proc/mounts").read_text().splitlines() if Path("/proc/mounts").exists() else []:
        _, mount, kind, *_ = line.split()
        if path.is_relative_to(mount) and len(mount) > len(best[0]):
            best = (mount, kind)
    if best[1] in _NETWORK_FILE_SYSTEMS:
        raise SettingsError(
            f"{path} is on a network file system ({best[1]}), where the embedded stores would be damaged. Point SOURCEBOOK_HOME "
            "to a local disk, or use MongoDB (SOURCEBOOK_DOCUMENTS_URL).",
            path=str(path),
        )


async def open_lmdb(settings: Settings) -> LmdbDocumentStore:
    """Open the collections under HOME/documents, or under the folder of `lmdb:/path`."""
    path = settings.documents_url.partition(":")[2].removeprefix("//")
    root = Path(path) if path else settings.home / "documents"
    root.mkdir(parents=True, exist_ok=True)
    refuse_network_file_system(root.resolve())
    return LmdbDocumentStore(root)
