"""Reads every document of an LMDB collection and tells which are damaged.

LMDB ends the process where a damaged page misleads it, so a file that is known to be damaged is walked in a process of its own:
`python -m sourcebook.backends.lmdb.check FOLDER` prints what it finds as JSON.
"""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import lmdb
import orjson

from sourcebook.backends.lmdb.layout import StoredInfo, check_files, read_info, read_segments
from sourcebook.backends.lmdb.reader import OpenFile
from sourcebook.errors import SourcebookError, StoreDamaged
from sourcebook.hub.documents.record import Digest, Record, describe_damage

_MAX_NAMED = 10


def verify_collection(folder: Path, info: StoredInfo) -> list[str]:
    """Read everything of a collection; return what is damaged, in words."""
    try:
        check_files(folder, info)
    except StoreDamaged as error:
        return [error.details["problem"], *_walk_apart(folder)]
    return [] if info.files else walk_collection(folder, info)


def walk_collection(folder: Path, info: StoredInfo) -> list[str]:
    """Read every record of a collection and compare it with its hash, and all of them with the collection's record."""
    digest = Digest()
    problems: list[str] = []
    for segment in read_segments(folder):
        try:
            with closing(OpenFile(segment.path)) as file, file.env.begin() as txn, txn.cursor() as cursor:
                for record in cursor.iternext():
                    digest.add([record[1]])
                    _note(record, problems)
        except (lmdb.Error, FileNotFoundError, SourcebookError) as error:
            problems.append(f"{segment.path.name} cannot be read to its end: {error}")
    if (digest.count, digest.hex()) != (info.count, info.digest):
        problems.append(
            f"{digest.count:,} documents can be read, {info.count:,} were written, or others than were written"
        )
    return problems


def _note(record: Record, problems: list[str]) -> None:
    problem = describe_damage(record)
    if problem is not None and len(problems) < _MAX_NAMED:
        problems.append(problem)


def _walk_apart(folder: Path) -> list[str]:
    command = [sys.executable, "-P", "-m", "sourcebook.backends.lmdb.check", str(folder)]
    ended = subprocess.run(command, capture_output=True, check=False)
    if ended.returncode != 0:
        return ["which documents are concerned cannot be told: LMDB cannot walk the file"]
    found: list[str] = orjson.loads(ended.stdout)
    return found


def main() -> None:
    """Print what is damaged in a collection."""
    folder = Path(sys.argv[1])
    info = read_info(folder)
    sys.stdout.write(orjson.dumps(walk_collection(folder, info) if info else []).decode())


if __name__ == "__main__":
    main()
