"""Whether an upload is what the newest dump and the present code of its plugin make, and if not, why."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from sourcebook.context import Context
from sourcebook.errors import ManifestError
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.sources.model import Dump, Plugin, SourceState, Upload
from sourcebook.sdk.code_digest import digest_code
from sourcebook.sdk.manifest import UploaderManifest, load_manifest


async def why_behind(context: Context, source: str, uploader: UploaderManifest, folder: Path) -> str | None:
    """Return why the current upload of an uploader is not of the current dump and code; None if it is.

    What an upload of Sourcebook 0.1.0 was made with is not known; it is not held against it.
    """
    state = await context.state.get(SourceState, source) or SourceState(name=source)
    upload_id = state.uploads.get(uploader.name)
    upload = await context.state.get(Upload, upload_id) if upload_id else None
    if upload is None:
        return "it has no documents yet"
    failed = state.last_upload_errors.get(uploader.name)
    last_try = f"; the last upload failed: {failed['message'].rstrip('.')}" if failed else ""
    if upload.dump != state.dump:
        dump = await context.state.get(Dump, state.dump) if state.dump else None
        version = dump.version if dump else state.dump
        return f"version {version} is downloaded, its documents are of version {upload.version}{last_try}"
    if upload.code and upload.code != await asyncio.to_thread(digest_code, folder, uploader):
        return f"its plugin was edited since its documents were made{last_try}"
    return f"its documents are those of an earlier upload{last_try}" if failed else None


async def is_being_uploaded(context: Context, source: str, uploader: str) -> bool:
    """Whether a job is at work, or waits, that uploads the current dump."""
    state = await context.state.get(SourceState, source)
    dump = await context.state.get(Dump, state.dump) if state and state.dump else None
    jobs = await context.state.find(
        Job, {"kind": "upload", "target": build_upload_name(source, uploader), "state": tuple(ACTIVE_STATES)}
    )
    since = dump.finished_at if dump else 0.0
    return any(not job.cancel_requested and (job.started_at is None or job.started_at > since) for job in jobs)


async def find_uploads_to_start(
    context: Context, source: str, uploaders: Iterable[UploaderManifest], folder: Path
) -> tuple[str, ...]:
    """Return the uploaders whose current upload is not of the current dump and code, unless a job is at it."""
    names = []
    for uploader in uploaders:
        behind = await why_behind(context, source, uploader, folder)
        if behind and not await is_being_uploaded(context, source, uploader.name):
            names.append(uploader.name)
    return tuple(names)


async def find_behind(context: Context, uploads: Iterable[Upload]) -> dict[str, str]:
    """Return those of the given uploads that are behind their source, as `source/uploader` -> why.

    Uploads without a plugin here (installed ones) and those whose plugin does not load are never behind.
    """
    found: dict[str, str] = {}
    for upload in uploads:
        plugin = await context.state.get(Plugin, upload.source)
        if plugin is None:
            continue
        folder = Path(plugin.folder)
        try:
            loaded = await asyncio.to_thread(load_manifest, folder)
        except ManifestError:
            continue
        uploader = next((item for item in loaded.manifest.uploader_list if item.name == upload.uploader), None)
        reason = await why_behind(context, upload.source, uploader, folder) if uploader else None
        if reason:
            found[build_upload_name(upload.source, upload.uploader)] = reason
    return found
