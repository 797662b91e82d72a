"""The stages of this service: decode the command, await one function, return the next message."""

from sourcebook.context import Context
from sourcebook.flow.messages import (
    ArchiveBuild,
    BuildArchived,
    BuildDocuments,
    BuildReady,
    CleanedUp,
    CleanUp,
    DiffBuilds,
    DiffReady,
    InstallRelease,
    MergeRange,
    PublishRelease,
    RangeMerged,
    ReleaseInstalled,
    ReleasePublished,
    StoredVerified,
    VerifyStored,
)
from sourcebook.hub.upkeep.cleanup import archive_build, clean_up, plan_clean_up
from sourcebook.worker import JobRun
from sourcebook_builder.build.build import build_documents
from sourcebook_builder.build.ranges import merge_range
from sourcebook_builder.diff import diff_builds
from sourcebook_builder.publishing.install import install_release
from sourcebook_builder.publishing.publish import publish_release
from sourcebook_builder.verify import verify_stored


async def build(context: Context, run: JobRun, command: BuildDocuments) -> BuildReady:
    """Merge the uploads of a build configuration."""
    return await build_documents(context, run, command)


async def merge(context: Context, run: JobRun, command: MergeRange) -> RangeMerged:
    """Merge a range of ids, as a part of a build."""
    return await merge_range(context, run, command)


async def publish(context: Context, run: JobRun, command: PublishRelease) -> ReleasePublished:
    """Write a build to an address that other machines install from."""
    return await publish_release(context, run, command)


async def install(context: Context, run: JobRun, command: InstallRelease) -> ReleaseInstalled:
    """Fetch a published release as a build."""
    return await install_release(context, run, command)


async def archive(context: Context, _run: JobRun, command: ArchiveBuild) -> BuildArchived:
    """Remove the documents of a build."""
    build = await archive_build(context, command.build)
    return BuildArchived(build=build.name, archived=build.count)


async def clean(context: Context, _run: JobRun, _command: CleanUp) -> CleanedUp:
    """Remove what the keep rules do not keep."""
    done = await clean_up(context, await plan_clean_up(context))
    return CleanedUp(**{kind: len(names) for kind, names in done.model_dump().items()})


async def verify(context: Context, run: JobRun, command: VerifyStored) -> StoredVerified:
    """Read everything that is stored, and say what is damaged."""
    return await verify_stored(context, run, command)


async def diff(context: Context, run: JobRun, command: DiffBuilds) -> DiffReady:
    """Say how one build differs from another."""
    return await diff_builds(context, run, command)
