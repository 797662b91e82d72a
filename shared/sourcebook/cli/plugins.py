"""`plugin add|list|remove|check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sourcebook.cli.completion import complete_source
from sourcebook.cli.terminal import JsonOption, err, make_table, out, run_command, show, show_output, show_warning
from sourcebook.context import Context
from sourcebook.errors import PluginError
from sourcebook.hub.documents.record import say_documents
from sourcebook.hub.sources import answers as source_answers
from sourcebook.hub.sources import commands as source_commands
from sourcebook.hub.sources.check import PluginCheck, check_plugin
from sourcebook.hub.sources.model import Plugin
from sourcebook.logging import strip_controls
from sourcebook.sdk.manifest import LoadedManifest, load_manifest

app = typer.Typer(no_args_is_help=True)
FolderArgument = Annotated[
    Path, typer.Argument(exists=True, file_okay=False, help="Folder of the plugin, the one with the manifest.")
]


@app.command("add")
def add(
    folders: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, help="Folders of plugins.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Register plugins; they stay where they are, and edits take effect at their next job. All are registered, or none."""
    for folder in folders:
        load_manifest(folder.absolute())

    async def work(context: Context) -> list[Plugin]:
        return [await source_commands.add_plugin(context, folder) for folder in folders]

    plugins = run_command(work, inline=True)
    rows = [(plugin.name, plugin.folder) for plugin in plugins]
    show(plugins, as_json=as_json, table=lambda: make_table(["plugin", "folder"], rows))


@app.command("list")
def list_plugins(*, as_json: JsonOption = False) -> None:
    """List the registered plugins, with what is wrong with them."""
    views = run_command(source_answers.list_sources, inline=True)
    rows = [(view.name, ", ".join(view.uploaders), view.error or "; ".join(view.warnings) or "ok") for view in views]
    show(views, as_json=as_json, table=lambda: make_table(["plugin", "uploaders", "state"], rows))


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Name of the plugin.", autocompletion=complete_source)],
    *,
    as_json: JsonOption = False,
) -> None:
    """Forget a plugin; its folder stays."""
    run_command(lambda context: source_commands.remove_plugin(context, name), inline=True)
    show({"removed": name}, as_json=as_json, table=lambda: f"Plugin {name} is removed; its folder is as it was.")


@app.command("check")
def check(
    folder: FolderArgument,
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder with the downloaded files; default: the newest dump, or the plugin's.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Documents that each parser is asked for.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Check a plugin: its manifest, its functions, and its parsers on the first documents. Nothing is registered or stored."""
    loaded = load_manifest(folder.absolute())

    async def work(context: Context) -> PluginCheck:
        return await check_plugin(context, loaded, data=data.absolute() if data else None, limit=limit)

    found = run_command(work, inline=True)
    if as_json:
        show(found, as_json=True)
    else:
        _show_check(found, loaded)
    if found.problems:
        raise typer.Exit(PluginError.exit_code)


def _show_check(found: PluginCheck, loaded: LoadedManifest) -> None:
    show_output("The plugin", found.output)
    for warning in [*found.warnings, *(text for sample in found.samples for text in sample.warnings)]:
        show_warning(warning)
    for problem in found.problems:
        text = f"{problem.problem}\n{problem.traceback}".rstrip()
        err.print(f"[red]error[/] {escape(strip_controls(text))}")
    if found.problems:
        return
    out.print(f"{loaded.path} is a valid manifest, and its functions can be called.", markup=False)
    for sample in found.samples:
        out.print(f"{sample.uploader}: {say_documents(sample.documents)} parsed; the first:", markup=False)
        for document in sample.examples[:1]:
            out.print_json(data=document)
    if found.data is None and loaded.manifest.uploader_list:
        out.print(
            "There are no data to try the parser on: dump the source first, or name a folder with --data.", markup=False
        )
