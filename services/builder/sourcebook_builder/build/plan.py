"""Decides whether a build merges everything, or only what changed since the build before."""

from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.errors import Conflict, DamagedChanges, NotFound
from sourcebook.hub.builds.model import Build, BuildConfig, BuildInput, BuildMode
from sourcebook.hub.changes.folder import ChangesFolder, open_changes
from sourcebook.hub.sources.model import Upload
from sourcebook_builder.build.merge import MERGE_RULES
from sourcebook_builder.build.select import ChosenUpload

# A changed document is looked up in every source and in the build before, written between others, and compared: where 7%
# changed, an incremental build takes nearly half the processor time of a full one (`make bench-release`). At 15% nothing is
# gained.
MAX_SHARE = 0.15
_MAX_UPLOADS = 20


class Chain(NamedTuple):
    """A source of a build, and the changes of its uploads since the base build, oldest first."""

    item: ChosenUpload
    folders: list[ChangesFolder]


class BuildPlan(NamedTuple):
    """How to build: from `base` with the changes of every source (`chains`), or in full (no base); and why."""

    base: Build | None
    chains: list[Chain]
    reason: str

    @property
    def folders(self) -> list[ChangesFolder]:
        """The changes of all sources."""
        return [folder for chain in self.chains for folder in chain.folders]


class _FullBuildError(Exception):
    """Not everything that changed is known, or it is too much; the message says which."""


def describe_inputs(chosen: list[ChosenUpload]) -> list[BuildInput]:
    """Return what a build's record says of its uploads."""
    return [
        BuildInput(name=item.name, upload=item.upload.id, is_root=item.is_root, merges_deeply=item.upload.merge)
        for item in chosen
    ]


async def plan_build(context: Context, config: BuildConfig, chosen: list[ChosenUpload], mode: BuildMode) -> BuildPlan:
    """Return how to build.

    Raises:
        Conflict: `mode` is "incremental", and that cannot be.
    """
    if mode == "full":
        return BuildPlan(None, [], "A full build was asked for.")
    try:
        base = await _find_base(context, config, chosen)
        chains = [await _follow_uploads(context, item, base) for item in chosen]
    except _FullBuildError as error:
        if mode == "incremental":
            raise Conflict(
                f"Configuration {config.name!r} cannot be built incrementally: {error} Build it in full once.",
                config=config.name,
            ) from error
        return BuildPlan(None, [], str(error))
    changed = sum(folder.metadata.counts.total for chain in chains for folder in chain.folders)
    total = sum(item.upload.count for item in chosen)
    told = f"{changed:,} of {total:,} documents changed since {base.name} ({changed / max(total, 1):.1%})"
    if changed > MAX_SHARE * total and mode == "auto":
        return BuildPlan(None, [], f"{told}; above {MAX_SHARE:.0%} a full build is cheaper.")
    return BuildPlan(base, chains, f"{told}; the others are carried over.")


async def _find_base(context: Context, config: BuildConfig, chosen: list[ChosenUpload]) -> Build:
    """Return the newest build of the configuration if its documents can be carried over."""
    if config.builder != "merge":
        raise _FullBuildError("A linked build copies no documents.")
    builds = await context.state.find(Build, {"config": config.name})
    base = max(builds, key=lambda build: build.finished_at, default=None)
    if base is None:
        raise _FullBuildError("There is no earlier build.")
    if _merge_settings(base.inputs) != _merge_settings(describe_inputs(chosen)) or base.linked:
        raise _FullBuildError(f"Since {base.name}, the sources, their order, the root or a merge setting changed.")
    if base.merge_rules != MERGE_RULES:
        raise _FullBuildError(f"{base.name} was merged by another version of Sourcebook.")
    info = await context.documents.info(base.collection)
    if info is None:
        raise _FullBuildError(f"The documents of {base.name} are gone.")
    if (info.count, info.digest) != (base.count, base.digest):
        raise _FullBuildError(f"The documents of {base.name} are not what its record says.")
    return base


def _merge_settings(inputs: list[BuildInput]) -> list[tuple[str, bool, bool]]:
    return [(item.name, item.is_root, item.merges_deeply) for item in inputs]


async def _follow_uploads(context: Context, item: ChosenUpload, base: Build) -> Chain:
    """Return the changes of a source from the upload that `base` has to the current one."""
    start = next(known.upload for known in base.inputs if known.name == item.name)
    folders: list[ChangesFolder] = []
    upload = item.upload
    for _ in range(_MAX_UPLOADS + 1):
        if upload.id == start:
            return Chain(item, folders[::-1])
        if upload.base is None or upload.changes is None:
            break
        if upload.changes_key is not None:
            folders.append(await _open_folder(context, item, upload.changes_key, base))
        earlier = await context.state.get(Upload, upload.base)
        if earlier is None:
            break
        upload = earlier
    raise _FullBuildError(
        f"What changed in {item.name} since {base.name} is not known, or so much that it was not kept."
    )


async def _open_folder(context: Context, item: ChosenUpload, key: str, base: Build) -> ChangesFolder:
    try:
        return await open_changes(context, key)
    except NotFound as error:
        raise _FullBuildError(f"What changed in {item.name} since {base.name} is not kept any more.") from error
    except DamagedChanges as error:
        raise _FullBuildError(f"The changes of {item.name} are damaged: {error.message}") from error
