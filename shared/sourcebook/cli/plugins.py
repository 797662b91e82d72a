"""`plugin add|list|remove|check`."""

from pathlib import Path
from typing import Annotated

import typer

from sourcebook.cli.terminal import JsonOption, make_table, run_command, show, show_warning
from sourcebook.context import Context
from sourcebook.hub import sources as hub
from sourcebook.model.source import Plugin
from sourcebook.sdk.manifest import load_manifest

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
        return [await hub.add_plugin(context, folder) for folder in folders]

    plugins = run_command(work, inline=True)
    rows = [(plugin.name, plugin.folder) for plugin in plugins]
    show(plugins, as_json=as_json, table=lambda: make_table(["plugin", "folder"], rows))


@app.command("list")
def list_plugins(*, as_json: JsonOption = False) -> None:
    """List the registered plugins, with what is wrong with them."""
    views = run_command(hub.list_sources, inline=True)
    rows = [(view.name, ", ".join(view.uploaders), view.error or "; ".join(view.warnings) or "ok") for view in views]
    show(views, as_json=as_json, table=lambda: make_table(["plugin", "uploaders", "state"], rows))


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="Name of the plugin.")], *, as_json: JsonOption = False) -> None:
    """Forget a plugin; its folder stays."""
    run_command(lambda context: hub.remove_plugin(context, name), inline=True)
    show({"removed": name}, as_json=as_json, table=lambda: f"Plugin {name} is removed; its folder is as it was.")


@app.command("check")
def check(folder: FolderArgument, *, as_json: JsonOption = False) -> None:
    """Read a plugin's manifest and say what is wrong with it; nothing is registered or run."""
    loaded = load_manifest(folder.absolute())
    for warning in loaded.warnings if not as_json else []:
        show_warning(warning)
    result = {"manifest": loaded.manifest, "warnings": loaded.warnings}
    show(result, as_json=as_json, table=lambda: f"{loaded.path} is a valid manifest.")
