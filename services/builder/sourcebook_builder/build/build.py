"""Build: merge the current uploads of a configuration into one new collection."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.errors import (
    DamagedChanges,
    EngineUnavailable,
    InvalidRequest,
    MappingError,
    MissingUpload,
    NotFound,
    StoreDamaged,
    VerificationFailed,
)
from sourcebook.flow.messages import BuildDocuments, BuildReady
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.changes.commands import record_build_changes
from sourcebook.hub.changes.folder import ChangesFolder
from sourcebook.hub.documents.record import say_documents
from sourcebook.hub.mappings.default_search import choose_default_fields
from sourcebook.hub.mappings.model import Mapping, Properties, merge_properties
from sourcebook.hub.names import build_collection_name, parse_collection_name
from sourcebook.hub.sources.model import Dump
from sourcebook.hub.sources.policy import find_behind
from sourcebook.ports.documents import CollectionInfo
from sourcebook.worker import JobRun
from sourcebook_builder.build.incremental import DroppedDocuments, merge_changes
from sourcebook_builder.build.merge import MERGE_RULES
from sourcebook_builder.build.metadata import describe_build
from sourcebook_builder.build.plan import BuildPlan, describe_inputs, plan_build
from sourcebook_builder.build.ranges import check_uploads, merge_documents
from sourcebook_builder.build.select import ChosenUpload, select_uploads


async def build_documents(context: Context, run: JobRun, command: BuildDocuments) -> BuildReady:
    """Merge the uploads of a configuration, with their mappings and metadata; the build is visible when it is complete.

    Raises:
        NotFound: there is no such configuration.
        MissingUpload: a source has no documents, or not those of its newest download and that is to be refused.
        MappingError: two sources give a field types that cannot be one.
        VerificationFailed: no document is left.
        StoreDamaged: the documents of a source are not what was written.
    """
    started = time.time()
    config = await context.state.get(BuildConfig, command.config)
    if config is None:
        raise NotFound(f"There is no build configuration {command.config!r}.", config=command.config)
    known = await context.state.get(Build, command.build)
    if known is not None:  # this job ran before and died after its last write
        return _ready(known)
    chosen = await select_uploads(context, config)
    await _report_behind(context, run, chosen)
    _merge_committed(config, await _find_mappings(context, chosen))  # refused before the work, not after
    merged = await _merge_documents(context, run, command, config, chosen)
    build = await _describe(context, command, config, chosen, merged)
    if merged.base is not None and not await _record_changes(context, run, merged, build):
        await _drop_unfinished(context, config)
        merged = await _merge_all(
            context, run, merged.info.name, chosen, "The changes of the sources are not all of them."
        )
        build = await _describe(context, command, config, chosen, merged)
    build = build.model_copy(update={"finished_at": time.time(), "seconds": time.time() - started})
    _report_dropped(run, build)
    await context.state.put(build.name, build)
    return _ready(build)


async def _report_behind(context: Context, run: JobRun, chosen: list[ChosenUpload]) -> None:
    """Say which sources the build takes in an older state than they could have."""
    behind = await find_behind(context, [item.upload for item in chosen])
    if behind and context.settings.behind_uploads == "refuse":
        told = "; ".join(f"{name}: {why}" for name, why in behind.items())
        raise MissingUpload(
            f"The newest state of some sources is not uploaded: {told}. Run `sourcebook dump SOURCE`, or set "
            "SOURCEBOOK_BEHIND_UPLOADS=warn.",
            behind=behind,
        )
    for name, why in behind.items():
        run.warn(f"{name} is built as it was: {why}. `sourcebook dump {name.partition('/')[0]}` uploads it.")


async def _find_mappings(context: Context, chosen: list[ChosenUpload]) -> dict[str, Mapping]:
    mappings = {}
    for item in chosen:
        mapping = await context.state.get(Mapping, item.name)
        if mapping is None or mapping.committed is None:
            raise MappingError(
                f"{item.name} has no committed mapping: look at it with `sourcebook mapping show {item.name}`, then "
                f"`sourcebook mapping commit {item.name}`.",
                upload=item.name,
            )
        mappings[item.name] = mapping
    return mappings


def _merge_committed(config: BuildConfig, mappings: dict[str, Mapping]) -> Properties:
    merged = merge_properties([(name, mapping.committed or {}) for name, mapping in mappings.items()])
    return choose_default_fields(merged, config.search_by_default)


class _Merged(NamedTuple):
    """The documents of a build, how they came to be, and which were dropped."""

    info: CollectionInfo
    dropped: dict[str, DroppedDocuments]
    reason: str
    base: Build | None = None
    candidates: Sequence[ChangesFolder] = ()


async def _merge_documents(
    context: Context, run: JobRun, command: BuildDocuments, config: BuildConfig, chosen: list[ChosenUpload]
) -> _Merged:
    if config.builder == "link":
        return _Merged(await _link(context, config, chosen), {}, "The documents of an upload are served as they are.")
    plan = await plan_build(context, config, chosen, command.mode)
    await _drop_unfinished(context, config)
    name = build_collection_name("build", config.name, run.id)
    try:
        if plan.base is not None:
            return await _merge_changes(context, run, name, plan.base, plan)
        return await _merge_all(context, run, name, chosen, plan.reason)
    except NotFound as error:
        raise _replaced(str(error.details.get("collection"))) from error


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
    await check_uploads(context, chosen)
    return info


async def _merge_changes(context: Context, run: JobRun, name: str, base: Build, plan: BuildPlan) -> _Merged:
    try:
        merged = await merge_changes(context, run, name, base, plan)
    except DamagedChanges as error:
        reason = f"The changes of a source are damaged: {error.message}"
    except StoreDamaged as error:
        if error.details.get("collection") != base.collection:
            raise
        reason = f"The documents of {base.name} are damaged: {error.details.get('problem')}."
        run.warn(f"{reason} The build merges everything anew.")
    else:
        return _Merged(merged.info, merged.dropped, plan.reason, base, plan.folders)
    return await _merge_all(context, run, name, [chain.item for chain in plan.chains], reason)


async def _merge_all(context: Context, run: JobRun, name: str, chosen: list[ChosenUpload], reason: str) -> _Merged:
    merged = await merge_documents(context, run, name, chosen)
    return _Merged(merged.info, merged.dropped, reason)


def _replaced(name: str) -> EngineUnavailable:
    return EngineUnavailable(f"{name} was uploaded anew while the build began; the build starts again.", upload=name)


async def _drop_unfinished(context: Context, config: BuildConfig) -> None:
    """Remove collections that a build of this configuration committed before it died. We hold the configuration's lock."""
    used = {build.collection for build in await context.state.find(Build, {"config": config.name})}
    for name in await context.documents.names():
        kind, owner, _ = parse_collection_name(name)
        if kind == "build" and owner == config.name and name not in used:
            await context.documents.drop(name)


