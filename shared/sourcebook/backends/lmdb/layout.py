"""The files of a collection in LMDB, and what its record says of them.

<collection>/info.json        count, digest, size; size and checksum of each file
<collection>/data.mdb         all records; or
<collection>/segments.json    the first key of each segment, in hexadecimal
<collection>/0.mdb, 1.mdb ... its records: files whose keys follow one another, of joined collections
"""

import json
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from sourcebook.backends.checksums import StoredFile, describe_file
from sourcebook.errors import StoreDamaged
from sourcebook.ports.documents import CollectionInfo

DATA_FILE = "data.mdb"
SEGMENTS_FILE = "segments.json"
INFO_FILE = "info.json"
_MENDS = "Upload the source again, or build again in full; or restore the folder from a backup."


class Segment(NamedTuple):
    """A file of a collection, and from which key on it has the records."""

    first: bytes
    path: Path


def read_segments(folder: Path) -> list[Segment]:
    """Return the files of a collection, in key order.

    Raises:
        StoreDamaged: the list of them cannot be read.
    """
    try:
        firsts = json.loads((folder / SEGMENTS_FILE).read_bytes())
        return [Segment(bytes.fromhex(first), folder / f"{number}.mdb") for number, first in enumerate(firsts)]
    except FileNotFoundError:
        return [Segment(b"", folder / DATA_FILE)]
    except (ValueError, TypeError) as error:
        raise damaged(folder, f"{SEGMENTS_FILE} cannot be read") from error


class StoredInfo(CollectionInfo):
    """What `info.json` says; collections of earlier versions have no files in it."""

    files: list[StoredFile] = Field(default_factory=list)


def read_info(folder: Path) -> StoredInfo | None:
    """Return what a complete collection's folder says of it, or None if there is none.

    Raises:
        StoreDamaged: it cannot be read.
    """
    try:
        return StoredInfo.model_validate_json((folder / INFO_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise damaged(folder, f"{INFO_FILE} cannot be read") from error


def damaged(folder: Path, problem: str) -> StoreDamaged:
    """Return the error of a collection whose files are not what was written."""
    return StoreDamaged(
        f"The collection {folder.name!r} is damaged: {problem}. {_MENDS}", collection=folder.name, problem=problem
    )


def check_sizes(folder: Path, info: StoredInfo) -> None:
    """Compare the sizes of a collection's files with its record: to read one that was cut would end the process.

    Raises:
        StoreDamaged: they differ, or a file is missing.
    """
    paths = [segment.path for segment in read_segments(folder)]
    try:
        sizes = {path.name: path.stat().st_size for path in paths}
    except FileNotFoundError as error:
        raise damaged(folder, f"{Path(error.filename).name} is missing") from error
    for file in info.files:
        if sizes.get(file.name) != file.size:
            raise damaged(folder, f"{file.name} has {sizes.get(file.name, 0):,} bytes instead of {file.size:,}")
    # Earlier versions wrote less; what they joined counts files that it does not have.
    if not info.files and sizes.get(DATA_FILE, info.size) != info.size:
        raise damaged(folder, f"{DATA_FILE} has {sizes[DATA_FILE]:,} bytes instead of {info.size:,}")


def check_files(folder: Path, info: StoredInfo) -> None:
    """Read the files of a collection whole and compare them with its record.

    Raises:
        StoreDamaged: one is not what was written.
    """
    check_sizes(folder, info)
    for file in info.files:
        found = describe_file(folder / file.name)
        if found != file:
            raise damaged(folder, f"{file.name} has the checksum {found.checksum} instead of {file.checksum}")
