"""The stage of this service, as `flow.stages` names it."""

from sourcebook.context import Context
from sourcebook.flow.messages import DumpReady, DumpSource
from sourcebook.worker import JobRun
from sourcebook_dumper.dump import dump_source


async def dump(context: Context, run: JobRun, command: DumpSource) -> DumpReady:
    """Run a DumpSource command."""
    return await dump_source(context, run, command)