async def _describe(
    context: Context, command: BuildDocuments, config: BuildConfig, chosen: list[ChosenUpload], merged: _Merged
) -> Build:
    if merged.info.count == 0:
        raise VerificationFailed(
            f"Build {command.build!r} would have no documents: no source of {config.name!r} created an id."
        )
    version = command.build.removeprefix(f"{config.name}_")
    dumps = [(item.upload, await context.state.get(Dump, item.upload.dump or "")) for item in chosen]
    mappings = await _find_mappings(context, chosen)
    return Build(
        name=command.build,
        config=config.name,
        doc_type=config.doc_type,
        collection=merged.info.name,
        linked=config.builder == "link",
        count=merged.info.count,
        digest=merged.info.digest,
        uploads=[item.upload.id for item in chosen],
        inputs=describe_inputs(chosen),
        merge_rules=MERGE_RULES,
        incremental=merged.base is not None,
        base=merged.base.name if merged.base is not None else None,
        reason=merged.reason,
        dropped={name: told.count for name, told in merged.dropped.items()},
        dropped_examples={name: told.examples for name, told in merged.dropped.items()},
        mapping=_merge_committed(config, mappings),
        metadata=describe_build(config, dumps, total=merged.info.count, version=version, mappings=mappings),
        index_settings=config.index,
    )


async def _record_changes(context: Context, run: JobRun, merged: _Merged, build: Build) -> bool:
    """Publish what an incremental build changed; return False if it is not what its sources say."""
    if merged.base is None:
        return True
    try:
        await record_build_changes(context, merged.base, build, candidates=merged.candidates, progress=run.progress)
    except (DamagedChanges, VerificationFailed) as error:
        run.warn(f"The incremental build is given up for a full one: {error.message}")
        return False
    return True


def _report_dropped(run: JobRun, build: Build) -> None:
    for name, count in build.dropped.items():
        examples = ", ".join(build.dropped_examples[name])
        run.warn(f"{name}: {say_documents(count)} dropped because no root source has the id ({examples}).")


def _ready(build: Build) -> BuildReady:
    return BuildReady(
        build=build.name,
        count=build.count,
        dropped=build.dropped,
        incremental=build.incremental,
        reason=build.reason,
    )
