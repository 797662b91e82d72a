"""What to merge (a build configuration) and what came of it (a build)."""

import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sourcebook.model.cron import check_cron
from sourcebook.model.remote import WritableAddress

# YAML reads a bare `off` as false.
ReleaseMode = Annotated[
    Literal["off", "auto", "full", "incremental"], BeforeValidator(lambda value: "off" if value is False else value)
]
Cron = Annotated[str, AfterValidator(check_cron)]


_API_PATHS = ("docs", "metadata", "query", "spec", "status", "v1")


def _check_doc_type(doc_type: str) -> str:
    if doc_type in _API_PATHS:
        raise ValueError(
            f"{doc_type!r} is a path of every API already ({', '.join(_API_PATHS)}); choose another doc_type"
        )
    return doc_type


_DOCUMENTS_PER_SHARD = 10_000_000


class IndexSettings(BaseModel):
    """Engine settings of a build's index."""

    model_config = ConfigDict(extra="forbid")

    shards: int | None = Field(None, ge=1, le=1024, description="Shards; default: one for each ten million documents")
    replicas: int | None = Field(
        None, ge=0, le=16, description="Copies of each shard; default: one where the cluster has more than one node"
    )
    extra: dict[str, Any] = Field(default_factory=dict)

    def for_documents(self, count: int) -> dict[str, Any]:
        """Return the settings for an index of so many documents.

        >>> IndexSettings().for_documents(25_000_000)
        {'shards': 3, 'replicas': None, 'extra': {}}
        """
        return {**self.model_dump(), "shards": self.shards or max(1, -(-count // _DOCUMENTS_PER_SHARD))}


class KeepRules(BaseModel):
    """What stays of old builds and releases; what an API serves or keeps for rollback, and the newest build, always stay."""

    model_config = ConfigDict(extra="forbid")

    builds: int | None = Field(None, ge=1, description="Builds whose documents stay; default: all")
    indices: int | None = Field(
        None, ge=1, description="Releases of an API that stay for rollback; default: SOURCEBOOK_KEEP_INDICES"
    )
    days: float | None = Field(None, gt=0, description="Age at which a build's documents go; default: none")


class BuildConfig(BaseModel):
    """Which uploads to merge into one collection, and how.

    `sources` name sources (`hgnc`), uploads (`hgnc/genes`) or patterns (`clin*`). `root` names the sources whose documents may
    create ids: empty means all, `!x` means all but x.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    doc_type: Annotated[str, AfterValidator(_check_doc_type)] = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
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
    search_by_default: list[str] | None = Field(
        None,
        description="The fields that a word without a field name is looked for in; default: every short text and keyword",
    )
    schedule: Cron | None = Field(None, description="When to build by itself: cron, in UTC, seconds as a sixth field")
    on_new_upload: bool = Field(default=False, description="Build by itself when a source has a new upload")
    release: ReleaseMode = Field("off", description="Release each new build by itself, and how")
    publish: WritableAddress | None = Field(
        None, description="Address (folder, S3 ...) to publish each new release to", max_length=2000
    )
    keep: KeepRules = Field(default_factory=KeepRules)


BuildMode = Literal["auto", "full", "incremental"]


class BuildInput(BaseModel):
    """An upload as it went into a build; the order of a build's inputs is the order in which they were merged."""

    name: str
    upload: str
    is_root: bool
    merges_deeply: bool


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
    inputs: list[BuildInput] = Field(default_factory=list)
    """The same uploads, with what else decides how they merge; empty for builds of older versions and for linked ones."""
    merge_rules: int = 0
    """Version of the code that merged them: documents of another version are not carried over."""
    incremental: bool = False
    """Whether only documents that changed were merged, and the others carried over from `base`."""
    base: str | None = None
    reason: str = ""
    """Why the build was incremental, or full."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Documents of non-root sources without a root document, by upload name."""
    dropped_examples: dict[str, list[str]] = Field(default_factory=dict)
    mapping: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    index_settings: IndexSettings = Field(default_factory=IndexSettings)
    finished_at: float = Field(default_factory=time.time)
    seconds: float = 0.0
    installed_from: str | None = None
    """The address that it was installed from, without secrets; None for a build that was made here."""
    archived_at: float | None = None
    """When its documents were removed; the record stays."""
