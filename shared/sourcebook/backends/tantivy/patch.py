"""Deriving a tantivy index: the base's segments, which never change, are linked into a new folder; what differs is added there.

The base is searched on undisturbed. As when an index is written at once, the folder takes its name in one rename, and what a
process leaves that dies before is removed by the next writer.
"""

import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import tantivy

from sourcebook.backends.tantivy.fields import ID_FIELD, FieldTable, choose_names
from sourcebook.backends.tantivy.flatten import DocumentFlattener
from sourcebook.backends.tantivy.ids import EDITS_FILE, IdEditor, IdTable
from sourcebook.backends.tantivy.index import MANIFEST_FILE, META_FILE, check_index, damaged
from sourcebook.backends.tantivy.writer import LOCK_FILE, Backlog, make_temporary_folder, publish_folder, sync_file
from sourcebook.errors import CannotDerive, Conflict, EngineUnavailable
from sourcebook.hub.documents.record import Digest, Record, content_hash, read_document
from sourcebook.hub.mappings.model import Properties

_MANAGED_FILE = ".managed.json"  # tantivy's list of its files
_HEAP_BYTES = 60_000_000
_MAX_WASTE = (
    0.5  # documents that were replaced or deleted, beside those that are searched; beyond, an index is written anew
)
_MAX_PENDING = 10_000  # new documents at one place of the order that are numbered together
_MAX_PENDING_BYTES = 32 * 1024 * 1024
_SMALL_STEP = 8  # between the numbers of such documents where more may follow
_ALL_ROOM = 1 << 20


class TantivyIndexPatcher:
    """Implements ports.search.IndexPatcher, in worker threads; the caller reads the base's documents."""

    def __init__(self, home: Path, base: dict[str, Any], manifest: dict[str, Any]) -> None:
        self._home = home
        self._base = base
        self._manifest = manifest
        self._digest = Digest(base["count"], base["digest"])
        self._folder, self._folder_lock = make_temporary_folder(home, manifest["name"])
        # A task that is cancelled leaves its thread running: `discard` waits for it.
        self._lock = threading.Lock()
        self._flattener = DocumentFlattener(FieldTable(manifest["properties"], manifest["fields"]))
        self._index: Any = None
        self._writer: Any = None
        self._ids: IdEditor
        self._touched: set[bytes] = set()
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._backlog = Backlog()
        self._room: tuple[int, int | None] = (0, 0)
        self._is_over = False

    def open(self) -> None:
        """Link the files of the base and start tantivy.

        Raises:
            IndexDamaged: someone changed the base.
            CannotDerive: the base was patched too often.
        """
        with self._lock:
            folder = self._home / self._base["name"]
            check_index(folder, self._base)
            _link_files(folder, self._folder)
            meta = (self._folder / META_FILE).read_bytes()
            if content_hash(meta).hex() != self._base["meta"]:
                raise damaged(folder.name)
            _refuse_waste(orjson.loads(meta)["segments"], self._base)
            try:
                self._index = tantivy.Index.open(str(self._folder))
                self._index.config_reader("manual")
                self._writer = self._index.writer(_HEAP_BYTES, 1)
            except ValueError as error:
                raise damaged(folder.name) from error
            self._ids = IdEditor(IdTable(self._folder))

    def put(self, records: Sequence[Record], before: Sequence[bytes | None]) -> None:
        """Add or replace documents; `before` is what the base's collection has of each."""
        with self._lock:
            self._refuse_if_over()
            for (key, value), body in zip(records, before, strict=True):
                self._touch(key)
                number = self._ids.find(key)
                self._check(number, body)
                if number is None:
                    self._put_new(key, value)
                else:
                    self._writer.delete_documents_by_term(ID_FIELD, read_document((key, value))["_id"])
                    self._add(value, number)
            if self._backlog.is_full(records):
                self._writer.commit()
            self._digest.remove([content_hash(body) for body in before if body is not None])
            self._digest.add([value for _, value in records])

    def delete(self, ids: Sequence[str], keys: Sequence[bytes], before: Sequence[bytes | None]) -> None:
        """Take documents out; `before` is what the base's collection has of each."""
        with self._lock:
            self._refuse_if_over()
            for document_id, key, body in zip(ids, keys, before, strict=True):
                self._touch(key)
                number = self._ids.find(key)
                self._check(number, body)
                if number is not None:
                    self._ids.remove(key)
                    self._writer.delete_documents_by_term(ID_FIELD, document_id)
            self._digest.remove([content_hash(body) for body in before if body is not None])

    def publish(self) -> int:
        """Finish the index and give it its name. An index that has the name already stays.

        Raises:
            IndexDamaged: it has another number of documents than it should have.
        """
        with self._lock:
            self._refuse_if_over()
            self._number_pending(is_last=True)
            try:
                self._writer.commit()
                self._writer.wait_merging_threads()
                self._index.reload()
            except ValueError as error:
                raise EngineUnavailable(f"tantivy cannot finish the index {self._manifest['name']}: {error}") from error
            self._writer = None
            if self._index.searcher().num_docs != self._digest.count:
                raise damaged(self._base["name"])
            with (self._folder / EDITS_FILE).open("wb") as file:
                file.write(self._ids.write())
                sync_file(file)
            publish_folder(self._home, self._folder, self._manifest, self._digest)
            self._is_over = True
            return self._digest.count

    def discard(self) -> None:
        """Let go of everything, and remove what was not published."""
        with self._lock:
            self._is_over = True
            self._writer = self._index = None
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._folder_lock)

    def _touch(self, key: bytes) -> None:
        if key in self._touched:
            raise ValueError(f"{key!r} is put or deleted twice")
        self._touched.add(key)

    def _check(self, number: int | None, body: bytes | None) -> None:
        # The base has exactly the documents of its collection, or it is not what it was.
        if (number is None) != (body is None):
            raise damaged(self._base["name"])

    def _put_new(self, key: bytes, value: bytes) -> None:
        number = self._ids.restore(key)
        if number is not None:
            self._add(value, number)
            return
        room = self._ids.room(key)
        if self._pending and (room != self._room or key < self._pending[-1][0]):
            self._number_pending(is_last=True)
            room = self._ids.room(key)
        self._room = room
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if len(self._pending) >= _MAX_PENDING or self._pending_bytes >= _MAX_PENDING_BYTES:
            self._number_pending(is_last=False)

    def _number_pending(self, *, is_last: bool) -> None:
        if not self._pending:
            return
        ids = [read_document((key, value))["_id"] for key, value in self._pending]
        numbers = self._ids.insert(ids, self._room, _ALL_ROOM if is_last else _SMALL_STEP)
        for (_, value), number in zip(self._pending, numbers, strict=True):
            self._add(value, number)
        self._pending, self._pending_bytes = [], 0

    def _add(self, value: bytes, number: int) -> None:
        document_id, flat = self._flattener.flatten(value, number)
        try:
            self._writer.add_json(flat)
        except ValueError as error:
            raise EngineUnavailable(f"tantivy cannot index document {document_id!r}: {error}") from error

    def _refuse_if_over(self) -> None:
        if self._is_over:
            raise Conflict(f"The index {self._manifest['name']} is finished; nothing can be changed in it.")


