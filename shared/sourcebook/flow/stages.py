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


@dataclass(frozen=True, slots=True)
class Stage:
    """A kind of job.

    `handler` is `module:function` of the service that runs it: `async (Context, JobRun, command) -> message`.
    `lock` returns the name of what the job works on; two jobs with the same lock never run at once.
    """

    name: str
    queue: str
    handler: str
    command: type[Message]
    lock: Callable[[Any], str]
    target: Callable[[Any], str]

    @property
    def is_part(self) -> bool:
        """Whether its jobs are parts of another job, their parent: they end with it."""
        return issubclass(self.command, PartCommand)


_ALL = (
    Stage("dump", "dump", "sourcebook_dumper.tasks:dump", DumpSource, lambda c: f"dump:{c.source}", lambda c: c.source),
    Stage(
        "upload",
        "upload",
        "sourcebook_uploader.tasks:upload",
        UploadDump,
        lambda c: f"upload:{c.source}/{c.uploader}",
        lambda c: f"{c.source}/{c.uploader}",
    ),
    Stage(
        "parse",
        "upload",
        "sourcebook_uploader.tasks:parse",
        ParseArguments,
        lambda c: f"part:{c.part}",
        lambda c: f"{c.source}/{c.uploader}",
    ),
    Stage(
        "inspect",
        "upload",
        "sourcebook_uploader.tasks:inspect",
        InspectUpload,
        lambda c: f"upload:{c.source}/{c.uploader}",
        lambda c: f"{c.source}/{c.uploader}",
    ),
    Stage(
        "build",
        "build",
        "sourcebook_builder.tasks:build",
        BuildDocuments,
        lambda c: f"build:{c.config}",
        lambda c: c.config,
    ),
    Stage(
        "merge",
        "build",
        "sourcebook_builder.tasks:merge",
        MergeRange,
        lambda c: f"part:{c.part}",
        lambda c: c.config,
    ),
    Stage(
        "publish",
        "build",
        "sourcebook_builder.tasks:publish",
        PublishRelease,
        lambda c: f"publish:{c.remote}",
        lambda c: c.build,
    ),
    Stage(
        "install",
        "build",
        "sourcebook_builder.tasks:install",
        InstallRelease,
        lambda c: f"build:{c.config}",
        lambda c: c.config,
    ),
    Stage(
        "archive",
        "build",
        "sourcebook_builder.tasks:archive",
        ArchiveBuild,
        lambda c: f"archive:{c.build}",
        lambda c: c.build,
    ),
    Stage("clean", "build", "sourcebook_builder.tasks:clean", CleanUp, lambda _: "clean", lambda _: "home"),
    Stage(
        "verify",
        "build",
        "sourcebook_builder.tasks:verify",
        VerifyStored,
        lambda c: f"verify:{c.name or ''}",
        lambda c: c.name or "home",
    ),
    Stage(
        "diff",
        "build",
        "sourcebook_builder.tasks:diff",
        DiffBuilds,
        lambda c: f"diff:{c.new}/{c.old}",
        lambda c: c.new,
    ),
    Stage(
        "index", "index", "sourcebook_indexer.tasks:index", IndexBuild, lambda c: f"index:{c.api}", lambda c: c.build
    ),
    Stage(
        "apply",
        "index",
        "sourcebook_indexer.tasks:apply",
        ApplyChanges,
        lambda c: f"index:{c.api}",
        lambda c: c.build,
    ),
)
STAGES = {stage.name: stage for stage in _ALL}
QUEUES = ("dump", "upload", "build", "index")
BEAT_QUEUE = "beat"  # scheduled housekeeping; the worker of this queue is also the clock


def stage_of(command: Message) -> Stage:
    """Return the stage that runs a command."""
    return next(stage for stage in _ALL if stage.command is type(command))


def is_part(kind: str) -> bool:
    """Whether jobs of a kind are parts of other jobs; a kind that a newer version of Sourcebook left in the state is none."""
    return kind in STAGES and STAGES[kind].is_part
