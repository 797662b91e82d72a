"""Writing a tantivy index: into a folder beside its final place, which it takes in one rename at commit.

A writer holds a lock on its temporary folder. A folder that is not locked was left by a process that died; the next writer
removes it.
"""

import fcntl
import os
import shutil
import uuid
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import tantivy

from sourcebook.backends.tantivy_documents import DocumentFlattener
from sourcebook.backends.tantivy_fields import FieldTable, build_schema
from sourcebook.backends.tantivy_index import FORMAT, IDS_FILE, MANIFEST_FILE, OFFSETS_FILE
from sourcebook.errors import Busy, EngineUnavailable
from sourcebook.model.document import Record
from sourcebook.model.mapping import Properties

TEMPORARY_PREFIX = ".new-"
DROPPED_PREFIX = ".dropped-"
_LOCK_FILE = ".lock"
_HEAP_BYTES = 240_000_000  # of all threads together; a segment is written when a thread's share is full
_MAX_THREADS = 2


class TantivyIndexWriter:
    """Implements ports.search.IndexWriter."""

    def __init__(self, folder: Path, final: Path, manifest: dict[str, Any], properties: Properties) -> None:
        table = FieldTable(properties)
        self._folder = folder
        self._final = final
        self._manifest = manifest
        self._flattener = DocumentFlattener(table)
        self._index = tantivy.Index(build_schema(table), str(folder))
        self._index.config_reader("manual")
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        self._writer: Any = self._index.writer(_HEAP_BYTES, threads)
        self._ids = (folder / IDS_FILE).open("wb")
        self._offsets = (folder / OFFSETS_FILE).open("wb")
        self._offsets.write(array("Q", [0]).tobytes())
        self._size = 0
        self._count = 0
        self.is_committed = False

    def add_records(self, records: Sequence[Record]) -> None:
        """Index documents (in a worker thread)."""
        flatten, add = self._flattener.flatten, self._writer.add_json
        ids: list[bytes] = []
        offsets = array("Q")
        for number, (_, value) in enumerate(records, self._count):
            document_id, flat = flatten(value, number)
            try:
                add(flat)
            except ValueError as error:
                raise EngineUnavailable(f"tantivy cannot index document {document_id!r}: {error}") from error
            ids.append(document_id.encode())
            self._size += len(ids[-1])
            offsets.append(self._size)
        self._count += len(ids)
        self._ids.write(b"".join(ids))
        self._offsets.write(offsets.tobytes())

    def publish(self) -> int:
        """Finish the index and give it its name (in a worker thread). An index that has the name already stays."""
        self._writer.commit()
        self._writer.wait_merging_threads()
        self._writer = None
        del self._index
        for file in (self._ids, self._offsets):
            _sync(file)
            file.close()
        self._manifest["count"] = self._count
        with (self._folder / MANIFEST_FILE).open("wb") as file:
            file.write(orjson.dumps(self._manifest, option=orjson.OPT_INDENT_2))
            _sync(file)
        _sync_folder(self._folder)
        if not (self._final / MANIFEST_FILE).exists():
            self._folder.rename(self._final)
            _sync_folder(self._final.parent)
        self.is_committed = True
        return self._count

    def close(self) -> None:
        """Let go of every file."""
        self._writer = None
        self._ids.close()
        self._offsets.close()


def new_manifest(name: str, collection: str, properties: Properties) -> dict[str, Any]:
    """Return what stands beside an index: enough to open it again. `generation` tells it from others of the same name."""
    return {
        "format": FORMAT,
        "name": name,
        "collection": collection,
        "generation": uuid.uuid4().hex,
        "properties": properties,
    }


@contextmanager
def temporary_folder(home: Path, name: str) -> Iterator[Path]:
    """Make a locked folder for a new index; it is removed at the end unless it was renamed.

    Raises:
        Busy: another process made the same folder at the same moment.
    """
    home.mkdir(parents=True, exist_ok=True)
    remove_leftovers(home)
    folder = home / f"{TEMPORARY_PREFIX}{name}-{uuid.uuid4().hex[:12]}"
    lock = _lock_folder(folder)
    if lock is None:
        raise Busy(f"The folder of the new index {name} is taken; try again.")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(home: Path) -> None:
    """Remove what dead processes left behind."""
    for prefix in (TEMPORARY_PREFIX, DROPPED_PREFIX):
        for folder in home.glob(f"{prefix}*"):
            if (lock := _try_lock(folder / _LOCK_FILE)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock_folder(folder: Path) -> int | None:
    # The lock exists before the folder has its name, so that no other process sees it unlocked.
    nameless = folder.with_name(f".lock-{folder.name}")
    nameless.mkdir()
    lock = _try_lock(nameless / _LOCK_FILE)
    nameless.rename(folder)
    return lock


def _try_lock(file: Path) -> int | None:
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _sync(file: BinaryIO | Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
