"""The commands, and how their errors end the program."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from sourcebook import __version__
from sourcebook.cli import builds, jobs, plugins, sources, stack
from sourcebook.cli.terminal import err
from sourcebook.errors import SourcebookError
from sourcebook.logging import configure_logging, hide_secrets
from sourcebook.settings import load_settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Turn data sources into searchable APIs.")
app.add_typer(plugins.app, name="plugin", help="Add, list, remove and check plugins.")
app.add_typer(sources.mapping_app, name="mapping", help="Show, edit and commit the mapping of a source.")
app.add_typer(jobs.app, name="jobs", help="List jobs, show one, cancel one.")
for command in (
    stack.up,
    stack.run,
    stack.worker,
    stack.api,
    stack.serve,
    stack.status,
    sources.dump,
    sources.upload,
    sources.inspect,
    builds.build,
    builds.release,
    builds.rollback,
):
    app.command()(command)


@app.callback()
def _options(
    *, version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False
) -> None:
    if version:
        sys.stdout.write(f"sourcebook {__version__}\n")
        raise typer.Exit


def main() -> int:
    """Run the command line and return its exit status: 0, the `exit_code` of an error, 2 for wrong usage, 130 for Ctrl-C."""
    try:
        settings = load_settings()
        configure_logging("WARNING" if settings.log_level == "INFO" else settings.log_level, as_json=settings.log_json)
        status = app(standalone_mode=False)
    except SourcebookError as error:
        err.print(f"[red]error[/] \\[{error.code}] {escape(hide_secrets(error.message))}", highlight=False)
        return error.exit_code
    except typer.TyperError as error:
        error.show()
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    return int(status or 0)
