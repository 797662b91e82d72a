"""The gene example, loaded in one process."""

from pathlib import Path
from typing import Any, cast

from sourcebook.cli.builds import read_build_config
from sourcebook.context import Context
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.releases.answers import get_api
from sourcebook.hub.releases.model import Release
from sourcebook.hub.sources import commands as source_commands
from sourcebook.worker import run_queued_jobs

GENES = Path(__file__).parents[2] / "examples" / "genes"


async def finish(context: Context, job: Job) -> Job:
    """Run what is queued, and return the job once it has succeeded."""
    await run_queued_jobs(context, cast("Any", context.bus))
    ended = await job_answers.get_job(context, job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error
    return ended


async def build_genes(context: Context) -> Job:
    """Load the three sources and merge them; return the build's job."""
    for name in ("hgnc", "ncbi_gene", "cpic"):
        await source_commands.add_plugin(context, GENES / name)
        dump = await finish(context, await source_commands.start_dump(context, name))
        for child in dump.children:
            assert (await job_answers.get_job(context, child)).state is JobState.SUCCEEDED
    config = await build_commands.put_build_config(context, read_build_config(GENES / "build.json"))
    return await finish(context, await build_commands.start_build(context, config.name))


async def release_genes(context: Context, built: Job) -> Release:
    """Release what `build_genes` built; return the release."""
    assert built.result
    await finish(context, await build_commands.start_release(context, built.result["build"]))
    api = await get_api(context, "genes")
    release = await context.state.get(Release, api.release or "")
    assert release
    return release
