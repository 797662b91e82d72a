"""A committed tantivy index that is open for searching."""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import tantivy

from sourcebook.backends.checksums import describe_file
from sourcebook.backends.tantivy.fields import NUMBER_FIELD, FieldTable, Leaf
from sourcebook.backends.tantivy.ids import IdTable
from sourcebook.backends.tantivy.query import QueryTranslator
from sourcebook.errors import EngineUnavailable, IndexDamaged, IndexOutdated, StoreDamaged
from sourcebook.hub.documents.record import content_hash
from sourcebook.hub.mappings.model import Properties
from sourcebook.language.query_string import IGNORED_FIELD

FORMAT = 3
MANIFEST_FILE = "sourcebook.json"
META_FILE = "meta.json"

DocAddress = Any  # tantivy.DocAddress; the package is not typed


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what stands beside an index, or None if there is no complete index.

    Raises:
        IndexOutdated: an earlier version of Sourcebook wrote it.
        EngineUnavailable: a newer one did.
    """
    manifest = _read_any_manifest(folder)
    if manifest is None or manifest["format"] == FORMAT:
        return manifest
    formats = f"(format {manifest['format']}; this one reads {FORMAT})"
    if manifest["format"] < FORMAT:
        raise IndexOutdated(
            f"The index {folder.name} was written by an earlier version of Sourcebook {formats}. A new one is made automatically "
            "when an API serves it; by hand: `sourcebook release apply BUILD --mode full`.",
            index=folder.name,
        )
    raise EngineUnavailable(
        f"The index {folder.name} was written by a newer version of Sourcebook {formats}. Use that version, or release its build "
        "again: `sourcebook release apply BUILD --mode full`.",
        index=folder.name,
    )


def is_outdated(folder: Path) -> bool:
    """Whether an earlier version wrote the index, so that `read_manifest` refuses it; one that is damaged is another matter."""
    try:
        manifest = _read_any_manifest(folder)
    except ValueError:
        return False
    return manifest is not None and manifest["format"] < FORMAT


def _read_any_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = orjson.loads((folder / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return manifest


def check_index(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare an index with what stands beside it: every write to an index, by whomever, changes the list of its segments.

    Raises:
        IndexDamaged: someone changed it since it was written.
    """
    try:
        found = content_hash((folder / META_FILE).read_bytes()).hex()
    except FileNotFoundError:
        found = ""
    if found != manifest["meta"] or find_cut_file(folder, manifest) is not None:
        raise damaged(folder.name)


def find_cut_file(folder: Path, manifest: dict[str, Any]) -> str | None:
    """Return what is wrong with the size of a file, or None: to read one that was cut would end the process."""
    for name, file in manifest.get("files", {}).items():  # earlier versions did not note them
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if size != file["size"]:
            return f"{name} has {size:,} bytes instead of {file['size']:,}"
    return None


def verify_index(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Read every file of an index; return what is damaged, in words."""
    cut = find_cut_file(folder, manifest)
    if cut is not None:
        return [cut]
    found = {name: describe_file(folder / name).checksum for name in manifest.get("files", {})}
    return [
        f"{name} has the checksum {checksum} instead of {manifest['files'][name]['checksum']}"
        for name, checksum in found.items()
        if checksum != manifest["files"][name]["checksum"]
    ]


def damaged(name: str) -> IndexDamaged:
    """Return the error for an index that is not what it was written as."""
    return IndexDamaged(
        f"The index {name} was changed since it was written, or is not complete. Release the build in full "
        "(`sourcebook release apply BUILD --mode full`): that writes a new index.",
        index=name,
    )


class Deadline:
    """When a search has to be over. A step of tantivy that has begun cannot be ended; the next one does not begin."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._is_cancelled = False

    def cancel(self) -> None:
        """Nobody waits for the search any more."""
        self._is_cancelled = True

    def check(self) -> None:
        """Let the next step begin.

        Raises:
            EngineUnavailable: it is too late.
        """
        if self._is_cancelled or time.monotonic() >= self._ends_at:
            raise EngineUnavailable("The search took too long and was given up.")


class _TimedSearcher:
    """A searcher that looks at the clock before each step."""

    def __init__(self, searcher: Any, deadline: Deadline) -> None:
        self._searcher = searcher
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        self._deadline.check()
        return getattr(self._searcher, name)


class OpenIndex:
    """The searcher of an index and what is needed to talk to it."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        cut = find_cut_file(folder, manifest)
        if cut is not None:
            raise StoreDamaged(
                f"The index {folder.name!r} is damaged: {cut}. Release its build in full, or restore a backup.",
                index=folder.name,
                problem=cut,
            )
        index = tantivy.Index.open(str(folder))
        index.config_reader("manual")
        index.reload()
        self.searcher: Any = index.searcher()
        self.untimed_searcher = self.searcher
        self.schema = index.schema
        self.properties: Properties = manifest["properties"]
        self.table = FieldTable(manifest["properties"], manifest["fields"])
        self.translator = QueryTranslator(self.schema, self.table, manifest["count"])
        self.ids = IdTable(folder)
        self.count: int = manifest["count"]
        self.number_end = self.ids.number_end
        """All numbers are smaller."""
        self.collection: str = manifest["collection"]
        self.generation: str = manifest["generation"]
        self._with_several: dict[str, bool] = {}
        self._with_ignored: dict[str, bool] = {}

    def until(self, deadline: Deadline) -> "OpenIndex":
        """Return the same index, for one search: each of its steps begins before the deadline or not at all."""
        view = copy.copy(self)
        view.searcher = _TimedSearcher(self.searcher, deadline)
        return view

    def numbers(self, addresses: Sequence[DocAddress]) -> list[int]:
        """Return the positions of documents."""
        numbers: list[int] = self.searcher.fast_field_values(NUMBER_FIELD, list(addresses))
        return numbers

    def has_several_values(self, leaf: Leaf) -> bool:
        """Whether a document of the index has several values of a leaf."""
        known = self._with_several.get(leaf.name)
        if known is None:
            known = self._with_several[leaf.name] = self.count_hits(tantivy.Query.exists_query(leaf.greatest)) > 0
        return known

    def first_numbers(self, query: Any, limit: int) -> tuple[list[int], int]:
        """Return the numbers of the first documents in order that a query finds, and how many it finds."""
        result = self.searcher.search(query, limit=limit, order_by_field=NUMBER_FIELD, order=tantivy.Order.Asc)
        return [number for number, _ in result.hits], result.count

    def has_ignored_values(self, leaf: Leaf) -> bool:
        """Whether a document of the index has a value of a leaf that could not be indexed."""
        known = self._with_ignored.get(leaf.path)
        if known is None:
            query = tantivy.Query.term_query(self.schema, IGNORED_FIELD, leaf.path)
            known = self._with_ignored[leaf.path] = self.count_hits(query) > 0
        return known

    def count_hits(self, query: Any) -> int:
        """Return how many documents a query finds."""
        found: int = self.searcher.search(query, limit=1).count
        return found
