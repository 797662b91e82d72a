"""Starts jobs for a command and follows them: a progress bar each, what they warned of, and how they ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from sourcebook.cli.terminal import err, out, run_command, show, show_warning
from sourcebook.context import Context
from sourcebook.errors import Cancelled, rebuild_error
from sourcebook.hub.jobs import watch_job
from sourcebook.model.job import Job, JobState, Progress

NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Start the job and return.")]


_START_SECONDS = 3.0  # that an interrupted command waits to learn whether its job was sent


def run_jobs(start: Callable[[Context], Awaitable[list[Job]]], *, no_wait: bool, as_json: bool) -> None:
    """Start jobs on the broker, follow them unless `no_wait`, and print them."""

    async def work(context: Context) -> list[Job]:
        starting = asyncio.ensure_future(start(context))
        try:
            jobs = await asyncio.shield(starting)
            return jobs if no_wait else await follow_jobs(context, jobs, quiet=as_json)
        except asyncio.CancelledError:
            # A worker may have the job before we know that it was sent.
            await asyncio.wait({starting}, timeout=_START_SECONDS)
            if starting.cancel() or starting.exception() is not None:
                raise
            err.print("The job goes on: `sourcebook jobs` lists it, `sourcebook jobs cancel ID` ends it.")
            raise

    jobs = run_command(work)
    if as_json:
        show(jobs, as_json=True)
        return
    for job in jobs:
        out.print(escape(f"{job.kind} {job.target}: {job.state.value} ({job.id})"))


async def follow_jobs(context: Context, jobs: Sequence[Job], *, quiet: bool = False) -> list[Job]:
    """Show a progress bar for each job, and for the jobs that they start, until all are finished; return them all.

    Raises:
        SourcebookError: one did not succeed; its class is that of the job's error, the message has the plugin's traceback.
    """
    finished: list[Job] = []
    with _make_bars(quiet) as bars:
        waiting = [job.id for job in jobs]
        while waiting:
            ended = await asyncio.gather(*(_follow(context, job_id, bars) for job_id in waiting))
            finished += ended
            waiting = [child for job in ended for child in job.children]
    for job in finished:
        for warning in job.warnings if not quiet else []:
            show_warning(f"{job.kind} {job.target}: {warning}")
    for job in finished:
        raise_if_failed(job)
    return finished


def raise_if_failed(job: Job) -> None:
    """Raise the error of a job that did not succeed.

    Raises:
        Cancelled: it was cancelled.
        SourcebookError: it failed.
    """
    if job.state is JobState.SUCCEEDED:
        return
    why = job.error.message if job.error else "no reason is recorded"
    if job.state is JobState.CANCELLED:
        raise Cancelled(why, job=job.id)
    code = job.error.code if job.error else ""
    details = job.error.details if job.error else {}
    trace = f"\n{job.error.traceback.rstrip()}" if job.error and job.error.traceback else ""
    raise rebuild_error(code, f"{job.kind} {job.target} failed: {why}{trace}", {**details, "job": job.id})


def describe_end(job: Job) -> str:
    """Say in a few words what a finished job did: "44,997 documents", "unchanged", "release 2026-06-20", "failed"."""
    result = job.result or {}
    if result.get("unchanged"):
        return "unchanged"
    if result.get("reason") and "kind" in result:
        return f"{result['count']:,} documents, {result['kind']}: {result['reason']}"
    if "changes" in result:
        return f"{result['add']:,} added, {result['update']:,} updated, {result['delete']:,} deleted"
    if "count" in result:
        return f"{result['count']:,} documents"
    if "dump" in result:
        return f"release {result['release']}"
    return job.state.value


def describe_progress(seen: Progress) -> str:
    """Say how far a running job is: "parse 12,000 documents", "download 3.1 MB of 5.0 MB"."""

    def amount(number: int) -> str:
        return decimal(number) if seen.unit == "bytes" else f"{number:,}"

    if not seen.done and not seen.total:
        return seen.step
    total = f" of {amount(seen.total)}" if seen.total else ""
    unit = "" if seen.unit == "bytes" else seen.unit
    return f"{seen.step} {amount(seen.done)}{total} {unit}".strip()


async def _follow(context: Context, job_id: str, bars: Bars) -> Job:
    bar = None
    async for job in watch_job(context, job_id):
        if bar is None:
            bar = bars.add_task(escape(f"{job.kind} {job.target}"), total=None, note="")
        note = "waiting" if job.state is JobState.QUEUED else describe_progress(job.progress)
        bars.update(bar, completed=job.progress.done, total=job.progress.total or None, note=escape(note))
    if bar is not None:
        bars.update(bar, completed=1, total=1, note=escape(describe_end(job)))
    return job


def _make_bars(quiet: bool) -> Bars:
    columns = (
        SpinnerColumn(finished_text="•"),
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    return Bars(*columns, console=err, disable=quiet)
