"""What the keep rules do not keep: documents of old builds, and records and changes that nothing needs any more.

What an API serves or keeps for rollback stays whatever a rule says, and so do the newest build of a configuration and what an
active job works with.
"""

import time

from pydantic import BaseModel, Field

from sourcebook.context import Context
from sourcebook.errors import Conflict
from sourcebook.flow.messages import ArchiveBuild, CleanUp
from sourcebook.hub.builds.answers import get_build
from sourcebook.hub.builds.model import Build, BuildConfig, KeepRules
from sourcebook.hub.jobs.answers import find_user
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.publishing.remotes import Subscription
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.sources.model import SourceState, Upload

_DAY = 86_400.0
_STAGED_SECONDS = 7 * _DAY  # a download that was interrupted may be taken up again so long


class CleanUpPlan(BaseModel):
    """What is to go: builds whose documents are removed, records and changes that are forgotten, staging that was abandoned."""

    builds: list[str] = Field(default_factory=list)
    uploads: list[str] = Field(default_factory=list)
    jobs: list[str] = Field(default_factory=list)
    changes: list[str] = Field(default_factory=list)
    staging: list[str] = Field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.model_dump().values())


async def start_clean_up_if_needed(context: Context, *, job_id: str | None = None) -> Job | None:
    """Start to carry out the keep rules, unless there is nothing to remove."""
    return await start_clean_up(context, job_id=job_id) if await plan_clean_up(context) else None


async def start_clean_up(context: Context, *, job_id: str | None = None) -> Job:
    """Start to carry out the keep rules.

    Raises:
        Busy: that is under way.
    """
    return await submit(context, CleanUp(), job_id=job_id)


async def plan_clean_up(context: Context) -> CleanUpPlan:
    """Return what the keep rules would remove now; nothing is removed."""
    builds = await context.state.find(Build)
    leaving = await _leaving_builds(context, builds)
    return CleanUpPlan(
        builds=leaving,
        uploads=await _leaving_uploads(context, [build for build in builds if build.name not in leaving]),
        jobs=await _leaving_jobs(context),
        changes=await _leaving_changes(context, builds, leaving),
        staging=await context.files.abandoned(max(_STAGED_SECONDS, context.settings.job_time_limit.total_seconds())),
    )


async def clean_up(context: Context, plan: CleanUpPlan) -> CleanUpPlan:
    """Carry out a plan; return what was removed. What has come into use since the plan was made stays."""
    archived = []
    for name in plan.builds:
        try:
            await archive_build(context, name)
        except Conflict:
            continue
        archived.append(name)
    for upload_id in plan.uploads:
        await context.state.delete(Upload, upload_id)
    for job_id in plan.jobs:
        await context.state.delete(Job, job_id)
    for key in plan.changes:
        await context.files.delete(key)
    for key in plan.staging:
        await context.files.discard(key)
    return plan.model_copy(update={"builds": archived})


async def start_archive(context: Context, name: str) -> Job:
    """Start to remove the documents of a build.

    Raises:
        NotFound: there is no such build.
        Conflict: an API serves it or keeps it for rollback, or a job works with it.
        Busy: it is being archived.
    """
    build = await get_build(context, name)
    await _check_unused(context, build.name)
    return await submit(context, ArchiveBuild(build=build.name))


async def archive_build(context: Context, name: str) -> Build:
    """Remove the documents of a build and keep its record.

    Raises:
        NotFound: there is no such build.
        Conflict: an API serves it or keeps it for rollback, or a job works with it.
    """
    build = await get_build(context, name)
    await _check_unused(context, name)
    if build.archived_at is not None:
        return build
    # Marked first: a job that begins now sees the mark and refuses, and one that began before is seen by the second look.
    marked = await _mark(context, name, time.time())
    try:
        await _check_unused(context, name)
    except Conflict:
        await _mark(context, name, None)
        raise
    if not await _is_needed(context, build):
        await context.documents.drop(build.collection)
    return marked


