"""An upload: the collection of documents that one uploader's parser made from a dump."""

import time
from typing import Any

from pydantic import BaseModel, Field

from sourcebook.model.change import ChangeCounts


class Upload(BaseModel):
    """One complete upload. `collection` never changes once this record exists."""

    id: str
    source: str
    uploader: str
    dump: str | None = None
    release: str
    code: str = ""
    """Names the plugin's code that made it; empty where it is not known."""
    collection: str
    count: int
    digest: str
    merge: bool = False
    """Whether this uploader asks the builder for a deep merge instead of overwriting root keys."""
    base: str | None = None
    """Id of the upload before this one, if what changed since then is known."""
    changes: ChangeCounts | None = None
    """What changed since `base`; None if it is not known, or was too much to be worth keeping."""
    changes_key: str | None = None
    """Where the changes are; None if there are none."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    finished_at: float = Field(default_factory=time.time)
    seconds: float = 0.0
