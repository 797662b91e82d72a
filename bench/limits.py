"""Measures what NDJSON itself allows: the least that reading, or merging two sorted files, can take in Python.

    python bench/limits.py read FILE
    python bench/limits.py merge LEFT RIGHT OUT

Prints the number of documents read.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Document = dict[str, Any]


def read_all(path: Path) -> int:
    """Decode each line of a file; return how many there are."""
    count = 0
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
            count += 1
    return count


def merge(left: Iterator[Document], right: Iterator[Document]) -> Iterator[Document]:
    """Merge two streams in `_id` order; a root key of the right one replaces that of the left one."""
    first, second = next(left, None), next(right, None)
    while first is not None and second is not None:
        if first["_id"] == second["_id"]:
            first.update(second)
            yield first
            first, second = next(left, None), next(right, None)
        elif first["_id"] < second["_id"]:
            yield first
            first = next(left, None)
        else:
            yield second
            second = next(right, None)
    if first is not None:
        yield first
        yield from left
    if second is not None:
        yield second
        yield from right


def merge_files(left: Path, right: Path, out: Path) -> int:
    """Merge two sorted files into a third; return how many lines were written."""
    count = 0
    with left.open("rb") as first, right.open("rb") as second, out.open("wb") as target:
        for document in merge(map(orjson.loads, first), map(orjson.loads, second)):
            target.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("read").add_argument("file", type=Path)
    merging = commands.add_parser("merge")
    for name in ("left", "right", "out"):
        merging.add_argument(name, type=Path)
    arguments = parser.parse_args()
    if arguments.command == "read":
        print(read_all(arguments.file))
    else:
        print(merge_files(arguments.left, arguments.right, arguments.out))


if __name__ == "__main__":
    main()
