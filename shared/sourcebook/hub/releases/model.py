"""A release: a build that is indexed, whole or by its changes; and an API, the name that a release is served under."""

import time
from typing import Any, Literal

from pydantic import BaseModel, Field

ReleaseKind = Literal["full", "incremental"]
ReleaseMode = Literal["auto", "full", "incremental"]


class Release(BaseModel):
    """A build with a verified index. `collection` holds the documents, `index` finds them."""

    name: str
    build: str
    config: str
    doc_type: str
    collection: str
    index: str
    count: int
    mapping: dict[str, Any] = Field(default_factory=dict)
    ignored: dict[str, int] = Field(default_factory=dict)
    """Documents that have a value which the index could not take as the mapping says, by field."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    released_at: float = Field(default_factory=time.time)
    kind: ReleaseKind = "full"
    reason: str = ""
    """Why it is full or incremental."""
    base: str | None = None
    """The release that the API served before; an incremental one was made from its index."""
    changes: str | None = None
    """Key of the changes folder between the builds of `base` and of this; it is there once someone had them compared."""
    note: str = ""
    """What a person says of it."""


class Api(BaseModel):
    """The name under which a release is served. Pointing it at another release is one write of this record.

    `history` holds the names of earlier releases that are kept for rollback, newest first.
    """

    name: str
    config: str
    release: str | None = None
    history: list[str] = Field(default_factory=list)
    rolled_back: list[str] = Field(default_factory=list)
    """Those of `history` that someone went back from; going back again passes them over."""
    max_age: int = Field(60, ge=0, description="Cache-Control max-age of answers, seconds")
    updated_at: float = Field(default_factory=time.time)
