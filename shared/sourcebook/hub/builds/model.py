"""What to merge (a build configuration) and what came of it (a build)."""

import difflib
import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sourcebook.hub.publishing.remotes import WritableAddress
from sourcebook.hub.schedules.cron import Cron

# YAML reads a bare `off` as false.
AutoRelease = Annotated[
    Literal["off", "auto", "full", "incremental"], BeforeValidator(lambda value: "off" if value is False else value)
]


_API_PATHS = ("docs", "metadata", "query", "spec", "status", "v1")


def _check_doc_type(doc_type: str) -> str:
    if doc_type in _API_PATHS:
        raise ValueError(
            f"{doc_type!r} is a path of every API already ({', '.join(_API_PATHS)}); choose another doc_type"
        )
    return doc_type


_DOCUMENTS_PER_SHARD = 10_000_000


class _Section(BaseModel):
    """An object of a build configuration: an unknown key is refused, with the nearest known one."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                found = difflib.get_close_matches(str(key), known, 1)
                near = f"did you mean {found[0]!r}?" if found else f"known are {', '.join(known)}"
                raise PydanticCustomError("unknown_key", "unknown key {key}; {near}", {"key": repr(key), "near": near})
        return value


class IndexSettings(_Section):
    """Engine settings of a build's index."""

    shards: int | None = Field(
        None, ge=1, le=1024, description="Shards of an OpenSearch index; default: one for each ten million documents"
    )
    replicas: int | None = Field(
        None, ge=0, le=16, description="Copies of each shard; default: one where the cluster has more than one node"
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="Further settings of an OpenSearch index")

    def for_documents(self, count: int) -> dict[str, Any]:
        """Return the settings for an index of so many documents.

        >>> IndexSettings().for_documents(25_000_000)
        {'shards': 3, 'replicas': None, 'extra': {}}
        """
        return {**self.model_dump(), "shards": self.shards or max(1, -(-count // _DOCUMENTS_PER_SHARD))}


class KeepRules(_Section):
    """What stays of old builds and releases; what an API serves or keeps for rollback, and the newest build, always stay."""

    builds: int | None = Field(None, ge=1, description="Builds whose documents stay; default: all")
    indices: int | None = Field(
        None, ge=1, description="Releases of an API that stay for rollback; default: SOURCEBOOK_KEEP_INDICES"
    )
    days: float | None = Field(None, gt=0, description="Age at which a build's documents go; default: none")


class BuildConfig(_Section):
    """Which uploads to merge into one collection, and how.

    `sources` name sources (`hgnc`), uploads (`hgnc/genes`) or patterns (`clin*`). `root` names the sources whose documents may
    create ids: empty means all, `!x` means all but x.
    """

    name: str = Field(description="Its name, and that of its API unless a release says otherwise")
    doc_type: Annotated[str, AfterValidator(_check_doc_type)] = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$",
        description="What a document is about; the path of documents: `/gene/1017`",
    )
    sources: list[str] = Field(
        min_length=1, description="What to merge: sources (`hgnc`), uploads (`hgnc/genes`) or patterns (`clin*`)"
    )
    root: list[str] = Field(
        default_factory=list,
        description="Sources whose documents may create ids; `!x` means all but x. Others only add to documents that are there; "
        "default: all",
    )
    builder: Literal["merge", "link"] = Field(
        "merge",
        description="`merge` writes a collection; `link` serves the documents of one upload as they are, without a copy",
    )
    build_version: str = Field(
        "%Y%m%d%H%M", description="strftime pattern of a build's version, in UTC", min_length=1, max_length=60
    )
    index: IndexSettings = Field(default_factory=IndexSettings, description="Settings of the search index")
    meta: dict[str, Any] = Field(default_factory=dict, alias="_meta", description="Extra entries of /metadata")
    queries: dict[str, str] = Field(
        default_factory=dict, description="Named queries for `userquery`; {q} is the user's text"
    )
    search_by_default: list[str] | None = Field(
        None,
        description="The fields that a word without a field name is looked for in; default: every short text and keyword",
    )
    schedule: Cron | None = Field(
        None,
        description="When to build automatically: a cron expression in UTC, with seconds as an optional sixth field",
    )
    on_new_upload: bool = Field(default=False, description="Build automatically when a source has a new upload")
    release: AutoRelease = Field("off", description="Whether each new build is released automatically, and how")
    publish: WritableAddress | None = Field(
        None, description="Address (folder, S3 ...) to publish each new release to", max_length=2000
    )
    keep: KeepRules = Field(default_factory=KeepRules, description="What stays of old builds and releases")


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
