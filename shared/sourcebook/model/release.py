"""A release: a build that is indexed; and an API, the name that a release is served under."""

import time
from typing import Any

from pydantic import BaseModel, Field


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
    metadata: dict[str, Any] = Field(default_factory=dict)
    released_at: float = Field(default_factory=time.time)


class Api(BaseModel):
    """The name under which a release is served. Pointing it at another release is one write of this record.

    `history` holds the names of earlier releases that are kept for rollback, newest first.
    """

    name: str
    config: str
    release: str | None = None
    history: list[str] = Field(default_factory=list)
    max_age: int = Field(60, ge=0, description="Cache-Control max-age of answers, seconds")
    updated_at: float = Field(default_factory=time.time)
