"""`jobs`, `jobs show` and `jobs cancel`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from sourcebook.cli.progress import describe_end, describe_progress
from sourcebook.cli.terminal import JsonOption, make_table, run_command, show
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs import commands as job_commands
from sourcebook.hub.jobs.model import Job, JobState

app = typer.Typer(invoke_without_command=True)
IdArgument = Annotated[str, typer.Argument(help="Id of the job.")]


@app.callback()
def list_jobs(
    context: typer.Context,
    *,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    parent: Annotated[str | None, typer.Option(help="Only the parts of this job, and what followed it.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    after: Annotated[str | None, typer.Option(help="Only jobs older than this one: the next page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    if context.invoked_subcommand is not None:
        return
    where = {"state": state, "kind": kind, "parent": parent}
    jobs = run_command(lambda opened: job_answers.list_jobs(opened, limit=limit, after=after, **where), inline=True)
    rows = [(job.id, job.kind, job.target, job.state.value, job.caller, _when(job), _note(job)) for job in jobs]
    show(
        jobs,
        as_json=as_json,
        table=lambda: make_table(["job", "kind", "target", "state", "caller", "queued (UTC)", "note"], rows),
    )


@app.command("show")
def show_job(job_id: IdArgument, *, as_json: JsonOption = False) -> None:
    """Show one job with everything that is known of it."""
    del as_json  # a job is a record; JSON reads well enough
    show(run_command(lambda context: job_answers.get_job(context, job_id), inline=True), as_json=True)


@app.command("cancel")
def cancel(job_id: IdArgument, *, as_json: JsonOption = False) -> None:
    """Cancel a job that is queued or running."""
    job = run_command(lambda context: job_commands.cancel_job(context, job_id), inline=True)
    show(
        job,
        as_json=as_json,
        table=lambda: f"Job {job.id} is asked to end." if not job.is_finished else f"Job {job.id} ended.",
    )


def _when(job: Job) -> str:
    return datetime.fromtimestamp(job.queued_at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _note(job: Job) -> str:
    if job.error is not None:
        return job.error.message.splitlines()[0][:100]
    if job.state is JobState.SUCCEEDED:
        note = describe_end(job)
        return "" if note == job.state.value else note
    return describe_progress(job.progress)
