"""A dump: one downloaded release of a source."""

import time

from pydantic import BaseModel, Field


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
    """One downloaded release; `folder` is a key of the files port.

    `base` is the name of the release without the number that tells it from others of that name; `recipe` names what the
    manifest said of which files there are.
    """

    id: str
    source: str
    release: str
    base: str = ""
    recipe: str = ""
    folder: str
    files: list[DumpFile]
    finished_at: float = Field(default_factory=time.time)
    seconds: float = 0.0
