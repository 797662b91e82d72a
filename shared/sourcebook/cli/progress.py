"""Starts jobs for a command and follows them: a progress bar each, what they warned of, and how they ended."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from sourcebook.cli.terminal import api_url, err, out, run_command, show, show_output, show_warning
from sourcebook.context import Context
from sourcebook.errors import Cancelled, Conflict, EngineUnavailable, NotFound, rebuild_error
from sourcebook.hub.documents.record import say_documents
from sourcebook.hub.jobs.answers import watch_job
from sourcebook.hub.jobs.commands import cancel_job
from sourcebook.hub.jobs.model import Job, JobState, Progress
from sourcebook.settings import load_settings
from sourcebook.worker import run_queued_jobs

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

    _show_jobs(run_command(work), as_json=as_json)


def run_jobs_here(start: Callable[[Context], Awaitable[list[Job]]], *, as_json: bool) -> None:
    """Start jobs and run them in this process, for which no broker is needed, and print them."""

    async def work(context: Context) -> list[Job]:
        return await follow_here(context, await start(context), quiet=as_json)

    _show_jobs(run_command(work, inline=True), as_json=as_json)


def _show_jobs(jobs: list[Job], *, as_json: bool) -> None:
    if as_json:
        show(jobs, as_json=True)
        return
    for job in jobs:
        done = describe_end(job)
        note = "" if done == job.state.value else f", {done}"
        out.print(escape(f"{job.kind} {job.target}: {job.state.value}{note} ({job.id})"))
        if job.state is JobState.SUCCEEDED and "release" in (job.result or {}) and "api" in (job.result or {}):
            url = api_url(load_settings(), str((job.result or {})["api"]))
            out.print(f"The gateway serves it at {url} (`sourcebook up` runs the gateway).", markup=False)


async def follow_here(context: Context, jobs: Sequence[Job], *, quiet: bool = False) -> list[Job]:
    """Run queued jobs of an inline bus in this process and follow them; when that is interrupted, end them in order.

    Raises:
        SourcebookError: a job did not succeed, or its end could not be recorded.
    """
    running = asyncio.create_task(run_queued_jobs(context, context.bus))  # type: ignore[arg-type] # the bus is inline
    following = asyncio.create_task(follow_jobs(context, jobs, quiet=quiet))
    try:
        # Who follows a job waits for its end, which nobody records once the one who runs it has given up.
        await asyncio.wait({running, following}, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        err.print("stopping")
        try:
            for job in jobs:
                await cancel_if_active(context, job.id)
        except EngineUnavailable:
            running.cancel()
        raise
    finally:
        if running.done() and (running.cancelled() or running.exception() is not None):
            following.cancel()
        # The engines are closed next: nothing of ours may still work with them.
        await asyncio.gather(running, following, return_exceptions=True)
    running.result()
    return following.result()


async def cancel_if_active(context: Context, job_id: str) -> None:
    """Cancel a job unless it has ended."""
    with contextlib.suppress(Conflict, NotFound):
        await cancel_job(context, job_id)


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
    for job in finished if not quiet else []:
        show_output(f"{job.kind} {job.target}", job.output)
        for warning in job.warnings:
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


# How the result of a job is told: by the keys that it has. The first that says something counts.
_ENDS: tuple[tuple[set[str], Callable[[dict[str, Any]], str]], ...] = (
    ({"unchanged"}, lambda r: "unchanged" if r["unchanged"] else ""),
    ({"count", "kind", "reason"}, lambda r: r["reason"] and f"{say_documents(r['count'])}, {r['kind']}: {r['reason']}"),
    ({"add", "update", "delete"}, lambda r: f"{r['add']:,} added, {r['update']:,} updated, {r['delete']:,} deleted"),
    ({"builds", "uploads", "jobs", "changes"}, lambda r: f"removed {_list_amounts(r)}"),
    ({"archived"}, lambda r: f"removed {say_documents(r['archived'])}"),
    (
        {"checked", "documents"},
        lambda r: f"nothing is damaged: {say_documents(r['documents'])} of {r['checked']:,} collections and indices",
    ),
    ({"count"}, lambda r: say_documents(r["count"])),
    ({"checked", "documents"}, lambda r: f"nothing is damaged in {r['checked']:,} collections and indices"),
    ({"documents"}, lambda r: say_documents(r["documents"])),
    ({"fields", "differences"}, lambda r: f"{r['fields']:,} fields, {r['differences']:,} not as committed"),
    ({"dump", "version"}, lambda r: f"version {r['version']}"),
    ({"dump", "release"}, lambda r: f"version {r['release']}"),  # of Sourcebook 0.1
    ({"size", "address"}, lambda r: f"{decimal(r['size'])} to {r['address']}"),
)


def _list_amounts(amounts: dict[str, Any]) -> str:
    """Say how many of what: "2 builds, 14 jobs"."""
    names = {"staging": "staging folders"}
    return ", ".join(f"{number:,} {names.get(what, what)}" for what, number in amounts.items() if number) or "nothing"


def describe_end(job: Job) -> str:
    """Say in a few words what a finished job did: "44,997 documents", "unchanged", "version 2026-06-20", "failed".

    A result is what it is, whichever version of Sourcebook wrote it: one that is not known is described by the job's state.
    """
    for keys, describe in _ENDS:
        if job.result is not None and keys <= job.result.keys() and (text := describe(job.result)):
            return text
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
