"""Published releases: what stands at an address, and the shortest way from what is here to one of them.

<address>/versions.json                                 every release there is (`PublishedVersions`)
<address>/latest.json                                   the newest; it is written last (`Latest`)
<address>/full/<build>/metadata.json                    a snapshot (`SnapshotMetadata`) beside its documents and mapping
<address>/incremental/<new>~<old>/metadata.json         changes (`model.change.ChangesMetadata`) beside their files
"""

import heapq
import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

Format = Literal["sourcebook/1"]
FORMAT: Format = "sourcebook/1"
VERSIONS_FILE = "versions.json"
LATEST_FILE = "latest.json"
METADATA_FILE = "metadata.json"
MAPPING_FILE = "mapping.json"

_HASH = r"^[0-9a-f]{32}$"
_SHA256 = r"^[0-9a-f]{64}$"
_PART = r"[A-Za-z0-9_+~][A-Za-z0-9_+~.-]{0,250}"  # no separators, no leading dot


class Content(NamedTuple):
    """What tells collections apart: equal number and digest mean equal documents."""

    documents: int
    digest: str


class PublishedBase(BaseModel):
    """The build that an incremental release begins with."""

    build: str
    count: int = Field(ge=0)
    digest: str = Field(pattern=_HASH)


class PublishedVersion(BaseModel):
    """One entry of `versions.json`. `url` leads from the address to the release's metadata; `size` is that of all its files."""

    build: str
    build_version: str
    type: Literal["full", "incremental"]
    base: PublishedBase | None = None
    url: str = Field(pattern=rf"^(full|incremental)/{_PART}/metadata\.json$")
    count: int = Field(ge=0)
    digest: str = Field(pattern=_HASH)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=_SHA256, description="Of the metadata file, which has those of the others")
    released_at: float = Field(default_factory=time.time)

    @property
    def content(self) -> Content:
        """What a collection has once this release is installed."""
        return Content(self.count, self.digest)

    @property
    def folder(self) -> str:
        """Where its files are, seen from the address."""
        return self.url.rpartition("/")[0]


class PublishedVersions(BaseModel):
    """`versions.json`: the releases of one build configuration, oldest first."""

    format: Format = FORMAT
    config: str
    doc_type: str
    versions: list[PublishedVersion] = Field(default_factory=list)


class Latest(BaseModel):
    """`latest.json`: the newest release that is complete."""

    format: Format = FORMAT
    config: str
    build: str
    build_version: str
    count: int = Field(ge=0)
    digest: str = Field(pattern=_HASH)
    released_at: float = Field(default_factory=time.time)


class SnapshotFile(BaseModel):
    """A file of a snapshot; `size` (bytes) and `sha256` are those of the compressed file."""

    name: str = Field(pattern=r"^(documents-[0-9]{5,9}\.jsonl\.zst|mapping\.json)$")
    documents: int = Field(0, ge=0)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=_SHA256)


class SnapshotMetadata(BaseModel):
    """`metadata.json` of a full release: a build with all its documents."""

    format: Literal[1] = 1
    type: Literal["full"] = "full"
    config: str
    doc_type: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
    build: str
    build_version: str
    count: int = Field(ge=0)
    digest: str = Field(pattern=_HASH)
    files: list[SnapshotFile] = Field(default_factory=list)
    mapping: SnapshotFile
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: float = Field(default_factory=time.time)


def find_path(
    versions: Iterable[PublishedVersion], target: Content, have: Iterable[Content]
) -> list[PublishedVersion] | None:
    """Return the releases to install one after the other to get to `target`, with the fewest bytes; None if no way leads there.

    The way begins with a full release, or with an incremental one whose base is in `have`. It is empty if `target` is.
    """
    by_base: dict[Content | None, list[PublishedVersion]] = {}
    for version in versions:
        base = Content(version.base.count, version.base.digest) if version.base else None
        if (version.type == "full") == (base is None):
            by_base.setdefault(base, []).append(version)
    # Dijkstra's way; the second number makes ways of equal size comparable: fewer steps first, then as they were found.
    heap: list[tuple[int, int, int, Content | None, list[PublishedVersion]]] = [(0, 0, 0, None, [])]
    heap += [(0, 0, number, content, []) for number, content in enumerate(have, start=1)]
    heapq.heapify(heap)
    found = len(heap)
    done: set[Content | None] = set()
    while heap:
        size, steps, _, content, path = heapq.heappop(heap)
        if content == target:
            return path
        if content in done:
            continue
        done.add(content)
        for version in by_base.get(content, ()):
            found += 1
            heapq.heappush(heap, (size + version.size, steps + 1, found, version.content, [*path, version]))
    return None
