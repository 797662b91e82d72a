"""Reads folders of LMDB collections: one file each, or several whose keys follow one another (segments, of joined collections).

<collection>/info.json        count, digest, size
<collection>/data.mdb         all records; or
<collection>/segments.json    the first key of each segment, in hexadecimal
<collection>/0.mdb, 1.mdb ... its records
"""

import json
import threading
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lmdb

from sourcebook.model.document import HASH_BYTES, Record, record_key

DATA_FILE = "data.mdb"
SEGMENTS_FILE = "segments.json"


class Segment(NamedTuple):
    """A file of a collection, and from which key on it has the records."""

    first: bytes
    path: Path


def read_segments(folder: Path) -> list[Segment]:
    """Return the files of a collection, in key order."""
    try:
        firsts = json.loads((folder / SEGMENTS_FILE).read_bytes())
    except FileNotFoundError:
        return [Segment(b"", folder / DATA_FILE)]
    return [Segment(bytes.fromhex(first), folder / f"{number}.mdb") for number, first in enumerate(firsts)]


class OpenFile:
    """A complete file that is open for reading: it never changes, so no lock file is needed, and no more room than it takes.

    LMDB must not open a file twice in a process, and a joined collection has the files of its parts: users share it.

    Raises:
        FileNotFoundError: it is gone.
    """

    _mutex = threading.Lock()
    _shared: ClassVar[dict[tuple[int, int], tuple[lmdb.Environment, int]]] = {}  # by device and inode: with its users

    def __init__(self, path: Path) -> None:
        status = path.stat()
        self._identity = status.st_dev, status.st_ino
        with self._mutex:
            self.env, users = self._shared.get(self._identity) or (_open_environment(path, status.st_size), 0)
            self._shared[self._identity] = self.env, users + 1

    def close(self) -> None:
        """Close the file if nobody else uses it."""
        with self._mutex:
            _, users = self._shared.pop(self._identity)
            if users > 1:
                self._shared[self._identity] = self.env, users - 1
            else:
                self.env.close()


def _open_environment(path: Path, size: int) -> lmdb.Environment:
    try:
        return lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_spare_txns=8, map_size=max(1, size))
    except lmdb.Error as error:
        if path.exists():
            raise
        raise FileNotFoundError(str(path)) from error


class OpenCollection:
    """An open collection; it is closed when it is retired and nobody reads it any more.

    Raises:
        FileNotFoundError: it is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.segments = read_segments(folder)
        self.readers = 0
        self._firsts = [segment.first for segment in self.segments]
        self._files: list[OpenFile] = []
        self._is_retired = False
        self._mutex = threading.Lock()
        try:
            self._files += map(OpenFile, [segment.path for segment in self.segments])
        except FileNotFoundError:
            self.retire()
            raise

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

    def get_many(self, ids: Sequence[str]) -> list[bytes | None]:
        """Return the canonical JSON of each id, None where there is none."""
        if len(self._files) == 1:  # nearly always, and requests wait for it
            with self._files[0].env.begin(buffers=True) as txn:
                values = [txn.get(record_key(item)) if item else None for item in ids]
                return [None if value is None else bytes(value[HASH_BYTES:]) for value in values]
        with ExitStack() as stack:
            txns = [stack.enter_context(file.env.begin(buffers=True)) for file in self._files]
            values = [self._find(txns, record_key(item)) if item else None for item in ids]
            return [None if value is None else bytes(value[HASH_BYTES:]) for value in values]

    def _find(self, txns: Sequence[lmdb.Transaction], key: bytes) -> Any:
        place = bisect_right(self._firsts, key) - 1
        return txns[place].get(key) if place >= 0 else None

    # What follows runs in threads, which count as readers of their own: a thread goes on when the task that waits is cancelled.

    def read_batch(self, position: bytes, size: int) -> list[Record]:
        """Return up to `size` records with keys from `position` on."""
        batch: list[Record] = []
        if not self.start_reading():
            return batch
        try:
            for file in self._files[max(0, bisect_right(self._firsts, position) - 1) :]:
                with file.env.begin() as txn, txn.cursor() as cursor:
                    found = cursor.set_range(position) if position else cursor.first()
                    batch += islice(cursor.iternext(), size - len(batch)) if found else []
                if len(batch) == size:
                    break
            return batch
        finally:
            self.stop_reading()

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
