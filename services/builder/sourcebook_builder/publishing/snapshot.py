"""The files of a full release: documents as canonical JSON, one a line, compressed; written, and read back with every check."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import orjson
import zstandard

from sourcebook.errors import DamagedRelease
from sourcebook.hub.documents.record import HASH_BYTES, MAX_ID_BYTES, Record, canonical_json, content_hash, record_key
from sourcebook.hub.mappings.model import Properties
from sourcebook.hub.publishing.model import MAPPING_FILE, SnapshotFile
from sourcebook.ports.documents import BATCH_BYTES

FILE_BYTES = 100_000_000  # of documents, before compression
_READ_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 28  # longer ones are not documents
_AGAIN = "Ask whoever published it to publish it again."


class DocumentsWriter:
    """Writes one file of documents; the checksum is made of the bytes that go to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unpacked = 0
        self._documents = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._file = path.open("wb")
        self._compressor = zstandard.ZstdCompressor().compressobj()

    def write(self, records: list[Record]) -> None:
        """Append documents."""
        lines = b"".join([value[HASH_BYTES:] + b"\n" for _, value in records])
        self.unpacked += len(lines)
        self._documents += len(records)
        self._put(self._compressor.compress(lines))

    def finish(self) -> SnapshotFile:
        """Complete the file; return what there is to say of it."""
        self._put(self._compressor.flush())
        self._file.close()
        return SnapshotFile(
            name=self.path.name, documents=self._documents, size=self._size, sha256=self._digest.hexdigest()
        )

    def abort(self) -> None:
        """Give back the open file."""
        self._file.close()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)


def documents_file_name(number: int) -> str:
    """Return the name of a file of documents, counted from 1."""
    return f"documents-{number:05}.jsonl.zst"


def write_mapping(folder: Path, properties: Properties) -> SnapshotFile:
    """Write the mapping of a full release."""
    data = orjson.dumps({"properties": properties}, option=orjson.OPT_INDENT_2)
    (folder / MAPPING_FILE).write_bytes(data)
    return SnapshotFile(name=MAPPING_FILE, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def read_mapping(path: Path) -> Properties:
    """Return the properties of a mapping file.

    Raises:
        DamagedRelease: it holds none.
    """
    try:
        found = orjson.loads(path.read_bytes())["properties"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRelease(f"{path.name} holds no mapping. {_AGAIN}", file=path.name) from error
    if not isinstance(found, dict) or not all(isinstance(spec, dict) for spec in found.values()):
        raise DamagedRelease(f"{path.name} holds no mapping. {_AGAIN}", file=path.name)
    return found


class UnpackBudget:
    """How many bytes the files of an installation may still unpack to."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._left = max_bytes

    def spend(self, size: int, name: str) -> None:
        """Take `size` bytes.

        Raises:
            DamagedRelease: there are not so many left.
        """
        self._left -= size
        if self._left < 0:
            raise DamagedRelease(
                f"{name} unpacks to more than is allowed: {self._max_bytes} bytes in all (SOURCEBOOK_UNPACK_MAX_BYTES).",
                file=name,
                allowed=self._max_bytes,
            )

    def check_file(self, path: Path) -> None:
        """Take what a compressed file unpacks to.

        Raises:
            DamagedRelease: it cannot be unpacked, or unpacks to more than is left.
        """
        with path.open("rb") as source:
            for block in _unpack(source, path.name):
                self.spend(len(block), path.name)


def read_documents(path: Path, budget: UnpackBudget, *, size: int) -> Iterator[list[Record]]:
    """Yield the records of a file of documents, in lists of at most `size` and about `BATCH_BYTES`.

    Each is what this machine would have stored.

    Raises:
        DamagedRelease: it cannot be unpacked, or a line is not a document in canonical JSON.
    """
    batch: list[Record] = []
    number = used = 0
    with path.open("rb") as source:
        for line in _lines(source, path.name, budget):
            number += 1
            used += len(line)
            batch.append(_read_document(line, f"{path.name}, line {number}"))
            if len(batch) >= size or used >= BATCH_BYTES:
                yield batch
                batch, used = [], 0
    if batch:
        yield batch


def _unpack(source: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True) as reader:
            while block := reader.read(_READ_BYTES):
                yield block
    except zstandard.ZstdError as error:
        raise DamagedRelease(f"{name} cannot be unpacked: {error}. {_AGAIN}", file=name) from error


def _lines(source: IO[bytes], name: str, budget: UnpackBudget) -> Iterator[bytes]:
    rest = b""
    for block in _unpack(source, name):
        budget.spend(len(block), name)
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > _MAX_LINE_BYTES:
            raise DamagedRelease(f"{name} has a line of more than {_MAX_LINE_BYTES} bytes. {_AGAIN}", file=name)
    if rest:
        raise DamagedRelease(f"{name} ends within a document. {_AGAIN}", file=name)


def _read_document(line: bytes, place: str) -> Record:
    try:
        document = orjson.loads(line)
        document_id = document["_id"]
        is_good = isinstance(document_id, str) and 0 < len(document_id.encode()) <= MAX_ID_BYTES
        is_good = is_good and canonical_json(document) == line
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRelease(f"{place}: this is not a document. {_AGAIN}", place=place) from error
    if not is_good:
        raise DamagedRelease(f"{place}: this is not a document in canonical JSON. {_AGAIN}", place=place)
    return record_key(document_id), content_hash(line) + line
