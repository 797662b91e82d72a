"""The commands, and how their errors end the program."""

import logging
import sys
from typing import Annotated, Any

import typer
from typer.main import get_command

from sourcebook import __version__
from sourcebook.cli import INTERRUPTED
from sourcebook.cli.lazy import CommandTable, LazyGroup
from sourcebook.errors import SourcebookError
from sourcebook.references import load_reference
from sourcebook.sdk.sandbox import hide_from_plugins

# Name: what it is, and what `--help` says of it. The order is that in which a newcomer meets them.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("sourcebook.cli.stack:up", "Start broker, workers, beat and gateway, and keep them running."),
    "run": ("sourcebook.cli.run:run", "Take one plugin from its files to a served API, without a broker."),
    "status": ("sourcebook.cli.status:status", "Show sources, builds, APIs, what is new and what is running."),
    "dump": ("sourcebook.cli.sources:dump", "Download the newest version of a source, and upload it if it is new."),
    "upload": ("sourcebook.cli.sources:upload", "Parse the downloaded files of a source into documents."),
    "inspect": ("sourcebook.cli.sources:inspect", "Infer the mapping of a source's stored documents again."),
    "build": ("sourcebook.cli.builds:build", "Merge the uploads of a build configuration."),
    "rollback": ("sourcebook.cli.builds:rollback", "Serve an earlier release again, at once."),
    "archive": ("sourcebook.cli.builds:archive", "Remove a build's documents and keep its record."),
    "clean": ("sourcebook.cli.builds:clean", "Remove what the keep rules no longer keep."),
    "verify": ("sourcebook.cli.builds:verify", "Read everything that is stored, and say what is damaged."),
    "serve": ("sourcebook.cli.stack:serve", "Serve one API at the root of its own port, without the gateway."),
    "api": ("sourcebook.cli.stack:api", "Run the gateway: hub control, console, and every API."),
    "worker": ("sourcebook.cli.stack:worker", "Run the worker of one queue in the foreground."),
    "plugin": ("sourcebook.cli.plugins:app", "Add, list, remove and check plugins."),
    "config": ("sourcebook.cli.configs:app", "List, show and edit build configurations."),
    "show": (
        "sourcebook.cli.documents:show_documents",
        "Look at the documents of a source, and at what a field holds.",
    ),
    "mapping": ("sourcebook.cli.mappings:app", "Show, edit and commit the mapping of a source."),
    "release": ("sourcebook.cli.releases:app", "Serve builds, publish them, install what others published."),
    "jobs": ("sourcebook.cli.jobs:app", "List jobs, show one, cancel one."),
    "delete": ("sourcebook.cli.delete:app", "Delete builds, build configurations and APIs."),
}

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # loading rich takes longer than all the rest of --help
    help="Turn data sources into searchable APIs.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sourcebook {__version__}\n")
        raise typer.Exit


@app.callback()
def _start(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    del version  # its callback has ended the program
    settings = load_reference("sourcebook.settings:load_settings")()
    level = "WARNING" if settings.log_level == "INFO" else settings.log_level
    load_reference("sourcebook.logging:configure_logging")(level, as_json=settings.log_json)
    for warning in load_reference("sourcebook.settings:warn_of_renamed")():
        logging.getLogger(__name__).warning(warning)


def make_command() -> Any:
    """Return the program as a click command with every command in it."""
    command: Any = get_command(app)
    command.commands = CommandTable(COMMANDS)
    return command


def main() -> int:
    """Run the command line; return or exit with its status: 0, the `exit_code` of an error, 2 for wrong usage, 130 for Ctrl-C."""
    hide_from_plugins()
    try:
        make_command()(prog_name="sourcebook")
    except SourcebookError as error:
        load_reference("sourcebook.cli.terminal:show_error")(error, as_json="--json" in sys.argv)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    # The last resort of the program: a person gets one line, the traceback is there for who asks.
    except Exception as error:
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            raise
        load_reference("sourcebook.cli.terminal:show_fault")(error)
        return 1
    return 0
