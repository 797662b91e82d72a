"""New versions of the generated sources: the same documents, of which a share was updated, added or deleted.

A document changes in both sources or in none, so a share of the ids is the same share of the merged documents.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generate
import orjson

_PARTS = 1_000_000
_FRESH = 1 << 36  # numbers of added documents begin here: no source has them otherwise


@dataclass(frozen=True)
class Revision:
    """Shares of the documents that a new version updates, adds and deletes; `number` tells versions apart."""

    number: int
    update: float
    add: float = 0.0
    delete: float = 0.0

    @property
    def share(self) -> float:
        """All changed documents, as a share of the old ones."""
        return self.update + self.add + self.delete

    def part(self, number: int) -> float:
        """Return a number below 1 for a document; those of another version do not depend on it."""
        return (generate.scramble(number ^ (self.number << 44)) % _PARTS) / _PARTS


def iterate_documents(source: str, documents: int, revisions: list[Revision]) -> Iterator[dict[str, Any]]:
    """Yield the documents of a source after all revisions."""
    for number in generate.document_numbers(source, documents):
        document = _revise(source, number, revisions)
        if document is not None:
            yield document
    for position, revision in enumerate(revisions):
        first = _FRESH + (revision.number << 30)
        for number in range(first, first + round(documents * revision.add)):
            document = _revise(source, number, revisions[position + 1 :])
            if document is not None:
                yield document


def _revise(source: str, number: int, revisions: list[Revision]) -> dict[str, Any] | None:
    document = generate.MAKERS[source](number)
    for revision in revisions:
        part = revision.part(number)
        if part < revision.delete:
            return None
        if part < revision.delete + revision.update:
            _update(document, source, revision.number)
    return document


def _update(document: dict[str, Any], source: str, version: int) -> None:
    """Change what a new version of a source changes: a number, a date, an item of a list, a value inside an object."""
    document["updated"] = f"2024-{version % 12 + 1:02d}-01"
    if source == "alpha":
        document["score"] = round(document["score"] + version, 3)
        document["tags"] = [*document["tags"], f"v{version}"]
    else:
        document["rank"] += version
        document["reference"]["number"] += version


def write_revision(plugin: Path, source: str, documents: int, revisions: list[Revision]) -> None:
    """Replace the data file of a generated plugin."""
    fresh = plugin / f"{source}.new"
    with fresh.open("wb") as file:
        for document in iterate_documents(source, documents, revisions):
            file.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
    # The release of a local file is its day: each version is a day newer than the one before.
    day = time.time() + 86_400 * len(revisions)
    os.utime(fresh, (day, day))
    fresh.replace(plugin / f"{source}.ndjson")
