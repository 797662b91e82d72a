"""What travels between the stages: commands that start a job and the message that it ends with. Ids only, never data."""

import hashlib
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from sourcebook.hub.builds.model import BuildInput


class Message(BaseModel):
    """A frozen message; unknown keys are refused, so that services of different versions notice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that stand for the values of this kind of message."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]


class DumpSource(Message):
    """Download the newest version of a source; `force` downloads it even if it is not new."""

    source: str
    force: bool = False
    then_upload: bool = True


class DumpReady(Message):
    """A source has a good dump. `unchanged`: it was not new, nothing was downloaded. `uploaders`: whom to start next."""

    source: str
    dump: str
    version: str = Field(validation_alias=AliasChoices("version", "release"))  # 0.1 called it release
    unchanged: bool = False
    files: int = 0
    size: int = 0
    uploaders: tuple[str, ...] = ()


class UploadDump(Message):
    """Parse the newest dump of a source with one of its uploaders."""

    source: str
    uploader: str
    force: bool = False
    infer_anew: bool = False
    """Commit the mapping that is inferred, even in place of one that a person edited."""


class UploadReady(Message):
    """An uploader has a complete collection. `unchanged`: equal to the one before, which stays."""

    source: str
    uploader: str
    upload: str
    count: int
    unchanged: bool = False


class PartCommand(Message):
    """Do a part of `job`. What it makes lies where `model.names` says, until the job has ended."""

    job: str
    number: int

    @property
    def part(self) -> str:
        """The id of the job that does it: the same command of the same job is the same part, another one is another."""
        return f"{self.job}.p{self.number}-{self.digest}"


class ParseArguments(PartCommand):
    """Call the parser of an uploader with some of its parallelizer's argument tuples, as the manifest said for the upload.

    `data_folder` is where the files of the dump lie for the process that called the parallelizer.
    """

    source: str
    uploader: str
    dump: str
    data_folder: str
    parser: str
    kwargs: dict[str, Any]
    drop_nan: bool
    refuse_duplicates: bool
    run_bytes: int = 0
    arguments: tuple[list[Any], ...] = ()


class ArgumentsParsed(Message):
    """The runs of a part are published; `documents` is how many the parser yielded before it ended, or `failed`."""

    documents: int
    failed: bool = False


class InspectUpload(Message):
    """Infer the mapping of an upload again, from its stored documents."""

    source: str
    uploader: str


class InspectReady(Message):
    """A mapping was inferred."""

    source: str
    uploader: str
    fields: int
    differences: int


class BuildDocuments(Message):
    """Merge the uploads of a build configuration; `mode` "incremental" fails where an incremental build is not possible."""

    config: str
    build: str
    mode: Literal["auto", "full", "incremental"] = "auto"


class BuildReady(Message):
    """A build is complete. `reason` says why it was incremental, or full."""

    build: str
    count: int
    dropped: dict[str, int]
    incremental: bool = False
    reason: str = ""


class MergeRange(PartCommand):
    """Merge the documents of the inputs with start <= key < stop into a collection of their own.

    Keys are written as text of one character for each byte.
    """

    config: str
    inputs: tuple[BuildInput, ...]
    start: str | None
    stop: str | None


class RangeMerged(Message):
    """The collection of a part is complete; what was dropped, by the name of the input, and the first ids of it."""

    count: int
    dropped: dict[str, int]
    dropped_examples: dict[str, list[str]]


class CleanUp(Message):
    """Remove what the keep rules do not keep."""


class CleanedUp(Message):
    """What was removed, by kind: how many builds lost their documents, and how many records and changes were forgotten."""

    builds: int
    uploads: int
    jobs: int
    changes: int
    staging: int = 0


class ArchiveBuild(Message):
    """Remove the documents of a build, and keep its record."""

    build: str


class BuildArchived(Message):
    """The documents of a build are gone; `archived` is how many it had."""

    build: str
    archived: int


class VerifyStored(Message):
    """Read everything that is stored, or what a source, an upload, a build or an API has, and say what is damaged."""

    name: str | None = None


class StoredVerified(Message):
    """Nothing is damaged: so many collections and indices, and documents, were read."""

    checked: int
    documents: int


class PublishRelease(Message):
    """Write a build to an address; `remote` is the id of its record."""

    build: str
    remote: str
    mode: Literal["auto", "full", "incremental"] = "auto"


class ReleasePublished(Message):
    """What was written, in which forms and how many bytes. `unchanged`: it was there already."""

    build: str
    address: str
    forms: tuple[str, ...]
    size: int
    unchanged: bool = False


class InstallRelease(Message):
    """Fetch a published release (default: the newest) as a build of `config`, and serve it under an API."""

    config: str
    remote: str
    api: str
    version: str | None = None


class ReleaseInstalled(Message):
    """A published release is a build here. `steps` is the number of releases that were fetched for it.

    `unchanged`: the build was there already. `release`: the API does not serve it yet.
    """

    config: str
    build: str
    api: str
    count: int
    steps: int
    unchanged: bool = False
    release: bool = True


class DiffBuilds(Message):
    """Say how build `new` differs from build `old` of the same configuration; both may be ids of uploads instead."""

    old: str
    new: str
    ignore_list_order: bool = False


class DiffReady(Message):
    """What differs between two builds is published as files under the key `changes`."""

    old: str
    new: str
    changes: str
    add: int
    update: int
    delete: int


class IndexBuild(Message):
    """Index a build, verify it, and point an API at it; `reason` says why it is indexed whole.

    With `renews` the index takes the place of that release's own, which no API is moved by.
    """

    build: str
    api: str
    reason: str = ""
    renews: str | None = None


class ApplyChanges(Message):
    """Make the index of a build from what an API serves, verify it, and point the API at it.

    With the mode "auto" the build is indexed whole where that is cheaper, or the only way.
    """

    build: str
    api: str
    mode: Literal["auto", "incremental"] = "auto"


class IndexReady(Message):
    """An API serves a new release; `reason` says why it is full or incremental.

    `ignored` counts the documents with values that do not fit into the mapping, by field.
    """

    release: str
    api: str
    count: int
    kind: Literal["full", "incremental"] = "full"
    reason: str = ""
    ignored: dict[str, int] = {}
