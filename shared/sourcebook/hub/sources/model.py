"""What is known of a source: its plugin, its dumps (downloaded versions), and its uploads (collections of documents)."""

import time
from typing import Any

from pydantic import BaseModel, Field

from sourcebook.hub.changes.model import ChangeCounts


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


class DumpFile(BaseModel):
    """One file of a dump; `name` is relative to the dump's folder."""

    name: str
    size: int
    sha256: str
    url: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    told: dict[str, str] = Field(default_factory=dict)
    """What the server said of the file before it was downloaded: validators and size."""


class Dump(BaseModel):
    """One downloaded version of a source; `folder` is a key of the files port.

    `base` is the name of the version without the number that tells it from others of that name; `recipe` names what the
    manifest said of which files there are.
    """

    id: str
    source: str
    version: str
    base: str = ""
    recipe: str = ""
    folder: str
    files: list[DumpFile]
    finished_at: float = Field(default_factory=time.time)
    seconds: float = 0.0


class Upload(BaseModel):
    """One complete upload. `collection` never changes once this record exists."""

    id: str
    source: str
    uploader: str
    dump: str | None = None
    version: str
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
