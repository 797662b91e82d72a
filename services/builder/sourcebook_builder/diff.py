"""Diff: say how one build (or upload) differs from another."""

from sourcebook.context import Context
from sourcebook.errors import NotFound
from sourcebook.flow.messages import DiffBuilds, DiffReady
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.answers import find_upload_changes, get_upload
from sourcebook.hub.changes.commands import check_comparable, ensure_changes
from sourcebook.hub.changes.folder import open_changes
from sourcebook.hub.names import build_changes_key, is_upload_id
from sourcebook.worker import JobRun


async def diff_builds(context: Context, run: JobRun, command: DiffBuilds) -> DiffReady:
    """Compare two builds of one configuration, or two uploads of one uploader; what comes of it is verified before it is visible.

    Raises:
        NotFound: a build or upload, or its documents, are not there.
        InvalidRequest: the two cannot be compared.
        VerificationFailed: a collection is not what its build's record says.
    """
    if is_upload_id(command.new):
        return await _diff_uploads(context, run, command)
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


async def _diff_uploads(context: Context, run: JobRun, command: DiffBuilds) -> DiffReady:
    old, new = await get_upload(context, command.old), await get_upload(context, command.new)
    key = await find_upload_changes(context, old, new, progress=run.progress)
    counts = (await open_changes(context, key)).metadata.counts
    return DiffReady(old=old.id, new=new.id, changes=key, **counts.model_dump())


async def _get(context: Context, name: str) -> Build:
    build = await context.state.get(Build, name)
    if build is None:
        raise NotFound(f"There is no build {name!r}.", build=name)
    return build
