"""A committed tantivy index that is open for searching."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import tantivy

from sourcebook.backends.tantivy_fields import NUMBER_FIELD, FieldTable, Leaf
from sourcebook.backends.tantivy_query import QueryTranslator
from sourcebook.errors import EngineUnavailable

FORMAT = 1
MANIFEST_FILE = "sourcebook.json"
IDS_FILE = "ids.bin"
OFFSETS_FILE = "ids.offsets"

Address = Any  # tantivy.DocAddress; the package is not typed


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what stands beside an index, or None if there is no complete index.

    Raises:
        EngineUnavailable: another version of Sourcebook wrote it.
    """
    try:
        manifest: dict[str, Any] = orjson.loads((folder / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    if manifest["format"] != FORMAT:
        raise EngineUnavailable(
            f"The index {folder.name} has format {manifest['format']}; this version reads {FORMAT}. Run the index job again."
        )
    return manifest


class IdFile:
    """The `_id` of each position, in two memory-mapped files; they stay readable when the index is dropped."""

    def __init__(self, folder: Path) -> None:
        self._ids = _map_file(folder / IDS_FILE)
        self._offsets = memoryview(_map_file(folder / OFFSETS_FILE)).cast("Q")

    def get(self, number: int) -> str:
        """Return the `_id` at a position."""
        return self._ids[self._offsets[number] : self._offsets[number + 1]].decode()


def _map_file(path: Path) -> mmap.mmap | bytes:
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class OpenIndex:
    """The searcher of an index and what is needed to talk to it."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        index = tantivy.Index.open(str(folder))
        index.config_reader("manual")
        index.reload()
        self.searcher = index.searcher()
        self.schema = index.schema
        self.table = FieldTable(manifest["properties"])
        self.translator = QueryTranslator(self.schema, self.table)
        self.ids = IdFile(folder)
        self.count: int = manifest["count"]
        self.number_end = self.count
        """All positions are smaller."""
        self.collection: str = manifest["collection"]
        self.generation: str = manifest["generation"]
        self._with_several: dict[str, bool] = {}

    def numbers(self, addresses: Sequence[Address]) -> list[int]:
        """Return the positions of documents."""
        numbers: list[int] = self.searcher.fast_field_values(NUMBER_FIELD, list(addresses))
        return numbers

    def has_several_values(self, leaf: Leaf) -> bool:
        """Whether a document of the index has several values of a leaf."""
        known = self._with_several.get(leaf.name)
        if known is None:
            known = self._with_several[leaf.name] = self.count_hits(tantivy.Query.exists_query(leaf.greatest)) > 0
        return known

    def count_hits(self, query: Any) -> int:
        """Return how many documents a query finds."""
        found: int = self.searcher.search(query, limit=1).count
        return found
