"""The stages of this service: decode the command, await one function, return the next message."""

from sourcebook.context import Context
from sourcebook.flow.messages import (
    ArgumentsParsed,
    InspectReady,
    InspectUpload,
    ParseArguments,
    UploadDump,
    UploadReady,
)
from sourcebook.worker import JobRun
from sourcebook_uploader.inspection import inspect_upload
from sourcebook_uploader.parallel import parse_arguments
from sourcebook_uploader.upload import upload_dump


async def upload(context: Context, run: JobRun, command: UploadDump) -> UploadReady:
    """Parse the newest dump of a source with one of its uploaders."""
    return await upload_dump(context, run, command)


async def parse(context: Context, run: JobRun, command: ParseArguments) -> ArgumentsParsed:
    """Parse some of the argument tuples of a parallelizer, as a part of an upload."""
    return await parse_arguments(context, run, command)


async def inspect(context: Context, run: JobRun, command: InspectUpload) -> InspectReady:
    """Infer the mapping of an upload again, from its stored documents."""
    return await inspect_upload(context, run, command)
