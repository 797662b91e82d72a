"""Whether a build is released in full or by its changes: one rule, and the reason in words."""

from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.errors import CannotDerive, EngineUnavailable, IndexDamaged
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.model import ChangesMetadata, diff_properties
from sourcebook.hub.releases.model import Api, Release, ReleaseKind, ReleaseMode

# Replacing a document takes 1.8 times as long as indexing it (it is looked up, deleted and written again), and leaves a hole in
# the index: beyond this share little time is won (docs/releases.md has the measurement).
MAX_CHANGED_SHARE = 0.3


class ReleaseChoice(NamedTuple):
    """How to release a build; `base` is what the API serves now."""

    kind: ReleaseKind
    reason: str
    base: Release | None


async def find_base(context: Context, api: str) -> Release | None:
    """Return the release that an API serves."""
    known = await context.state.get(Api, api)
    return None if known is None or known.release is None else await context.state.get(Release, known.release)


async def is_to_be_released(context: Context, api: str, build: str) -> bool:
    """Whether an API serves another build than this one, or none."""
    served = await find_base(context, api)
    return served is None or served.build != build


async def choose_release_mode(
    context: Context, build: Build, api: str, mode: ReleaseMode, changes: ChangesMetadata | None = None
) -> ReleaseChoice:
    """Return how to release a build under an API's name.

    A build is released by its changes unless that is not possible (nothing is served yet, the documents of what is served are
    gone, a field changed its type, the index was tampered with) or, if what changed is known and nobody asked for it, more than
    `MAX_CHANGED_SHARE` of the documents changed.

    Raises:
        CannotDerive: "incremental" was asked for and is not possible.
        IndexDamaged: the same, because the index that is served is not what was written.
    """
    base = await find_base(context, api)
    if mode == "full":
        return ReleaseChoice("full", "asked for", base)
    try:
        obstacle = await _find_obstacle(context, build, api, base)
    except (IndexDamaged, EngineUnavailable) as error:
        if mode == "incremental":
            raise
        obstacle = error.message
    if obstacle is not None:
        if mode == "incremental":
            raise CannotDerive(
                f"Build {build.name!r} cannot be released by its changes: {obstacle}. Release it in full: `sourcebook release "
                f"apply {build.name} --mode full`.",
                build=build.name,
                api=api,
            )
        return ReleaseChoice("full", obstacle, base)
    if changes is None:
        return ReleaseChoice("incremental", "", base)
    share = changes.counts.total / max(changes.old.count, changes.new.count, 1)
    said = f"{changes.counts.total:,} of {changes.new.count:,} documents changed ({share:.2%})"
    if share > MAX_CHANGED_SHARE and mode == "auto":
        return ReleaseChoice("full", f"{said}, more than {MAX_CHANGED_SHARE:.0%}", base)
    return ReleaseChoice("incremental", said, base)


async def _find_obstacle(context: Context, build: Build, api: str, base: Release | None) -> str | None:
    if base is None:
        return f"API {api!r} serves nothing yet"
    served = await context.state.get(Build, base.build)
    if served is None or await context.documents.info(base.collection) is None:
        return f"build {base.build!r}, which API {api!r} serves, is gone"
    return _compare_builds(served, build) or await _check_index(context, served, base)


def _compare_builds(served: Build, build: Build) -> str | None:
    if served.name == build.name:
        return "the same build is served already"
    if (served.config, served.doc_type) != (build.config, build.doc_type):
        return f"what is served is a build of {served.config!r} with documents of type {served.doc_type!r}"
    if served.index_settings != build.index_settings:
        return "the settings of the index changed"
    for path, field in diff_properties(served.mapping, build.mapping).changed.items():
        before, after = (spec.get("type", "object") for spec in (field.old, field.new))
        if before != after:
            return f"field {path!r} was {before} and is {after} now"
        return f"field {path!r} is indexed differently than before"
    return None


async def _check_index(context: Context, served: Build, base: Release) -> str | None:
    info = await context.search.info(base.index)
    if info is None:
        return f"the index of release {base.name!r} is gone"
    if (info.count, info.digest) != (served.count, served.digest):
        raise IndexDamaged(
            f"The index {base.index} has {info.count} documents with the digest {info.digest}; build {served.name} has "
            f"{served.count} with {served.digest}: someone changed the index. Release the build in full.",
            index=base.index,
            expected=served.digest,
            found=info.digest,
        )
    return None
