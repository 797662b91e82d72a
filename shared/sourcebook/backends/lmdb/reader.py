"""Reads LMDB collections; `lmdb_files` says what they consist of."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import ClassVar

import lmdb

from sourcebook.backends.lmdb.layout import StoredInfo, check_sizes, damaged, read_segments
from sourcebook.errors import EngineUnavailable, StoreDamaged
from sourcebook.hub.documents.record import HASH_BYTES, Record, content_hash, record_key

_INLINE_BYTES = 2040  # LMDB has larger values on pages of their own (overflow), which it counts
_STEP = 16  # records that are read before their size is looked at


class OpenFile:
    """A complete file that is open for reading: it never changes, so no lock file is needed, and no more room than it takes.

    LMDB must not open a file twice in a process, and a joined collection has the files of its pieces: users share it.

    Raises:
        FileNotFoundError: it is gone.
        StoreDamaged: it is not a complete LMDB file.
    """

    _mutex = threading.Lock()
    _shared: ClassVar[dict[tuple[int, int], tuple[lmdb.Environment, int]]] = {}  # with its users

    def __init__(self, path: Path) -> None:
        status = path.stat()
        self._place = status.st_dev, status.st_ino
        # An inode that is free again may be used for the next file.
        self.identity = *self._place, status.st_mtime_ns
        with self._mutex:
            self.env, users = self._shared.get(self._place) or (_open_environment(path, status.st_size), 0)
            self._shared[self._place] = self.env, users + 1
        self.has_large_values = self.env.stat()["overflow_pages"] > 0

    def close(self) -> None:
        """Close the file if nobody else uses it."""
        with self._mutex:
            _, users = self._shared.pop(self._place)
            if users > 1:
                self._shared[self._place] = self.env, users - 1
            else:
                self.env.close()


def _open_environment(path: Path, size: int) -> lmdb.Environment:
    try:
        env = lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_spare_txns=8, map_size=max(1, size))
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
        raise damaged(path.parent, f"{path.name}: {error}") from error
    except lmdb.Error as error:
        if not path.exists():
            raise FileNotFoundError(str(path)) from error
        raise EngineUnavailable(f"LMDB cannot open {path}: {error}.", collection=path.parent.name) from error
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if needed > size:
        env.close()
        raise damaged(path.parent, f"{path.name} has {size:,} bytes, its pages need {needed:,}")
    return env


class OpenCollection:
    """An open collection; it is closed when it is retired and nobody reads it any more.

    Raises:
        FileNotFoundError: it is gone.
        StoreDamaged: it is not what its record says.
    """

    def __init__(self, folder: Path, info: StoredInfo) -> None:
        check_sizes(folder, info)
        self.segments = read_segments(folder)
        self._folder = folder
        self.readers = 0
        self._firsts = [segment.first for segment in self.segments]
        self._files: list[OpenFile] = []
        self._is_retired = False
        self._mutex = threading.Lock()
        try:
            self._files += map(OpenFile, [segment.path for segment in self.segments])
        except (FileNotFoundError, StoreDamaged, EngineUnavailable):
            self.retire()
            raise

    @property
    def identity(self) -> list[tuple[int, int, int]]:
        """Which files it has: a collection that was made again under the same name has others."""
        return [file.identity for file in self._files]

    def start_reading(self) -> bool:
        """Count a reader; return False if the files are closed already."""
        with self._mutex:
            if self._is_retired and not self.readers:
                return False
            self.readers += 1
            return True

    def stop_reading(self) -> None:
        """Count a reader less."""
        with self._mutex:
            self.readers -= 1
            self._close_if_unused()

    def retire(self) -> None:
        """Close the files as soon as nobody reads them."""
        with self._mutex:
            self._is_retired = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_retired and not self.readers:
            files, self._files = self._files, []
            for file in files:
                file.close()

    def get_many(self, ids: Sequence[str], max_bytes: int | None = None) -> list[bytes | None]:
        """Return the canonical JSON of each id, None where there is none; with `max_bytes` of the first ones alone.

        Raises:
            StoreDamaged: a document is not what its hash says.
        """
        found: list[bytes | None] = []
        used = 0
        with ExitStack() as stack:
            find = self._begin(stack)
            for item in ids:
                value = find(record_key(item)) if item else None
                if value is None:
                    found.append(None)
                    continue
                body = value[HASH_BYTES:]
                if content_hash(body) != value[:HASH_BYTES]:
                    raise damaged(self._folder, f"the document {item!r} is not what its hash says")
                used += len(body)
                if max_bytes is not None and used > max_bytes and found:
                    break
                found.append(body)
        return found

    def _begin(self, stack: ExitStack) -> Callable[[bytes], bytes | None]:
        """Begin to read every file; return what finds the value of a key."""
        txns = [stack.enter_context(file.env.begin()) for file in self._files]
        if len(txns) == 1:  # nearly always, and requests wait for it
            return txns[0].get

        def find(key: bytes) -> bytes | None:
            place = bisect_right(self._firsts, key) - 1
            return txns[place].get(key) if place >= 0 else None

        return find

    # What follows runs in threads, which count as readers of their own: a thread goes on when the task that waits is cancelled.

    def read_batch(self, position: bytes, size: int, max_bytes: int) -> tuple[list[Record], bool]:
        """Return records with keys from `position` on, at most `size` and about `max_bytes`, and whether more may follow.

        Raises:
            StoreDamaged: LMDB cannot read its file.
        """
        if not self.start_reading():
            return [], False
        try:
            return self._read_batch(position, size, max_bytes)
        except lmdb.Error as error:
            raise damaged(self._folder, str(error)) from error
        finally:
            self.stop_reading()

    def _read_batch(self, position: bytes, size: int, max_bytes: int) -> tuple[list[Record], bool]:
        batch: list[Record] = []
        for file in self._files[max(0, bisect_right(self._firsts, position) - 1) :]:
            with file.env.begin() as txn, txn.cursor() as cursor:
                if not (cursor.set_range(position) if position else cursor.first()):
                    continue
                if not file.has_large_values and size * _INLINE_BYTES <= max_bytes:
                    batch += islice(cursor.iternext(), size - len(batch))
                    is_full = len(batch) == size
                else:
                    is_full = _read_bounded(cursor.iternext(), batch, size, max_bytes)
            if is_full:
                return batch, True
        return batch, False

    def read_keys(self, step: int) -> list[bytes]:
        """Return every `step`-th key of each file."""
        keys: list[bytes] = []
        if not self.start_reading():
            return keys
        try:
            for file in self._files:
                with file.env.begin() as txn, txn.cursor() as cursor:
                    keys += islice(cursor.iternext(values=False), step - 1, None, step)
            return keys
        finally:
            self.stop_reading()

    def read_ends(self) -> list[tuple[bytes, bytes, Path]]:
        """Return the first and the last key of each file that has any, and the file."""
        ends = []
        for file, segment in zip(self._files, self.segments, strict=True):
            with file.env.begin() as txn, txn.cursor() as cursor:
                if cursor.first():
                    first = cursor.key()
                    cursor.last()
                    ends.append((first, cursor.key(), segment.path))
        return ends


def _read_bounded(records: Iterator[Record], batch: list[Record], size: int, max_bytes: int) -> bool:
    """Read on until a batch has `size` records or about `max_bytes`; return whether it has."""
    used = sum([len(value) for _, value in batch])
    while len(batch) < size and used < max_bytes:
        # As many as fit if they are like those before; few, because they may be larger.
        fitting = max(1, (max_bytes - used) * len(batch) // max(used, 1))
        wanted = min(_STEP, size - len(batch), fitting)
        more = list(islice(records, wanted))
        batch += more
        used += sum([len(value) for _, value in more])
        if len(more) < wanted:
            return False
    return True
