"""The stage of this service: decode the command, await one function, return the next message."""

from sourcebook.context import Context
from sourcebook.flow.messages import IndexBuild, IndexReady
from sourcebook.worker import JobRun
from sourcebook_indexer.index import index_build


async def index(context: Context, run: JobRun, command: IndexBuild) -> IndexReady:
    """Index a build, verify it, and point an API at it."""
    return await index_build(context, run, command)
