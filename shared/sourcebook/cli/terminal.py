"""How commands talk: tables on stdout for people, one JSON value on stdout for `--json`, everything else on stderr."""

import asyncio
import os
import pwd
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import orjson
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sourcebook.backends import open_inline_bus
from sourcebook.cli import INTERRUPTED
from sourcebook.context import Context, open_context
from sourcebook.errors import SettingsError, SourcebookError
from sourcebook.home import prepare_home
from sourcebook.hub.access.model import Caller
from sourcebook.logging import hide_secrets, hide_secrets_in, strip_controls
from sourcebook.settings import Settings, load_settings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
T = TypeVar("T")
TERMINATED = 143  # 128 + the signal's number, as shells report it
_WIDE = 1000  # columns of a pipe or file: cells are never folded there
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE, highlight=False)
err = Console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else _WIDE, highlight=False)


def run_command(work: Callable[[Context], Awaitable[T]], *, inline: bool = False) -> T:
    """Open the context of the settings and run a command in it; Ctrl-C and SIGTERM cancel it.

    `inline` keeps messages in this process. Commands that send none use it too: it spares them the loading of Celery.
    """
    settings = open_home()

    async def main() -> T:
        if task := asyncio.current_task():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        bus = open_inline_bus() if inline else None
        async with open_context(settings, find_caller(), bus=bus) as context:
            return await work(context)

    try:
        return asyncio.run(main())
    except KeyboardInterrupt as error:
        raise typer.Exit(INTERRUPTED) from error
    except asyncio.CancelledError as error:
        raise typer.Exit(TERMINATED) from error


def find_caller() -> Caller:
    """Return who runs this program: the user that the operating system knows, whatever the environment says."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # containers run as users that nobody entered
        name = str(user)
    return Caller(kind="cli", name=name)


def open_home() -> Settings:
    """Read the settings and make their HOME.

    Raises:
        SettingsError: HOME is not a folder, or nothing can be written to it.
    """
    settings = load_settings()
    why = "it cannot be written to"
    try:
        prepare_home(settings.home)
    except OSError as error:
        why = error.strerror or str(error)
    if not settings.home.is_dir() or not os.access(settings.home, os.W_OK | os.X_OK):
        raise SettingsError(
            f"The folder {settings.home} cannot hold the data: {why}. SOURCEBOOK_HOME names another one.",
            home=str(settings.home),
        )
    return settings


def api_url(settings: Settings, api: str) -> str:
    """Return where the gateway serves an API, once it runs."""
    return f"http://{settings.host}:{settings.port}/apis/{api}/query?q=*"


def show(value: Any, *, as_json: bool, table: Callable[[], Table | str] | None = None) -> None:
    """Print a result: as JSON, or as a table (or text) for people."""
    if as_json or table is None:
        sys.stdout.write(orjson.dumps(_plain(value), option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    made = table()
    out.print(made if isinstance(made, Table) else escape(strip_controls(made)))


def show_warning(text: str) -> None:
    """Print a warning to stderr."""
    err.print(f"[yellow]warning[/] {escape(strip_controls(text))}")


def show_output(title: str, output: str) -> None:
    """Print to stderr what a plugin printed."""
    if output.strip():
        err.print(f"{title} printed:\n{strip_controls(output.rstrip())}", markup=False)


def show_error(error: SourcebookError, *, as_json: bool) -> None:
    """Print an error to stderr: one line for people, or `code`, `message` and `details` as JSON."""
    message = strip_controls(hide_secrets(error.message))
    if not as_json:
        err.print(f"[red]error[/] \\[{error.code}] {escape(message)}")
        return
    found = {"code": error.code, "message": message, "details": hide_secrets_in(error.details)}
    sys.stderr.write(orjson.dumps(found, default=str).decode() + "\n")


def show_fault(error: Exception) -> None:
    """Print what nobody foresaw to stderr, in one line."""
    shown = escape(strip_controls(hide_secrets(repr(error))))
    err.print(f"[red]error[/] \\[internal] {shown}. SOURCEBOOK_LOG_LEVEL=DEBUG shows where.")


def make_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table; cells are plain text, whole numbers get separators."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        is_count = bool(rows) and all(isinstance(row[number], int) for row in rows)
        table.add_column(escape(strip_controls(column)), overflow="fold", justify="right" if is_count else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else escape(strip_controls(str(value)))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
