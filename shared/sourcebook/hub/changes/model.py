"""Changes: what differs between an old and a new collection of one owner, document by document, and what is said of them all."""

import time
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sourcebook.hub.documents.record import Json
from sourcebook.hub.mappings.model import Properties, iterate_fields


class ChangeKind(StrEnum):
    """What happened to a document."""

    ADD = "add"
    UPDATE = "update"
    DELETE = "delete"


class Change(BaseModel):
    """What happened to one document.

    `hash` is that of the new document (`model.document.content_hash`, in hexadecimal). A new document is whole (`doc`); a
    changed one is a `patch` (RFC 6902 operations on the old document), or whole where that is shorter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    op: ChangeKind
    id: str = Field(alias="_id", min_length=1)
    hash: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    doc: dict[str, Json] | None = None
    patch: list[dict[str, Json]] | None = None

    @model_validator(mode="after")
    def _check_contents(self) -> Self:
        has = (self.hash is not None, self.doc is not None, self.patch is not None)
        allowed = {
            ChangeKind.ADD: {(True, True, False)},
            ChangeKind.UPDATE: {(True, True, False), (True, False, True)},
            ChangeKind.DELETE: {(False, False, False)},
        }
        if has not in allowed[self.op]:
            raise ValueError(f"a change of kind {self.op} with hash, doc, patch: {has}")
        return self


class ChangeCounts(BaseModel):
    """Documents by what happened to them."""

    add: int = 0
    update: int = 0
    delete: int = 0

    @property
    def total(self) -> int:
        """All changed documents."""
        return self.add + self.update + self.delete


class ComparedSide(BaseModel):
    """One of the two collections; `build` is the name of a build, or the id of an upload."""

    build: str
    version: str
    collection: str
    count: int
    digest: str


class FieldChange(BaseModel):
    """What a mapping said of a field, and says now."""

    old: dict[str, Any]
    new: dict[str, Any]


class MappingChanges(BaseModel):
    """How a mapping changed, by dotted path: fields, and objects that are more than a group of fields (`nested`, not enabled).

    A field that became an object, or the reverse, is in `changed`.
    """

    added: dict[str, dict[str, Any]] = Field(default_factory=dict)
    removed: list[str] = Field(default_factory=list)
    changed: dict[str, FieldChange] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class SourceVersion(BaseModel):
    """The version of a source in a build, and the number of documents of its uploads."""

    version: str
    count: int


class SourceChange(BaseModel):
    """A source before and after; None where it was not, or is no more, part of the build."""

    old: SourceVersion | None = None
    new: SourceVersion | None = None


class Occurrences(BaseModel):
    """Documents in which something happened: how many, and the ids of the first few."""

    documents: int = 0
    samples: list[str] = Field(default_factory=list)


class RootKeyChange(BaseModel):
    """In which updated documents a root key appeared, went away, or has another value."""

    added: Occurrences = Field(default_factory=Occurrences)
    removed: Occurrences = Field(default_factory=Occurrences)
    changed: Occurrences = Field(default_factory=Occurrences)


class ChangesFile(BaseModel):
    """A file of a changes folder; `size` (bytes) and `sha256` are those of the compressed file."""

    name: str = Field(pattern=r"^changes-[0-9]{5,9}\.jsonl\.zst$")
    changes: int
    counts: ChangeCounts
    size: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ChangesMetadata(BaseModel):
    """`metadata.json` of a changes folder: what was compared, what differs in sum, and the files with the changes.

    `new_mapping` and `new_metadata` are the properties and the `_meta` of the new build, so that another machine can install
    it. With `ignore_list_order`, documents that differ only in the order of lists are left out: to be read, not applied.
    """

    format: Literal[1] = 1
    config: str
    doc_type: str
    old: ComparedSide
    new: ComparedSide
    counts: ChangeCounts = Field(default_factory=ChangeCounts)
    mapping: MappingChanges
    sources: dict[str, SourceChange] = Field(default_factory=dict)
    root_keys: dict[str, RootKeyChange] = Field(default_factory=dict)
    ignore_list_order: bool = False
    files: list[ChangesFile] = Field(default_factory=list)
    new_mapping: Properties = Field(default_factory=dict)
    new_metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: float = Field(default_factory=time.time)


def diff_properties(old: Properties, new: Properties) -> MappingChanges:
    """Return how a mapping changed."""
    before, after = _specs(old), _specs(new)
    return MappingChanges(
        added={path: spec for path, spec in after.items() if path not in before and spec != _GROUP},
        removed=[path for path, spec in before.items() if path not in after and spec != _GROUP],
        changed={
            path: FieldChange(old=spec, new=after[path])
            for path, spec in before.items()
            if path in after and after[path] != spec
        },
    )


_GROUP = {"type": "object"}


def _specs(properties: Properties) -> dict[str, dict[str, Any]]:
    return {
        field.path: (_GROUP | field.spec if field.is_object else field.spec) for field in iterate_fields(properties)
    }
