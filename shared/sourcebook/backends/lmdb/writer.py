"""Fills folders of LMDB collections: from nothing (`LmdbWriter`), or from a copy of another one (`LmdbPatcher`).

Nothing is visible before the rename at commit, so there is one sync at the end instead of one a transaction.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import lmdb

from sourcebook.backends.checksums import StoredFile, describe_file
from sourcebook.backends.lmdb.layout import DATA_FILE, INFO_FILE, SEGMENTS_FILE, Segment, StoredInfo, read_info
from sourcebook.backends.lmdb.reader import OpenFile
from sourcebook.errors import EngineUnavailable
from sourcebook.hub.documents.record import Digest, Record
from sourcebook.ports.documents import CollectionInfo

MAP_BYTES = 1 << 40  # address space, not disk: the file grows as it is filled
_RECORDS_PER_TRANSACTION = 100_000
_BYTES_PER_TRANSACTION = 64 * 1024 * 1024  # LMDB holds in memory what a transaction has written
_COPY_BYTES = 1 << 30  # the most that one call copies


class _FolderWriter:
    """What both writers share: one write transaction at a time, cut now and then, and the commit of the folder."""

    def __init__(self, folder: Path, target: Path, digest: Digest) -> None:
        self.committed = False
        self._folder = folder
        self._target = target
        self._digest = digest
        self._is_checked = True
        self._pending = self._pending_bytes = 0
        # A task that is cancelled leaves its thread writing: whoever comes next waits for it.
        self._mutex = threading.Lock()
        self._env = lmdb.open(str(folder), map_size=MAP_BYTES, sync=False, metasync=False, lock=False, max_spare_txns=0)
        self._txn = self._env.begin(write=True)

    async def commit(self) -> CollectionInfo:
        return await asyncio.to_thread(self._locked, self._commit)

    def abort(self) -> None:
        """Remove what was written, unless it is committed."""
        with self._mutex:
            if self.committed:
                return
            self._txn.abort()
            self._env.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _locked(self, work: Callable[..., Any], *arguments: Any) -> Any:
        with self._mutex:
            try:
                return work(*arguments)
            except lmdb.Error as error:
                raise _unwritable(self._folder, error) from error

    def _count_changes(self, count: int, size: int) -> None:
        self._pending += count
        self._pending_bytes += size
        if self._pending >= _RECORDS_PER_TRANSACTION or self._pending_bytes >= _BYTES_PER_TRANSACTION:
            self._txn.commit()
            self._txn = self._env.begin(write=True)
            self._pending = self._pending_bytes = 0

    def _commit(self) -> CollectionInfo:
        self._txn.commit()
        self._env.sync(True)  # noqa: FBT003 - LMDB's own signature
        self._env.close()
        file = describe_file(self._folder / DATA_FILE)
        info = StoredInfo(
            name=self._target.name,
            count=self._digest.count,
            digest=self._digest.hex(),
            size=file.size,
            files=[file] if self._is_checked else [],
        )
        self.committed = True
        return publish_folder(self._folder, self._target, info)


class LmdbWriter(_FolderWriter):
    """Fills one new collection."""

    def __init__(self, folder: Path, target: Path) -> None:
        super().__init__(folder, target, Digest())
        self._last = b""

    async def write(self, records: Sequence[Record]) -> None:
        if records:
            await asyncio.to_thread(self._locked, self._write, records)

    def _write(self, records: Sequence[Record]) -> None:
        if records[0][0] <= self._last and self._digest.count:
            raise ValueError(f"key {records[0][0]!r} does not follow {self._last!r}")
        consumed, added = self._txn.cursor().putmulti(records, dupdata=False, append=True)
        if added != consumed:
            raise ValueError("keys of a collection must strictly ascend")
        self._last = records[-1][0]
        values = [value for _, value in records]
        self._digest.add(values)
        self._count_changes(len(values), sum(map(len, values)))


class LmdbPatcher(_FolderWriter):
    """Changes the copy of a collection."""

    def __init__(self, folder: Path, target: Path, base: StoredInfo) -> None:
        super().__init__(folder, target, Digest(base.count, base.digest))
        # A checksum of what was copied unchecked would call a damaged file good.
        self._is_checked = bool(base.files)

    async def put(self, records: Sequence[Record]) -> None:
        if records:
            await asyncio.to_thread(self._locked, self._put, records)

    async def delete(self, keys: Sequence[bytes]) -> None:
        if keys:
            await asyncio.to_thread(self._locked, self._delete, keys)

    def _put(self, records: Sequence[Record]) -> None:
        known = [self._txn.replace(key, value) for key, value in records]
        gone = [value for value in known if value is not None]
        values = [value for _, value in records]
        self._digest.remove(gone)
        self._digest.add(values)
        self._count_changes(len(values), sum(map(len, values)) + sum(map(len, gone)))

    def _delete(self, keys: Sequence[bytes]) -> None:
        known = [self._txn.pop(key) for key in keys]
        gone = [value for value in known if value is not None]
        self._digest.remove(gone)
        self._count_changes(len(keys), sum(map(len, gone)))


def publish_folder(folder: Path, target: Path, info: StoredInfo) -> CollectionInfo:
    """Make a complete folder visible in one step; return what is visible now."""
    _write_durably(folder / INFO_FILE, info.model_dump_json())
    try:
        folder.rename(target)
    except OSError:
        # The same job ran twice and the first run committed: its collection stays.
        shutil.rmtree(folder, ignore_errors=True)
        return read_info(target) or info
    _sync_folder(target.parent)
    return info


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def fill_folder_with_links(
    folder: Path, segments: Sequence[Segment], known: Mapping[Path, StoredFile]
) -> list[StoredFile]:
    """Give a folder the files of other collections, whose keys follow one another: they never change, so links will do.

    Args:
        folder: the new one.
        segments: what it is to have.
        known: what the records of these collections say of their files.

    Returns:
        What is known of the files under their new names: all or none.

    Raises:
        FileNotFoundError: a file is gone.
    """
    for number, segment in enumerate(segments):
        target = folder / f"{number}.mdb"
        try:
            target.hardlink_to(segment.path)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            copy_file(segment.path, target)
    _write_durably(folder / SEGMENTS_FILE, json.dumps([segment.first.hex() for segment in segments]))
    files = [
        known[segment.path].model_copy(update={"name": f"{number}.mdb"})
        for number, segment in enumerate(segments)
        if segment.path in known
    ]
    return files if len(files) == len(segments) else []


def fill_folder_with_copy(folder: Path, segments: Sequence[Segment]) -> None:
    """Give a folder one file with the records of a collection.

    Raises:
        FileNotFoundError: a file is gone.
    """
    if len(segments) == 1:
        copy_file(segments[0].path, folder / DATA_FILE)
        return
    try:
        with lmdb.open(str(folder), map_size=MAP_BYTES, sync=False, metasync=False, lock=False) as env:
            for segment in segments:
                _append_file(env, segment.path)
    except lmdb.Error as error:
        raise _unwritable(folder, error) from error


def _append_file(env: lmdb.Environment, path: Path) -> None:
    with (
        contextlib.closing(OpenFile(path)) as file,
        file.env.begin(buffers=True) as reading,
        reading.cursor() as cursor,
    ):
        records = cursor.iternext()
        taken = _RECORDS_PER_TRANSACTION
        while taken == _RECORDS_PER_TRANSACTION:
            with env.begin(write=True) as txn:
                taken, _ = txn.cursor().putmulti(islice(records, taken), dupdata=False, append=True)


def _unwritable(folder: Path, error: Exception) -> EngineUnavailable:
    return EngineUnavailable(f"LMDB could not write to {folder}: {error}. Is the disk full?")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file inside the kernel, on file systems that share blocks (btrfs, xfs) without copying any byte.

    Raises:
        FileNotFoundError: there is no such file.
        EngineUnavailable: it could not be written.
    """
    with source.open("rb") as reader:
        try:
            with target.open("wb") as writer:
                _copy_bytes(reader, writer)
        except OSError as error:
            raise _unwritable(target.parent, error) from error


