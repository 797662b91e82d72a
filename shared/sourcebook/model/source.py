"""What the catalogue knows of a plugin and the source it declares."""

import time
from typing import Any

from pydantic import BaseModel, Field


class Plugin(BaseModel):
    """A registered plugin folder. The manifest is read from the folder at each use, so edits take effect at once."""

    name: str
    folder: str
    added_at: float = Field(default_factory=time.time)


class SourceState(BaseModel):
    """What is current of a source: written in one step when a stage ends, so that readers see the old or the new.

    `dump` is the id of the newest good dump; `uploads` maps each uploader to the id of its newest good upload.
    """

    name: str
    dump: str | None = None
    uploads: dict[str, str] = Field(default_factory=dict)
    last_dump_error: dict[str, Any] | None = None
    last_upload_errors: dict[str, dict[str, Any]] = Field(default_factory=dict)
