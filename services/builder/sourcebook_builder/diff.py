"""Diff: say how one build differs from another."""

from sourcebook.context import Context
from sourcebook.errors import NotFound
from sourcebook.flow.messages import DiffBuilds, DiffReady
from sourcebook.hub.diff import check_comparable, ensure_changes
from sourcebook.model.build import Build
from sourcebook.model.names import build_changes_key
from sourcebook.worker import JobRun


async def diff_builds(context: Context, run: JobRun, command: DiffBuilds) -> DiffReady:
    """Compare two builds of one configuration; the changes folder is visible when it is complete and verified.

    Raises:
        NotFound: a build, or its documents, are not there.
        InvalidRequest: they are builds of different configurations.
        VerificationFailed: a collection is not what its build's record says.
    """
    old, new = await _get(context, command.old), await _get(context, command.new)
    check_comparable(old, new)
    order = command.ignore_list_order
    folder = await ensure_changes(context, old, new, progress=run.progress, ignore_list_order=order)
    counts = folder.metadata.counts
    return DiffReady(
        old=old.name,
        new=new.name,
        changes=build_changes_key(new.name, old.name, ignore_list_order=order),
        **counts.model_dump(),
    )


async def _get(context: Context, name: str) -> Build:
    build = await context.catalog.get(Build, name)
    if build is None:
        raise NotFound(f"There is no build {name!r}.", build=name)
    return build
