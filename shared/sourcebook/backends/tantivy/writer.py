"""Writing a tantivy index: into a folder beside its final place, which it takes in one rename at commit.

A writer holds a lock on its temporary folder. A folder that is not locked was left by a process that died; the next writer
removes it.
"""

import fcntl
import os
import shutil
import threading
import uuid
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import tantivy

from sourcebook.backends.checksums import describe_file
from sourcebook.backends.tantivy.fields import FieldTable, build_schema
from sourcebook.backends.tantivy.flatten import DocumentFlattener
from sourcebook.backends.tantivy.ids import IDS_FILE, OFFSETS_FILE, build_number
from sourcebook.backends.tantivy.index import FORMAT, MANIFEST_FILE, META_FILE
from sourcebook.errors import Busy, Conflict, EngineUnavailable
from sourcebook.hub.documents.record import Digest, Record, content_hash
from sourcebook.hub.mappings.model import Properties

TEMPORARY_PREFIX = ".new-"
DROPPED_PREFIX = ".dropped-"
LOCK_FILE = ".lock"
_HEAP_BYTES = 240_000_000  # of all threads together; a segment is written when a thread's share is full
_MAX_THREADS = 2
_BACKLOG_DOCUMENTS = 10_000  # tantivy's own bound: as many documents may wait for its threads, whatever their size
_BACKLOG_BYTES = 16 * 1024 * 1024


class Backlog:
    """Bounds by bytes what waits for tantivy's threads: tantivy bounds it by the number of documents alone."""

    def __init__(self) -> None:
        self._documents = 0
        self._bytes = 0

    def is_full(self, records: Sequence[Record]) -> bool:
        """Count what was handed to tantivy, and return whether too many bytes may wait: a commit ends when none do."""
        self._documents += len(records)
        self._bytes += sum(len(value) for _, value in records)
        if self._bytes < _BACKLOG_BYTES:
            return False
        may_all_wait = self._documents < _BACKLOG_DOCUMENTS
        self._documents = self._bytes = 0
        return may_all_wait


class TantivyIndexWriter:
    """Implements ports.search.IndexWriter, in worker threads.

    A task that is cancelled leaves its thread running: one lock makes `discard` wait for it, so that no half index is published.
    """

    def __init__(self, home: Path, manifest: dict[str, Any]) -> None:
        self._table = FieldTable(manifest["properties"])
        self._home = home
        self._manifest = manifest
        self._folder, self._folder_lock = make_temporary_folder(home, manifest["name"])
        self._lock = threading.Lock()
        self._flattener = DocumentFlattener(self._table)
        self._writer: Any = None
        self._backlog = Backlog()
        self._ids = (self._folder / IDS_FILE).open("wb")
        self._offsets = (self._folder / OFFSETS_FILE).open("wb")
        self._offsets.write(array("Q", [0]).tobytes())
        self._size = 0
        self._digest = Digest()
        self._is_over = False

    def open(self) -> None:
        """Start tantivy's threads."""
        with self._lock:
            index = tantivy.Index(build_schema(self._table), str(self._folder))
            index.config_reader("manual")
            self._writer = index.writer(_HEAP_BYTES, min(_MAX_THREADS, os.cpu_count() or 1))

    def add_records(self, records: Sequence[Record]) -> None:
        """Index documents."""
        with self._lock:
            self._refuse_if_over()
            flatten, add = self._flattener.flatten, self._writer.add_json
            ids: list[bytes] = []
            offsets = array("Q")
            for position, (_, value) in enumerate(records, self._digest.count):
                document_id, flat = flatten(value, build_number(position))
                try:
                    add(flat)
                except ValueError as error:
                    raise EngineUnavailable(f"tantivy cannot index document {document_id!r}: {error}") from error
                ids.append(document_id.encode())
                self._size += len(ids[-1])
                offsets.append(self._size)
            if self._backlog.is_full(records):
                self._writer.commit()
            self._digest.add([value for _, value in records])
            self._ids.write(b"".join(ids))
            self._offsets.write(offsets.tobytes())

    def publish(self) -> int:
        """Finish the index and give it its name. An index that has the name already stays."""
        with self._lock:
            self._refuse_if_over()
            try:
                self._writer.commit()
                self._writer.wait_merging_threads()
            except ValueError as error:
                raise EngineUnavailable(f"tantivy cannot finish the index {self._manifest['name']}: {error}") from error
            self._writer = None
            for file in (self._ids, self._offsets):
                sync_file(file)
                file.close()
            publish_folder(self._home, self._folder, self._manifest, self._digest)
            self._is_over = True
            return self._digest.count

    def discard(self) -> None:
        """Let go of everything, and remove what was not published."""
        with self._lock:
            self._is_over = True
            self._writer = None
            self._ids.close()
            self._offsets.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._folder_lock)

    def _refuse_if_over(self) -> None:
        if self._is_over:
            raise Conflict(f"The index {self._manifest['name']} is finished; nothing can be added to it.")


def new_manifest(name: str, collection: str, properties: Properties) -> dict[str, Any]:
    """Return what stands beside an index: enough to open it again. `generation` tells it from others of the same name.

    `fields` names the field of each leaf, `spent` the spare ones that were ever taken.
    """
    return {
        "format": FORMAT,
        "name": name,
        "collection": collection,
        "generation": uuid.uuid4().hex,
        "properties": properties,
        "fields": {leaf.path: leaf.name for leaf in FieldTable(properties).leaves},
        "spent": [],
    }


def publish_folder(home: Path, folder: Path, manifest: dict[str, Any], digest: Digest) -> None:
    """Finish the folder of a new index and give it its name. An index that has the name already stays."""
    meta = content_hash((folder / META_FILE).read_bytes()).hex()
    manifest |= {
        "count": digest.count,
        "digest": digest.hex(),
        "meta": meta,
        "files": _describe_files(folder, manifest),
    }
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.write(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        sync_file(file)
    _sync_folder(folder)
    final = home / manifest["name"]
    if not (final / MANIFEST_FILE).exists():
        folder.rename(final)
        _sync_folder(home)


def _describe_files(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return size and checksum of each file; those that a derived index shares with its base are not read again."""
    known = manifest.get("files", {})
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name == LOCK_FILE or path.suffix == ".lock":
            continue
        is_shared = path.name in known and path.stat().st_nlink > 1
        files[path.name] = known[path.name] if is_shared else describe_file(path).model_dump(exclude={"name"})
    return files


def make_temporary_folder(home: Path, name: str) -> tuple[Path, int]:
    """Make a locked folder for a new index and return it with the lock, an open file; remove those of dead processes.

    Raises:
        Busy: another process took the folder at the same moment.
    """
    home.mkdir(parents=True, exist_ok=True)
    remove_leftovers(home)
    folder = home / f"{TEMPORARY_PREFIX}{name}-{uuid.uuid4().hex[:12]}"
    lock = _lock_folder(folder)
    if lock is None:
        raise Busy(f"The folder of the new index {name} is taken; try again.")
    return folder, lock


def remove_leftovers(home: Path) -> None:
    """Remove what dead processes left behind."""
    for prefix in (TEMPORARY_PREFIX, DROPPED_PREFIX):
        for folder in home.glob(f"{prefix}*"):
            if (lock := _try_lock(folder / LOCK_FILE)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock_folder(folder: Path) -> int | None:
    # The lock exists before the folder has its name, so that no other process sees it unlocked.
    nameless = folder.with_name(f".lock-{folder.name}")
    nameless.mkdir()
    lock = _try_lock(nameless / LOCK_FILE)
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


def sync_file(file: BinaryIO | Any) -> None:
    """Have a file's content on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
