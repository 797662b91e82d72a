"""The stage of this service: decode the command, await one function, return the next message."""

from sourcebook.context import Context
from sourcebook.flow.messages import BuildDocuments, BuildReady
from sourcebook.worker import JobRun
from sourcebook_builder.build import build_documents


async def build(context: Context, run: JobRun, command: BuildDocuments) -> BuildReady:
    """Merge the uploads of a build configuration."""
    return await build_documents(context, run, command)
