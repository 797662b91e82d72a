"""Index a build beside what is served, verify it, then switch."""

from sourcebook.context import Context
from sourcebook.errors import NotFound, VerificationFailed
from sourcebook.flow.messages import IndexBuild, IndexReady
from sourcebook.hub.builds.answers import check_has_documents
from sourcebook.hub.builds.model import Build
from sourcebook.hub.releases.model import Release
from sourcebook.hub.releases.policy import ReleaseChoice, find_base
from sourcebook.worker import JobRun
from sourcebook_indexer.cleanup import drop_unused_indices
from sourcebook_indexer.ignored import count_ignored, warn_of_ignored
from sourcebook_indexer.rollover import build_index_name, make_release, switch_api
from sourcebook_indexer.verify import verify_index


async def index_build(context: Context, run: JobRun, command: IndexBuild) -> IndexReady:
    """Index the documents of a build under a new name; when it is verified, the API serves it.

    Raises:
        NotFound: there is no such build, or the release to renew is gone.
        Conflict: it is archived.
        MappingError: the engine cannot index a field as the mapping says.
        VerificationFailed: the index is not complete; the API keeps its release.
        StoreDamaged: the documents of the build are not what was written.
    """
    build = await find_build(context, command.build)
    if command.renews is not None:
        return await _renew_index(context, run, command, build, command.renews)
    base = await find_base(context, command.api)
    return await release_in_full(context, run, command.api, build, ReleaseChoice("full", command.reason, base))


async def find_build(context: Context, name: str) -> Build:
    """Return a build that has its documents.

    Raises:
        NotFound: it is not there.
        Conflict: it is archived.
    """
    build = await context.state.get(Build, name)
    if build is None:
        raise NotFound(f"There is no build {name!r}.", build=name)
    check_has_documents(build)
    return build


async def release_in_full(context: Context, run: JobRun, api: str, build: Build, choice: ReleaseChoice) -> IndexReady:
    """Index every document of a build, verify the index, and switch the API."""
    index = build_index_name(api, build.name, run.id)
    if await context.search.count(index) is None:  # else this job ran before and died after the commit
        await _write_index(context, run, index, build)
    return await verify_and_switch(context, run, api, index, build, choice=choice)


async def _write_index(context: Context, run: JobRun, index: str, build: Build) -> None:
    settings = build.index_settings.for_documents(build.count)
    done = 0
    await context.documents.check(build.collection)  # what is damaged must not be served
    async with context.search.create(
        index, collection=build.collection, properties=build.mapping, settings=settings
    ) as writer:
        async for batch in context.documents.scan(build.collection, size=context.settings.batch_documents):
            await writer.add(batch)
            done += len(batch)
            await run.progress("index", done, build.count, "documents")
        await writer.commit()


async def verify_and_switch(
    context: Context, run: JobRun, api: str, index: str, build: Build, *, choice: ReleaseChoice
) -> IndexReady:
    """Point an API at an index that holds what it should; one that does not is removed.

    Raises:
        VerificationFailed: the index is not that of the build; the API keeps its release.
    """
    ignored = await _verify_or_drop(context, run, index, build)
    release = await make_release(context, api, index, build, choice, ignored=ignored)
    await switch_api(context, api, release)
    await drop_unused_indices(context)
    return describe_release(release, api)


async def _renew_index(context: Context, run: JobRun, command: IndexBuild, build: Build, name: str) -> IndexReady:
    """Index a build again for a release that has it, and point the release at the new index in one write."""
    release = await context.state.get(Release, name)
    if release is None:
        raise NotFound(f"There is no release {name!r} any more.", release=name)
    index = build_index_name(command.api, build.name, run.id)
    if release.index != index:  # else this job ran before and died after its switch
        if await context.search.count(index) is None:
            await _write_index(context, run, index, build)
        changes = {"ignored": await _verify_or_drop(context, run, index, build), "index": index}
        release = await context.state.update(Release, name, lambda known: known.model_copy(update=changes))
    await drop_unused_indices(context)
    return describe_release(release, command.api).model_copy(update={"kind": "full", "reason": command.reason})


async def _verify_or_drop(context: Context, run: JobRun, index: str, build: Build) -> dict[str, int]:
    try:
        await verify_index(context, index, build)
    except VerificationFailed:
        await context.search.drop(index)
        raise
    ignored = await count_ignored(context, index, build.mapping)
    warn_of_ignored(run, ignored)
    return ignored


def describe_release(release: Release, api: str) -> IndexReady:
    """Return the message that a release is served."""
    return IndexReady(
        release=release.name,
        api=api,
        count=release.count,
        kind=release.kind,
        reason=release.reason,
        ignored=release.ignored,
    )
