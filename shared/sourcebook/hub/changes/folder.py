"""Changes folders: writes them, reads them back with every byte verified, and turns a change into the new document.

<key>/metadata.json             what is compared, and size and sha256 of every file (`model.change.ChangesMetadata`)
<key>/changes-00001.jsonl.zst   one change a line, in the order of the documents' keys
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import jsonpatch
import msgspec
import orjson
import zstandard
from jsonpointer import JsonPointerException
from pydantic import ValidationError

from sourcebook.context import Context
from sourcebook.errors import DamagedChanges
from sourcebook.hub.changes.model import Change, ChangeCounts, ChangeKind, ChangesFile, ChangesMetadata
from sourcebook.hub.documents.record import (
    HASH_BYTES,
    Json,
    Record,
    canonical_json,
    content_hash,
    record_body,
    record_hash,
    record_key,
)
from sourcebook.ports.documents import BATCH_BYTES

METADATA_FILE = "metadata.json"
_FILE_BYTES = 50_000_000  # before compression
_MAX_LINE_BYTES = 1 << 30  # longer ones are not documents of ours
_READ_BYTES = 1 << 20
_LEVEL = 1  # half the time of the default for a few more percent of bytes
_WRITE_BYTES = 1 << 16  # that are compressed together
_MENDS = "Make the diff again, or fetch the release again from where it was published."


_ID_START = HASH_BYTES + len(b'{"_id":')


class _IdOnly(msgspec.Struct):
    id: str = msgspec.field(name="_id")


_decode_id = msgspec.json.Decoder(_IdOnly).decode


def read_id(record: Record) -> str:
    """Return the `_id` of a record; the rest of the document is only skimmed."""
    return _decode_id(record[1][HASH_BYTES:]).id


class ChangedId(msgspec.Struct, frozen=True):
    """What `read_changed_ids` reads of a change."""

    op: ChangeKind
    id: str = msgspec.field(name="_id")


_decode_changed_id = msgspec.json.Decoder(ChangedId).decode


class ChangesFolder(NamedTuple):
    """An open changes folder: where its files are, and what its metadata say."""

    path: Path
    metadata: ChangesMetadata


async def open_changes(context: Context, key: str) -> ChangesFolder:
    """Return a published changes folder; `model.names.build_changes_key` makes the key.

    Raises:
        NotFound: nothing has this key.
        DamagedChanges: its metadata cannot be read.
    """
    path = await context.files.local_folder(key)
    return ChangesFolder(path, read_metadata(path))


# Writing


def encode_document(op: ChangeKind, record: Record) -> bytes:
    """Return the line of an added document, or of a changed one that is written whole."""
    head = b'{"op":"%b","_id":%b,"hash":"%b","doc":' % (op.encode(), _cut_id(record), _hexadecimal(record))
    return head + record_body(record) + b"}\n"


def encode_patch(record: Record, patch: bytes) -> bytes:
    """Return the line of a changed document; `patch` is a JSON list of RFC 6902 operations."""
    return b'{"op":"update","_id":%b,"hash":"%b","patch":%b}\n' % (_cut_id(record), _hexadecimal(record), patch)


def encode_delete(record: Record) -> bytes:
    """Return the line of a document that is gone; `record` is the old one."""
    return b'{"op":"delete","_id":%b}\n' % _cut_id(record)


def _cut_id(record: Record) -> bytes:
    """Return the `_id` of a record as JSON, cut out of the beginning of its canonical JSON."""
    value = record[1]
    text = value[_ID_START : value.index(b'"', _ID_START + 1) + 1]
    return orjson.dumps(read_id(record)) if b"\\" in text else text


def _hexadecimal(record: Record) -> bytes:
    return record_hash(record).hex().encode()


class ChangesWriter:
    """Writes the files of a changes folder, one after the other."""

    def __init__(self, folder: Path, *, file_bytes: int = _FILE_BYTES) -> None:
        self._counts = dict.fromkeys(ChangeKind, 0)
        self._folder = folder
        self._file_bytes = file_bytes
        self._files: list[ChangesFile] = []
        self._open: _OpenFile | None = None

    @property
    def counts(self) -> ChangeCounts:
        """What was written so far."""
        return _count(self._counts)

    def write(self, op: ChangeKind, line: bytes) -> None:
        """Append a change in the form that the `encode_` functions return, in the order of keys."""
        if self._open is None:
            self._open = _OpenFile(self._folder / f"changes-{len(self._files) + 1:05}.jsonl.zst")
        self._open.write(op, line)
        self._counts[op] += 1
        if self._open.uncompressed >= self._file_bytes:
            self._close_file()

    def finish(self) -> list[ChangesFile]:
        """Complete the last file; return what there is to say of each."""
        self._close_file()
        return self._files

    def abort(self) -> None:
        """Give back the open file; what is written stays for whoever removes the folder."""
        if self._open is not None:
            self._open.abort()
            self._open = None

    def _close_file(self) -> None:
        if self._open is None:
            return
        self._files.append(self._open.close())
        self._open = None


def _count(counts: dict[ChangeKind, int]) -> ChangeCounts:
    return ChangeCounts(**{op.value: count for op, count in counts.items()})


class _OpenFile:
    """A file that is being written; the checksum is made of the bytes that go to the disk."""

    def __init__(self, path: Path) -> None:
        self.uncompressed = 0
        self._path = path
        self._counts = dict.fromkeys(ChangeKind, 0)
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self._size = 0
        self._lines: list[bytes] = []
        self._compressed = 0
        self._compressor = zstandard.ZstdCompressor(_LEVEL).compressobj()

    def write(self, op: ChangeKind, line: bytes) -> None:
        self._counts[op] += 1
        self.uncompressed += len(line)
        self._lines.append(line)
        if self.uncompressed - self._compressed >= _WRITE_BYTES:
            self._compress()

    def close(self) -> ChangesFile:
        self._compress()
        self._put(self._compressor.flush())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        counts = _count(self._counts)
        return ChangesFile(
            name=self._path.name, changes=counts.total, counts=counts, size=self._size, sha256=self._hash.hexdigest()
        )

    def abort(self) -> None:
        self._file.close()

    def _compress(self) -> None:
        self._put(self._compressor.compress(b"".join(self._lines)))
        self._lines.clear()
        self._compressed = self.uncompressed

    def _put(self, data: bytes) -> None:
        if data:
            self._file.write(data)
            self._hash.update(data)
            self._size += len(data)


def write_metadata(folder: Path, metadata: ChangesMetadata) -> None:
    """Write the last file of a changes folder."""
    (folder / METADATA_FILE).write_bytes(metadata.model_dump_json(indent=1).encode() + b"\n")


# Reading


def read_metadata(folder: Path) -> ChangesMetadata:
    """Return the metadata of a changes folder.

    Raises:
        DamagedChanges: the file is missing or is not what this version of Sourcebook writes.
    """
    path = folder / METADATA_FILE
    try:
        return ChangesMetadata.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DamagedChanges(f"{path} is missing. {_MENDS}", file=METADATA_FILE) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DamagedChanges(
            f"{path} cannot be read: {place}: {first['msg']}. {_MENDS}", file=METADATA_FILE, place=place
        ) from error


def read_changes(
    folder: Path, *, metadata: ChangesMetadata | None = None, kind: ChangeKind | None = None, skip: int = 0
) -> Iterator[Change]:
    """Yield the changes of a folder in the order of keys; each file is verified before anything of it is given out.

    Args:
        folder: where the files are.
        metadata: what `read_metadata` returns, if it is known already.
        kind: only changes of this kind.
        skip: leave out so many (of this kind) at the beginning; files that hold nothing else are not even opened.

    Raises:
        DamagedChanges: a file is missing, or is not what the metadata say.
    """
    for file in (metadata or read_metadata(folder)).files:
        held = file.changes if kind is None else getattr(file.counts, kind)
        if skip >= held:
            skip -= held
            continue
        _verify_file(folder / file.name, file)
        for change, _ in _read_file(folder / file.name, file, kind, skip):
            yield change
        skip = 0


def read_change_batches(folder: Path, metadata: ChangesMetadata, *, size: int) -> Iterator[list[Change]]:
    """Yield the changes of a folder in the order of keys, in lists of at most `size` and about `BATCH_BYTES`.

    Raises:
        DamagedChanges: a file is missing, or is not what the metadata say.
    """
    batch: list[Change] = []
    used = 0
    for file in metadata.files:
        _verify_file(folder / file.name, file)
        for change, length in _read_file(folder / file.name, file, None, 0):
            batch.append(change)
            used += length
            if len(batch) >= size or used >= BATCH_BYTES:
                yield batch
                batch, used = [], 0
    if batch:
        yield batch


def read_changed_ids(folder: Path, metadata: ChangesMetadata) -> Iterator[ChangedId]:
    """Yield id and kind of every change, in the order of keys; documents and patches are only skimmed.

    Raises:
        DamagedChanges: a file is missing, or is not what the metadata say.
    """
    for file in metadata.files:
        path = folder / file.name
        _verify_file(path, file)
        with path.open("rb") as source:
            for number, line in enumerate(_read_lines(source, path), 1):
                try:
                    yield _decode_changed_id(line)
                except msgspec.MsgspecError as error:
                    raise _no_change(line, path, number) from error


def verify_changes(folder: Path, metadata: ChangesMetadata) -> None:
    """Check size and sha256 of every file.

    Raises:
        DamagedChanges: a file is missing, or is not what the metadata say.
    """
    for file in metadata.files:
        _verify_file(folder / file.name, file)


def _verify_file(path: Path, file: ChangesFile) -> None:
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as reader:
            while block := reader.read(_READ_BYTES):
                digest.update(block)
                size += len(block)
    except FileNotFoundError as error:
        raise DamagedChanges(f"{path} is missing. {_MENDS}", file=file.name) from error
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        raise DamagedChanges(
            f"{path} is damaged: expected {file.size} bytes with sha256 {file.sha256}, found {size} bytes with "
            f"{digest.hexdigest()}. {_MENDS}",
            file=file.name,
            expected=file.sha256,
            found=digest.hexdigest(),
        )


def _read_file(path: Path, file: ChangesFile, kind: ChangeKind | None, skip: int) -> Iterator[tuple[Change, int]]:
    """Yield the changes of a file, and how many bytes each has there."""
    head = b'{"op":"%b"' % kind.encode() if kind is not None else b"{"
    count = 0
    with path.open("rb") as source:
        for line in _read_lines(source, path):
            count += 1
            if not line.startswith(head):
                continue
            if skip:
                skip -= 1
                continue
            yield _decode_change(line, path, count), len(line)
    if count != file.changes:
        raise DamagedChanges(
            f"{path} has {count} changes, its metadata say {file.changes}. {_MENDS}",
            file=file.name,
            expected=file.changes,
            found=count,
        )


def _read_lines(source: IO[bytes], path: Path) -> Iterator[bytes]:
    rest = b""
    try:
        with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True) as reader:
            while block := reader.read(_READ_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
                if len(rest) > _MAX_LINE_BYTES:
                    break
    except zstandard.ZstdError as error:
        raise DamagedChanges(f"{path} cannot be unpacked: {error}. {_MENDS}", file=path.name) from error
    if rest:
        raise DamagedChanges(f"{path} ends within a change. {_MENDS}", file=path.name)


def _decode_change(line: bytes, path: Path, number: int) -> Change:
    try:
        return Change.model_validate(orjson.loads(line))
    except ValueError as error:  # both kinds: no JSON, and no change
        raise _no_change(line, path, number) from error


def _no_change(line: bytes, path: Path, number: int) -> DamagedChanges:
    shown = line[:200].decode(errors="replace")
    return DamagedChanges(
        f"{path}, line {number}: this is not a change: {shown!r}. {_MENDS}", file=path.name, line=number
    )


# Applying


def apply_change(change: Change, old: bytes | None) -> Record | None:
    """Return the new record of a changed document, or None if it is deleted.

    Args:
        change: what happened.
        old: canonical JSON of the old document; a patch needs it, nothing else does.

    Raises:
        DamagedChanges: the result is not the document that the change promises, so `old` is not what was compared.
    """
    if change.op is ChangeKind.DELETE:
        return None
    document = change.doc if change.doc is not None else _patch(change, old)
    body = canonical_json(document)
    found = content_hash(body)
    if document.get("_id") != change.id or found.hex() != change.hash:
        raise DamagedChanges(
            f"The change of {change.id!r} leads to a document with the hash {found.hex()} instead of {change.hash}: the old "
            "document is not the one that was compared. Install or release the full build.",
            id=change.id,
            expected=change.hash,
            found=found.hex(),
        )
    return record_key(change.id), found + body


def _patch(change: Change, old: bytes | None) -> dict[str, Json]:
    try:
        if old is None or change.patch is None:
            raise DamagedChanges(
                f"The document {change.id!r}, which a change updates, is not there. Install or release the full build.",
                id=change.id,
            )
        document = jsonpatch.apply_patch(orjson.loads(old), change.patch, in_place=True)
    except (jsonpatch.JsonPatchException, JsonPointerException) as error:
        raise DamagedChanges(
            f"The change of {change.id!r} does not fit its old document: {error}. Install or release the full build.",
            id=change.id,
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("_id"), str):
        raise DamagedChanges(f"The change of {change.id!r} leaves no document. {_MENDS}", id=change.id)
    return document
