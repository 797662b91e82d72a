"""How commands talk: tables and progress bars for people on stderr and stdout, one JSON value on stdout for `--json`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.errors import Cancelled, SourcebookError
from sourcebook.hub.jobs import watch_job
from sourcebook.model.job import Job, JobState
from sourcebook.settings import load_settings

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
T = TypeVar("T")
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class JobFailed(SourcebookError):
    """A job that the command waited for did not succeed."""

    code = "job_failed"


def run_command(work: Callable[[Context], Awaitable[T]], *, inline: bool = False) -> T:
    """Open the context of the settings and run a command in it."""

    async def main() -> T:
        bus = open_inline_bus() if inline else None
        async with open_context(load_settings(), bus=bus) as context:
            return await work(context)

    try:
        return asyncio.run(main())
    except KeyboardInterrupt as error:
        raise typer.Exit(_INTERRUPTED) from error


def show(value: Any, *, as_json: bool, table: Callable[[], Table | str] | None = None) -> None:
    """Print a result: as JSON, or as a table (or text) for people."""
    if as_json or table is None:
        sys.stdout.write(orjson.dumps(_plain(value), option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    made = table()
    out.print(made if isinstance(made, Table) else escape(made), highlight=False)


def make_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table; cells are plain text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


async def follow_jobs(context: Context, jobs: Sequence[Job], *, quiet: bool = False) -> list[Job]:
    """Show a progress bar for each job, and for the jobs that they start, until all are finished; return them all.

    Raises:
        JobFailed: one did not succeed; the message has its error, and the plugin's traceback if there is one.
    """
    finished: list[Job] = []
    with _progress(quiet) as progress:
        waiting = [job.id for job in jobs]
        while waiting:
            ended = await asyncio.gather(*(_follow(context, job_id, progress) for job_id in waiting))
            finished += ended
            waiting = [child for job in ended for child in job.children]
    for job in finished:
        for warning in job.warnings if not quiet else []:
            err.print(f"[yellow]warning[/] {escape(job.kind)} {escape(job.target)}: {escape(warning)}", highlight=False)
    for job in finished:
        raise_if_failed(job)
    return finished


def raise_if_failed(job: Job) -> None:
    """Raise the error of a job that did not succeed.

    Raises:
        JobFailed: it failed.
        Cancelled: it was cancelled.
    """
    if job.state is JobState.SUCCEEDED:
        return
    why = job.error.message if job.error else "no reason is recorded"
    if job.state is JobState.CANCELLED:
        raise Cancelled(why, job=job.id)
    trace = f"\n{job.error.traceback.rstrip()}" if job.error and job.error.traceback else ""
    raise JobFailed(f"{job.kind} {job.target} failed: {why}{trace}", job=job.id)


async def _follow(context: Context, job_id: str, progress: Progress) -> Job:
    task = None
    async for job in watch_job(context, job_id):
        name = f"{job.kind} {job.target}"
        if task is None:
            task = progress.add_task(name, total=None, note="waiting")
        seen = job.progress
        note = seen.step if job.state is JobState.RUNNING else _end_note(job)
        progress.update(task, completed=seen.done, total=seen.total, note=f"{note} {seen.unit}".strip())
    if task is not None and job.is_finished:
        done = max(job.progress.done, 1)
        progress.update(task, completed=done, total=done, note=_end_note(job))
    return job


def _end_note(job: Job) -> str:
    result = job.result or {}
    if result.get("unchanged"):
        return "unchanged"
    if "count" in result:
        return f"{result['count']:,} documents"
    return job.state.value


def _progress(quiet: bool) -> Progress:
    columns = (
        SpinnerColumn(finished_text="•"),
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, disable=quiet)
