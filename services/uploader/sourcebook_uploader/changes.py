"""Keeps what an upload changed, so that builds merge only that and carry the rest over."""

from sourcebook.context import Context
from sourcebook.errors import NotFound, StoreDamaged, VerificationFailed
from sourcebook.hub.changes.commands import draft_upload_changes, record_changes
from sourcebook.hub.changes.model import ChangeCounts
from sourcebook.hub.names import build_upload_changes_key, build_upload_changes_prefix, parse_collection_name
from sourcebook.hub.sources.model import Upload
from sourcebook.worker import JobRun

# Beyond these, a full build is cheaper than what would be merged from the changes, so they are not worth their disk.
_MAX_SHARE = 0.3
_ALWAYS_KEPT = 1000  # documents; sources so small cost nothing either way
_KEPT_UPLOADS = 20  # a build that is further behind reads everything


async def describe_changes(context: Context, run: JobRun, upload: Upload, base: Upload | None) -> Upload:
    """Return the record of a new upload with what it changed since `base`, the upload before it.

    The changes are published as files, unless they are too many, or `base` is gone.
    """
    if base is None or base.id == upload.id:
        return upload
    if base.collection == upload.collection:
        return upload.model_copy(update={"base": base.id, "changes": ChangeCounts()})
    key = build_upload_changes_key(upload.source, upload.uploader, parse_collection_name(upload.collection).generation)
    await context.files.delete(key)  # of an earlier try, which may have parsed other documents
    most = max(_ALWAYS_KEPT, int(_MAX_SHARE * max(base.count, upload.count)))
    draft = draft_upload_changes(base, upload)
    try:
        metadata = await record_changes(context, key, draft, progress=run.progress, max_changes=most)
    except (NotFound, StoreDamaged):  # the documents of the earlier upload are gone, or cannot be read
        return upload
    except VerificationFailed as error:
        run.warn(f"What this upload changed cannot be told: {error.message}")
        return upload
    if metadata is None:
        return upload
    return upload.model_copy(update={"base": base.id, "changes": metadata.counts, "changes_key": key})


async def drop_older_changes(context: Context, current: Upload) -> None:
    """Remove the changes of this uploader that are older than what builds follow back."""
    kept: set[str | None] = set()
    upload: Upload | None = current
    for _ in range(_KEPT_UPLOADS):
        if upload is None:
            break
        kept.add(upload.changes_key)
        upload = await context.state.get(Upload, upload.base) if upload.base else None
    for key in await context.files.keys(build_upload_changes_prefix(current.source, current.uploader)):
        if key not in kept:
            await context.files.delete(key)
