"""What follows what: the one table. A worker acts on the rows after a job, beat on all others.

No row waits for an event, which could be lost. A worker creates the jobs that follow before it notes that its own has ended, with
ids made from its own job's; beat compares again and again what there is with what it has dealt with, and gives what is due by the
clock an id made from the schedule and the time. Whoever dies in between is followed by one that comes to the same jobs.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sourcebook.context import Context
from sourcebook.flow.messages import (
    ApplyChanges,
    BuildDocuments,
    CleanUp,
    DumpReady,
    DumpSource,
    IndexBuild,
    InstallRelease,
    Message,
    PublishRelease,
    ReleaseInstalled,
    UploadDump,
    VerifyStored,
)
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.jobs.recovery import end_open_parts, recover_running, remove_left_scratch, resend_queued
from sourcebook.hub.releases.policy import is_to_be_released
from sourcebook.hub.releases.renewal import renew_indices
from sourcebook.hub.schedules.chain import Step, find_next_build, find_next_publication, find_next_release
from sourcebook.hub.schedules.clock import (
    find_config_schedules,
    find_manifest_schedules,
    find_subscription_schedules,
    start_scheduled_build,
    start_scheduled_clean_up,
    start_scheduled_dump,
    start_scheduled_install,
    start_scheduled_verify,
)
from sourcebook.hub.schedules.model import ChainState
from sourcebook.hub.sources.policy import find_uploads_to_start
from sourcebook.hub.upkeep.cleanup import plan_clean_up
from sourcebook.hub.upkeep.verify import find_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row: once `trigger` has come, and if `decided_by` finds that `condition` holds, jobs with `commands` start.

    `follows` are the commands whose jobs bring the trigger about. A rule without `commands` says in `outcome` what happens.
    """

    trigger: str
    follows: tuple[type[Message], ...] = ()
    condition: str
    decided_by: Callable[..., Any]
    commands: tuple[type[Message], ...] = ()
    outcome: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterJob(Rule):
    """What a worker starts when a job ended with a `message`.

    The job itself asked `decided_by`, while it had its lock; `read` finds the answer in the message.
    """

    message: type[Message]
    read: Callable[[Any], list[Message]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterChange(Rule):
    """What beat starts for a build configuration; `decided_by` compares what there is with what was dealt with."""

    decided_by: Callable[[Context, BuildConfig, ChainState], Awaitable[Step | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnTime(Rule):
    """What beat starts by the clock: `find` returns (target, cron), `start` takes (target, id of the job).

    One of them asks `decided_by`. A rule that `is_built_in` holds though nobody asked for it.
    """

    kind: str
    find: Callable[[Context], Awaitable[list[tuple[str, str]]]]
    start: Callable[[Context, str, str], Awaitable[Job | None]]
    is_built_in: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterLoss(Rule):
    """What beat puts right once a worker, a message or an index was lost; `decided_by` does it and returns the ids of jobs."""

    decided_by: Callable[[Context], Awaitable[list[str]]]


def _every(cron: str) -> Callable[[Context], Awaitable[list[tuple[str, str]]]]:
    async def find(_context: Context) -> list[tuple[str, str]]:
        return [("home", cron)]

    return find


AFTER_JOB = (
    AfterJob(
        trigger="A source was downloaded, or was not new",
        follows=(DumpSource,),
        message=DumpReady,
        condition="for each uploader whose documents are not of this download and the present code, unless a job is at it, or "
        "only the download was asked for",
        decided_by=find_uploads_to_start,
        read=lambda message: [UploadDump(source=message.source, uploader=name) for name in message.uploaders],
        commands=(UploadDump,),
    ),
    AfterJob(
        trigger="A published release was installed",
        follows=(InstallRelease,),
        message=ReleaseInstalled,
        condition="the API serves another build, or none",
        decided_by=is_to_be_released,
        read=lambda message: [ApplyChanges(build=message.build, api=message.api)] if message.release else [],
        commands=(ApplyChanges,),
    ),
)
AFTER_CHANGE = (
    AfterChange(
        trigger="A source has a new upload",
        follows=(UploadDump,),
        condition="the configuration says `on_new_upload`, the documents differ from those of its last build, and none of its "
        "sources is being downloaded or uploaded",
        decided_by=find_next_build,
        commands=(BuildDocuments,),
    ),
    AfterChange(
        trigger="There is a newer build",
        follows=(BuildDocuments,),
        condition="the configuration says `release`, no job works with the build; for each of its APIs that does not have it",
        decided_by=find_next_release,
        commands=(IndexBuild, ApplyChanges),
    ),
    AfterChange(
        trigger="An API serves a newer release",
        follows=(IndexBuild, ApplyChanges),
        condition="the configuration says `publish`",
        decided_by=find_next_publication,
        commands=(PublishRelease,),
    ),
)
ON_TIME = (
    OnTime(
        trigger="Each hour",
        condition="the keep rules have something to remove",
        kind="clean",
        find=_every("20 * * * *"),
        start=start_scheduled_clean_up,
        decided_by=plan_clean_up,
        commands=(CleanUp,),
        is_built_in=True,
    ),
    OnTime(
        trigger="Each week",
        condition="something is stored",
        kind="verify",
        find=_every("40 2 * * 0"),
        start=start_scheduled_verify,
        decided_by=find_stored,
        commands=(VerifyStored,),
        is_built_in=True,
    ),
    OnTime(
        trigger="The `schedule` of a manifest",
        condition="its dumper is not disabled",
        kind="dump",
        find=find_manifest_schedules,
        start=start_scheduled_dump,
        decided_by=find_manifest_schedules,
        commands=(DumpSource,),
    ),
    OnTime(
        trigger="The `schedule` of a build configuration",
        condition="always",
        kind="build",
        find=find_config_schedules,
        start=start_scheduled_build,
        decided_by=find_config_schedules,
        commands=(BuildDocuments,),
    ),
    OnTime(
        trigger="The `cron` of a subscription",
        condition="always",
        kind="subscribe",
        find=find_subscription_schedules,
        start=start_scheduled_install,
        decided_by=find_subscription_schedules,
        commands=(InstallRelease,),
    ),
)
AFTER_LOSS = (
    AfterLoss(
        trigger="A job runs, and nobody holds its lock",
        condition="it was not cancelled, and was started fewer than `SOURCEBOOK_JOB_ATTEMPTS` times; else it ends",
        decided_by=recover_running,
        outcome="the job is sent again",
    ),
    AfterLoss(
        trigger="A job is queued",
        condition="it was never sent, or has waited for 30 seconds, and then for twice as long each time",
        decided_by=resend_queued,
        outcome="the job is sent again",
    ),
    AfterLoss(
        trigger="A job has ended",
        condition="parts of it have not",
        decided_by=end_open_parts,
        outcome="its parts end",
    ),
    AfterLoss(
        trigger="A job has ended, or is forgotten",
        condition="temporary files of it are left on this machine, whose worker was killed",
        decided_by=remove_left_scratch,
        outcome="they are removed",
    ),
    AfterLoss(
        trigger="An API serves a release whose index an earlier version wrote",
        condition="no job renews that index, or failed at it since the API moved",
        decided_by=renew_indices,
        commands=(IndexBuild,),
    ),
)
RULES: tuple[Rule, ...] = (*AFTER_JOB, *AFTER_CHANGE, *ON_TIME, *AFTER_LOSS)


def next_commands(message: Message) -> list[Message]:
    """Return the commands that follow by themselves when a job ends with a message."""
    return [command for rule in AFTER_JOB if rule.message is type(message) for command in rule.read(message)]
