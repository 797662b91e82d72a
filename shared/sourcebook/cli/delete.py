"""`delete api|build|config`."""

from typing import Annotated

import typer

from sourcebook.cli.terminal import JsonOption, run_command, show
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.releases import commands as release_commands

app = typer.Typer(no_args_is_help=True)


@app.command("api")
def delete_api(name: Annotated[str, typer.Argument(help="Name of the API.")], *, as_json: JsonOption = False) -> None:
    """Stop serving an API and remove its indices; the builds stay."""
    run_command(lambda context: release_commands.delete_api(context, name), inline=True)
    show({"deleted": name}, as_json=as_json, table=lambda: f"API {name} is deleted; its builds are as they were.")


@app.command("build")
def delete_build(
    name: Annotated[str, typer.Argument(help="Name of the build.")], *, as_json: JsonOption = False
) -> None:
    """Remove a build and its documents; one that an API serves, or keeps for rollback, is refused."""
    run_command(lambda context: build_commands.delete_build(context, name), inline=True)
    show({"deleted": name}, as_json=as_json, table=lambda: f"Build {name} is deleted.")


@app.command("config")
def delete_config(
    name: Annotated[str, typer.Argument(help="Name of the build configuration.")], *, as_json: JsonOption = False
) -> None:
    """Remove a build configuration; its builds stay."""
    run_command(lambda context: build_commands.delete_build_config(context, name), inline=True)
    show({"deleted": name}, as_json=as_json, table=lambda: f"Build configuration {name} is deleted.")
