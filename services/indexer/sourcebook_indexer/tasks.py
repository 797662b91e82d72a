"""The stages of this service: decode the command, await one function, return the next message."""

from sourcebook.context import Context
from sourcebook.flow.messages import ApplyChanges, IndexBuild, IndexReady
from sourcebook.worker import JobRun
from sourcebook_indexer.index import index_build
from sourcebook_indexer.patch import apply_changes


async def index(context: Context, run: JobRun, command: IndexBuild) -> IndexReady:
    """Index a build, verify it, and point an API at it."""
    return await index_build(context, run, command)


async def apply(context: Context, run: JobRun, command: ApplyChanges) -> IndexReady:
    """Make the index of a build from what an API serves, verify it, and point the API at it."""
    return await apply_changes(context, run, command)
