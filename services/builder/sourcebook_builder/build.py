"""Build: merge the current uploads of a configuration into one new collection."""

import time
from collections.abc import AsyncIterator

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, InvalidRequest, MappingError, NotFound, VerificationFailed
from sourcebook.flow.messages import BuildDocuments, BuildReady
from sourcebook.model.build import Build, BuildConfig
from sourcebook.model.document import Record
from sourcebook.model.dump import Dump
from sourcebook.model.mapping import Mapping, Properties, merge_properties
from sourcebook.model.names import build_collection_name, parse_collection_name
from sourcebook.ports.documents import CollectionInfo
from sourcebook.worker import JobRun
from sourcebook_builder.merge import MergeSource, merge_sources
from sourcebook_builder.metadata import describe_build
from sourcebook_builder.select import ChosenUpload, select_uploads


async def build_documents(context: Context, run: JobRun, command: BuildDocuments) -> BuildReady:
    """Merge the uploads of a configuration, with their mappings and metadata; the build is visible when it is complete.

    Raises:
        NotFound: there is no such configuration.
        MissingUpload: a source has no documents.
        MappingError: two sources give a field types that cannot be one.
        VerificationFailed: no document is left.
    """
    started = time.time()
    config = await context.catalog.get(BuildConfig, command.config)
    if config is None:
        raise NotFound(f"There is no build configuration {command.config!r}.", config=command.config)
    known = await context.catalog.get(Build, command.build)
    if known is not None:  # this job ran before and died after its last write
        return BuildReady(build=known.name, count=known.count, dropped=known.dropped)
    chosen = await select_uploads(context, config)
    mappings = await _committed_mappings(context, chosen)
    properties = merge_properties(list(mappings.items()))
    sources: list[MergeSource] = []
    if config.builder == "link":
        info = await _link(context, config, chosen)
    else:
        await _drop_unfinished(context, config)
        sources = [_open_source(context, item) for item in chosen]
        name = build_collection_name("build", config.name, run.id)
        info = await _merge(context, run, name, sources, sum(item.upload.count for item in chosen))
    if info.count == 0:
        raise VerificationFailed(
            f"Build {command.build!r} would have no documents: no source of {config.name!r} created an id."
        )
    version = command.build.removeprefix(f"{config.name}_")
    dumps = [(item.upload, await context.catalog.get(Dump, item.upload.dump or "")) for item in chosen]
    build = Build(
        name=command.build,
        config=config.name,
        doc_type=config.doc_type,
        collection=info.name,
        linked=config.builder == "link",
        count=info.count,
        digest=info.digest,
        uploads=[item.upload.id for item in chosen],
        dropped={source.name: source.dropped for source in sources if source.dropped},
        dropped_examples={source.name: source.dropped_examples for source in sources if source.dropped},
        mapping=properties,
        metadata=describe_build(config, dumps, total=info.count, version=version, mappings=mappings),
        index_settings=config.index,
        seconds=time.time() - started,
    )
    _report_dropped(run, build)
    await context.catalog.put(build.name, build)
    return BuildReady(build=build.name, count=build.count, dropped=build.dropped)


async def _committed_mappings(context: Context, chosen: list[ChosenUpload]) -> dict[str, Properties]:
    mappings = {}
    for item in chosen:
        mapping = await context.catalog.get(Mapping, item.name)
        if mapping is None or mapping.committed is None:
            raise MappingError(
                f"{item.name} has no committed mapping: look at it with `sourcebook mapping show {item.name}`, then "
                f"`sourcebook mapping commit {item.name}`.",
                upload=item.name,
            )
        mappings[item.name] = mapping.committed
    return mappings


async def _link(context: Context, config: BuildConfig, chosen: list[ChosenUpload]) -> CollectionInfo:
    if len(chosen) != 1:
        names = ", ".join(item.name for item in chosen)
        raise InvalidRequest(
            f"Build configuration {config.name!r} links one upload without copying it, but names {len(chosen)} ({names}). "
            "Name one, or use the merge builder.",
            config=config.name,
        )
    info = await context.documents.info(chosen[0].upload.collection)
    if info is None:
        raise _replaced(chosen[0].name)
    return info


def _open_source(context: Context, item: ChosenUpload) -> MergeSource:
    batches = context.documents.scan(item.upload.collection, size=context.settings.batch_documents)
    return MergeSource(item.name, batches, is_root=item.is_root, merges_deeply=item.upload.merge)


async def _merge(context: Context, run: JobRun, name: str, sources: list[MergeSource], total: int) -> CollectionInfo:
    try:
        async with context.documents.create(name) as writer:
            async for batch in _reported(run, sources, total):
                await writer.write(batch)
            return await writer.commit()
    except NotFound as error:
        raise _replaced(str(error.details.get("collection"))) from error


async def _reported(run: JobRun, sources: list[MergeSource], total: int) -> AsyncIterator[list[Record]]:
    async for batch in merge_sources(sources):
        yield batch
        await run.progress("merge", sum(source.read for source in sources), total, "documents")


def _replaced(name: str) -> EngineUnavailable:
    return EngineUnavailable(f"{name} was uploaded anew while the build began; the build starts again.", upload=name)


async def _drop_unfinished(context: Context, config: BuildConfig) -> None:
    """Remove collections that a build of this configuration committed before it died. We hold the configuration's lock."""
    used = {build.collection for build in await context.catalog.find(Build, {"config": config.name})}
    for name in await context.documents.names():
        kind, owner, _ = parse_collection_name(name)
        if kind == "build" and owner == config.name and name not in used:
            await context.documents.drop(name)


def _report_dropped(run: JobRun, build: Build) -> None:
    for name, count in build.dropped.items():
        examples = ", ".join(build.dropped_examples[name])
        documents = "document" if count == 1 else "documents"
        run.warn(f"{name}: {count} {documents} dropped because no root source has the id ({examples}).")
