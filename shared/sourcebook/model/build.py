"""What to merge (a build configuration) and what came of it (a build)."""

import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class IndexSettings(BaseModel):
    """Engine settings of a build's index."""

    model_config = ConfigDict(extra="forbid")

    shards: int = Field(1, ge=1, le=1024)
    replicas: int = Field(0, ge=0, le=16)
    extra: dict[str, Any] = Field(default_factory=dict)


class BuildConfig(BaseModel):
    """Which uploads to merge into one collection, and how.

    `sources` name sources (`hgnc`), uploads (`hgnc/genes`) or patterns (`clin*`). `root` names the sources whose documents may
    create ids: empty means all, `!x` means all but x.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    doc_type: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
    sources: list[str] = Field(min_length=1)
    root: list[str] = Field(default_factory=list)
    builder: Literal["merge", "link"] = "merge"
    build_version: str = Field(
        "%Y%m%d%H%M", description="strftime pattern of a build's version, in UTC", min_length=1, max_length=60
    )
    index: IndexSettings = Field(default_factory=IndexSettings)
    meta: dict[str, Any] = Field(default_factory=dict, alias="_meta", description="Extra entries of /metadata")
    queries: dict[str, str] = Field(
        default_factory=dict, description="Named queries for `userquery`; {q} is the user's text"
    )


class Build(BaseModel):
    """One merged collection (for the link builder: an upload's collection, `linked`)."""

    name: str
    config: str
    doc_type: str
    collection: str
    linked: bool = False
    count: int
    digest: str
    uploads: list[str]
    dropped: dict[str, int] = Field(default_factory=dict)
    """Documents of non-root sources without a root document, by upload name."""
    dropped_examples: dict[str, list[str]] = Field(default_factory=dict)
    mapping: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    index_settings: IndexSettings = Field(default_factory=IndexSettings)
    finished_at: float = Field(default_factory=time.time)
    seconds: float = 0.0
