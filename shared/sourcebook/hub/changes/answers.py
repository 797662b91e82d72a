"""What differs between two uploads of one uploader: kept since the newer one was made, or found in the documents of both."""

from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, NotFound
from sourcebook.hub.changes.commands import ProgressListener, draft_upload_changes, record_changes
from sourcebook.hub.changes.folder import ChangesFolder, open_changes
from sourcebook.hub.names import build_upload_changes_key, parse_collection_name
from sourcebook.hub.sources.model import Upload


async def get_upload(context: Context, upload_id: str) -> Upload:
    """Return an upload by its id, such as `hgnc/genes@01j...`.

    Raises:
        NotFound: there is none.
    """
    upload = await context.state.get(Upload, upload_id)
    if upload is None:
        raise NotFound(f"There is no upload {upload_id!r}.", upload=upload_id)
    return upload


async def find_upload_changes(context: Context, old: Upload, new: Upload, *, progress: ProgressListener) -> str:
    """Return the key of the changes from one upload to another; they are made if they are not there.

    Raises:
        InvalidRequest: the uploads are one, or not of the same uploader.
        NotFound: what changed was not kept, and the documents of one of them are gone.
        VerificationFailed: a collection is not what its record says.
    """
    if old.id == new.id or (old.source, old.uploader) != (new.source, new.uploader):
        raise InvalidRequest(
            f"{old.id!r} and {new.id!r} cannot be compared: name two uploads of one uploader.", old=old.id, new=new.id
        )
    if new.base == old.id and new.changes_key is not None and await context.files.exists(new.changes_key):
        return new.changes_key
    for upload in (old, new):
        if await context.documents.info(upload.collection) is None:
            raise NotFound(
                f"The documents of upload {upload.id!r} are gone, and what changed was not kept: changes are kept from each "
                "upload to the next, unless they are too many.",
                upload=upload.id,
            )
    generations = [parse_collection_name(upload.collection).generation for upload in (new, old)]
    key = build_upload_changes_key(new.source, new.uploader, "~".join(generations))
    if not await context.files.exists(key):
        await record_changes(context, key, draft_upload_changes(old, new), progress=progress)
    return key


async def open_upload_changes(context: Context, upload_id: str) -> ChangesFolder:
    """Return what an upload changed since the one before it.

    Raises:
        NotFound: there is no such upload, or what it changed was not kept.
        DamagedChanges: the folder cannot be read.
    """
    upload = await get_upload(context, upload_id)
    if upload.changes_key is None:
        raise NotFound(
            f"Upload {upload_id!r} has no changes: it is the first one, changed nothing, or too much.", upload=upload_id
        )
    return await open_changes(context, upload.changes_key)
