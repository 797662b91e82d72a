"""`config list|show|edit`: build configurations."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from sourcebook.cli.builds import read_build_config
from sourcebook.cli.completion import complete_config
from sourcebook.cli.editor import edit_text
from sourcebook.cli.terminal import JsonOption, make_table, run_command, show
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, SourcebookError
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.logging import hide_secrets

app = typer.Typer(no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of the build configuration.", autocompletion=complete_config)]


@app.command("list")
def list_configs(*, as_json: JsonOption = False) -> None:
    """List the build configurations."""
    configs = [_hide(config) for config in run_command(build_answers.list_build_configs, inline=True)]
    rows = [
        (config.name, config.doc_type, ", ".join(config.sources), config.schedule or "", config.release)
        for config in configs
    ]
    columns = ("configuration", "doc type", "sources", "schedule", "release")
    show(configs, as_json=as_json, table=lambda: make_table(columns, rows))


@app.command("show")
def show_config(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Show a build configuration as YAML, as `sourcebook build FILE` reads it."""
    config = _hide(run_command(lambda context: build_answers.get_build_config(context, name), inline=True))
    show(config, as_json=as_json, table=lambda: _write_yaml(config))


@app.command("edit")
def edit(
    name: NameArgument,
    *,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A JSON or YAML file, instead of $EDITOR.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Edit a build configuration in $EDITOR, or read it from a file; one that is not there yet is made."""

    async def work(context: Context) -> BuildConfig:
        known = await context.state.get(BuildConfig, name)
        edited = file or edit_text(
            _write_yaml(_hide(known)) if known else f"name: {name}\ndoc_type:\nsources: []\n", "config.yaml"
        )
        try:
            config = read_build_config(edited)
            if config.name != name:
                raise InvalidRequest(f"The name is {config.name!r} there, and the command names {name!r}.")
            saved = await build_commands.put_build_config(context, config)
        except SourcebookError as error:
            kept = "" if file else f" Your text is in {edited}: mend it, and `config edit {name} --file` reads it."
            raise type(error)(f"{error.message} The configuration is as it was.{kept}", **error.details) from error
        if file is None:
            edited.unlink()
        return saved

    saved = _hide(run_command(work, inline=True))
    show(saved, as_json=as_json, table=lambda: f"Configuration {saved.name} is stored; its next build uses it.")


def _hide(config: BuildConfig) -> BuildConfig:
    """Hide a password in the address; a configuration that is put back as it was shown keeps it."""
    return config.model_copy(update={"publish": hide_secrets(config.publish)}) if config.publish else config


def _write_yaml(config: BuildConfig) -> str:
    values: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