def derive_manifest(base: dict[str, Any], name: str, collection: str, properties: Properties) -> dict[str, Any]:
    """Return what will stand beside a derived index.

    Raises:
        CannotDerive: the mapping indexes a field otherwise than the base, or has more new ones than there is room for.
    """
    table = FieldTable(base["properties"], base["fields"])
    fields, spent = choose_names(table, properties, base["spent"])
    changes = {"name": name, "collection": collection, "properties": properties, "fields": fields, "spent": spent}
    return {**base, **changes, "generation": uuid.uuid4().hex}


def _link_files(folder: Path, target: Path) -> None:
    for path in folder.iterdir():
        if path.name in {MANIFEST_FILE, LOCK_FILE, EDITS_FILE} or path.suffix == ".lock":
            continue
        # tantivy replaces these two; all other files never change.
        if path.name in {META_FILE, _MANAGED_FILE}:
            shutil.copyfile(path, target / path.name)
            continue
        try:
            os.link(path, target / path.name)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, target / path.name)
    if (folder / EDITS_FILE).exists():
        shutil.copyfile(folder / EDITS_FILE, target / EDITS_FILE)


def _refuse_waste(segments: list[dict[str, Any]], base: dict[str, Any]) -> None:
    written = sum(segment["max_doc"] for segment in segments)
    deleted = sum((segment["deletes"] or {}).get("num_deleted_docs", 0) for segment in segments)
    if written - deleted != base["count"]:
        raise damaged(base["name"])
    if deleted > _MAX_WASTE * max(base["count"], 1000):
        raise CannotDerive(
            f"The index {base['name']} holds {deleted:,} documents that were replaced, beside {base['count']:,}: release the "
            "build in full, which writes a new index.",
            index=base["name"],
        )
