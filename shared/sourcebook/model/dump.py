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


class Dump(BaseModel):
    """One downloaded release; `folder` is a key of the files port."""

    id: str
    source: str
    release: str
    folder: str
    files: list[DumpFile]
    finished_at: float = Field(default_factory=time.time)
    seconds: float = 0.0