async def _mark(context: Context, name: str, at: float | None) -> Build:
    return await context.state.update(Build, name, lambda build: build.model_copy(update={"archived_at": at}))


async def _check_unused(context: Context, name: str) -> None:
    if api := (await _builds_in_use(context)).get(name):
        raise Conflict(f"API {api!r} serves build {name!r}, or keeps it for rollback.", build=name, api=api)
    if job := await find_user(context, name):
        raise Conflict(f"Job {job.id} ({job.kind}) works with build {name!r}.", build=name, job=job.id)


async def _is_needed(context: Context, build: Build) -> bool:
    """Whether something else has the same collection: a linked build has that of an upload."""
    others = await context.state.find(Build, {"collection": build.collection})
    if any(other.name != build.name and other.archived_at is None for other in others):
        return True
    return build.linked and bool(await context.state.find(Upload, {"collection": build.collection}, limit=1))


async def _builds_in_use(context: Context) -> dict[str, str]:
    """Return the builds that an API serves or keeps for rollback, with that API."""
    releases = {release.name: release.build for release in await context.state.find(Release)}
    return {
        releases[name]: api.name
        for api in await context.state.find(Api)
        for name in (api.release, *api.history)
        if name in releases
    }


async def _leaving_builds(context: Context, builds: list[Build]) -> list[str]:
    used = await _builds_in_use(context)
    configs = {config.name: config for config in await context.state.find(BuildConfig)}
    subscribed = {item.name: KeepRules(builds=item.keep) for item in await context.state.find(Subscription)}
    leaving = []
    for name in sorted({build.config for build in builds}):
        rules = configs[name].keep if name in configs else subscribed.get(name, KeepRules())
        stored = [build for build in builds if build.config == name and build.archived_at is None]
        stored.sort(key=lambda build: build.finished_at, reverse=True)
        leaving += [
            build.name
            for number, build in enumerate(stored)
            if number and _is_let_go(rules, number, build) and build.name not in used
        ]
    return [name for name in leaving if await find_user(context, name) is None]


def _is_let_go(rules: KeepRules, newer: int, build: Build) -> bool:
    """Whether the rules let a build go that has so many newer ones."""
    if rules.builds is not None and newer >= rules.builds:
        return True
    return rules.days is not None and time.time() - build.finished_at > rules.days * _DAY


async def _leaving_uploads(context: Context, builds: list[Build]) -> list[str]:
    """Return the records of uploads that are older than all that a stored build, or the source itself, still speaks of."""
    needed = {upload_id for build in builds if build.archived_at is None for upload_id in build.uploads}
    for state in await context.state.find(SourceState):
        needed |= set(state.uploads.values())
    records: dict[str, list[Upload]] = {}
    for upload in await context.state.find(Upload):
        records.setdefault(build_upload_name(upload.source, upload.uploader), []).append(upload)
    leaving = []
    for uploads in records.values():
        # The changes from one upload to the next lead from what a build has to what is current: no gaps.
        oldest = min((upload.finished_at for upload in uploads if upload.id in needed), default=None)
        if oldest is not None:
            leaving += [upload.id for upload in uploads if upload.finished_at < oldest]
    return leaving


async def _leaving_jobs(context: Context) -> list[str]:
    jobs = await context.state.find(Job)
    before = time.time() - context.settings.keep_jobs.total_seconds()
    # A job may still follow a parent that is not finished.
    active = {job.parent for job in jobs if job.state in ACTIVE_STATES}
    return [
        job.id
        for job in jobs
        if job.is_finished and job.id not in active and (job.finished_at or job.queued_at) < before
    ]


async def _leaving_changes(context: Context, builds: list[Build], leaving: list[str]) -> list[str]:
    """Return the keys of changes that lead to a build whose documents are gone, or go now."""
    gone = {build.name for build in builds if build.archived_at is not None} | set(leaving)
    return [key for name in sorted(gone) for key in await context.files.keys(f"changes/{name}")]