def _copy_bytes(reader: IO[bytes], writer: IO[bytes]) -> None:
    try:
        while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_BYTES):
            pass
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in {
            errno.EXDEV,
            errno.ENOSYS,
            errno.EINVAL,
            errno.EOPNOTSUPP,
        }:
            raise
        # Another file system, or a system that is not Linux.
        reader.seek(0)
        writer.seek(0)
        shutil.copyfileobj(reader, writer, 1 << 20)


def lock_path(folder: Path) -> Path:
    """Return the lock file of a folder that is being filled."""
    return folder.with_name(folder.name + ".lock")  # not with_suffix: names have dots


def hold_lock_file(folder: Path) -> IO[str]:
    """Create and lock `<folder>.lock`; the lock goes when the file is closed or the process dies."""
    path = lock_path(folder)
    while True:
        guard = path.open("w")
        fcntl.flock(guard, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(guard.fileno()), path.stat()):
                return guard
        guard.close()  # somebody took it for a leftover before it was locked


def remove_leftovers(parent: Path) -> None:
    """Remove the folders in `parent` whose writer is dead, and lock files without a folder."""
    for path in list(parent.iterdir()):
        is_guard = path.suffix == ".lock"
        folder = path.with_suffix("") if is_guard else path
        if is_guard and folder.exists():
            continue
        try:
            with lock_path(folder).open("r+") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                lock_path(folder).unlink(missing_ok=True)
        except FileNotFoundError:
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
