"""The commands, and how their errors end the program."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from sourcebook import __version__
from sourcebook.cli import builds, delete, jobs, mappings, plugins, releases, run, sources, stack, status
from sourcebook.cli.terminal import INTERRUPTED, err, show_error
from sourcebook.errors import SourcebookError
from sourcebook.logging import configure_logging
from sourcebook.settings import load_settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Turn data sources into searchable APIs.")
for command in (
    stack.up,
    run.run,
    status.status,
    sources.dump,
    sources.upload,
    sources.inspect,
    builds.build,
    builds.rollback,
    builds.archive,
    builds.clean,
    stack.serve,
    stack.api,
    stack.worker,
):
    app.command()(command)
app.add_typer(plugins.app, name="plugin", help="Add, list, remove and check plugins.")
app.add_typer(mappings.app, name="mapping", help="Show, edit and commit the mapping of a source.")
app.add_typer(releases.app, name="release", help="Release builds, compare them, read the notes, go back.")
app.add_typer(jobs.app, name="jobs", help="List jobs, show one, cancel one.")
app.add_typer(releases.app, name="release", help="Serve builds, publish them, install what others published.")
app.add_typer(delete.app, name="delete", help="Delete builds, build configurations and APIs.")


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sourcebook {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    del version  # its callback has ended the program


def main() -> int:
    """Run the command line; return or exit with its status: 0, the `exit_code` of an error, 2 for wrong usage, 130 for Ctrl-C."""
    settings = None
    try:
        settings = load_settings()
        configure_logging("WARNING" if settings.log_level == "INFO" else settings.log_level, as_json=settings.log_json)
        app()
    except SourcebookError as error:
        show_error(error, as_json="--json" in sys.argv)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    # The last resort of the program: a person gets one line, the traceback is there for who asks.
    except Exception as error:
        if settings is not None and settings.log_level == "DEBUG":
            raise
        err.print(f"[red]error[/] \\[internal] {escape(repr(error))}. SOURCEBOOK_LOG_LEVEL=DEBUG shows where.")
        return 1
    return 0
