"""The one table of stages: which queue and function runs a command. What follows is in `hub/schedules/rules.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sourcebook.flow.messages import (
    ApplyChanges,
    ArchiveBuild,
    BuildDocuments,
    CleanUp,
    DiffBuilds,
    DumpSource,
    IndexBuild,
    InspectUpload,
    InstallRelease,
    MergeRange,
    Message,
    ParseArguments,
    PartCommand,
    PublishRelease,
    UploadDump,
    VerifyStored,
)

SERVICES = {"dump": "dumper", "upload": "uploader", "build": "builder", "index": "indexer"}
"""Every queue with the service whose workers take its jobs. Files that have to repeat these names are compared with this."""
QUEUES = tuple(SERVICES)
BEAT_QUEUE = "beat"  # scheduled housekeeping; the worker of this queue is also the clock
WORKER_QUEUES = (*QUEUES, BEAT_QUEUE)
_DUMP, _UPLOAD, _BUILD, _INDEX = QUEUES


@dataclass(frozen=True, slots=True)
class Stage:
    """A kind of job.

    `lock` returns the name of what the job works on; two jobs with the same lock never run at once.
    """

    name: str
    queue: str
    command: type[Message]
    lock: Callable[[Any], str]
    target: Callable[[Any], str]

    @property
    def handler(self) -> str:
        """The `module:function` of the service that runs it: `async (Context, JobRun, command) -> message`."""
        return f"sourcebook_{SERVICES[self.queue]}.tasks:{self.name}"

    @property
    def is_part(self) -> bool:
        """Whether its jobs are parts of another job, their parent: they end with it."""
        return issubclass(self.command, PartCommand)


_ALL = (
    Stage("dump", _DUMP, DumpSource, lambda c: f"dump:{c.source}", lambda c: c.source),
    Stage(
        "upload", _UPLOAD, UploadDump, lambda c: f"upload:{c.source}/{c.uploader}", lambda c: f"{c.source}/{c.uploader}"
    ),
    Stage("parse", _UPLOAD, ParseArguments, lambda c: f"part:{c.part}", lambda c: f"{c.source}/{c.uploader}"),
    Stage(
        "inspect",
        _UPLOAD,
        InspectUpload,
        lambda c: f"upload:{c.source}/{c.uploader}",
        lambda c: f"{c.source}/{c.uploader}",
    ),
    Stage("build", _BUILD, BuildDocuments, lambda c: f"build:{c.config}", lambda c: c.config),
    Stage("merge", _BUILD, MergeRange, lambda c: f"part:{c.part}", lambda c: c.config),
    Stage("publish", _BUILD, PublishRelease, lambda c: f"publish:{c.remote}", lambda c: c.build),
    Stage("install", _BUILD, InstallRelease, lambda c: f"build:{c.config}", lambda c: c.config),
    Stage("archive", _BUILD, ArchiveBuild, lambda c: f"archive:{c.build}", lambda c: c.build),
    Stage("clean", _BUILD, CleanUp, lambda _: "clean", lambda _: "home"),
    Stage("verify", _BUILD, VerifyStored, lambda c: f"verify:{c.name or ''}", lambda c: c.name or "home"),
    Stage("diff", _BUILD, DiffBuilds, lambda c: f"diff:{c.new}/{c.old}", lambda c: c.new),
    Stage("index", _INDEX, IndexBuild, lambda c: f"index:{c.api}", lambda c: c.build),
    Stage("apply", _INDEX, ApplyChanges, lambda c: f"index:{c.api}", lambda c: c.build),
)
STAGES = {stage.name: stage for stage in _ALL}


def stage_of(command: Message) -> Stage:
    """Return the stage that runs a command."""
    return next(stage for stage in _ALL if stage.command is type(command))


def is_part(kind: str) -> bool:
    """Whether jobs of a kind are parts of other jobs; a kind that a newer version of Sourcebook left in the state is none."""
    return kind in STAGES and STAGES[kind].is_part
