"""`run`: one plugin from its files to a served API in this process."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from sourcebook.cli.plugins import FolderArgument
from sourcebook.cli.progress import cancel_if_active, follow_here
from sourcebook.cli.stack import PortOption, serve_api, with_port
from sourcebook.cli.terminal import err, out, run_command, show_warning
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs.model import ACTIVE_STATES, Job
from sourcebook.hub.sources import commands as source_commands
from sourcebook.sdk.manifest import Manifest, load_manifest
from sourcebook.supervisor import broker_answers, check_port

_LOOK_SECONDS = 0.5


def run(
    plugin: FolderArgument,
    *,
    force: Annotated[bool, typer.Option("--force", help="Download and parse even if nothing is new.")] = False,
    keep_mapping: Annotated[
        bool,
        typer.Option("--keep-mapping", help="Leave a mapping that was edited as it is, instead of inferring it again."),
    ] = False,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop when the index is ready.")] = False,
    port: PortOption = None,
) -> None:
    """Take one plugin from its files to a served API in this process, without a broker: for plugin authors."""
    settings = with_port(port)
    if not no_serve:
        check_port(settings.host, settings.port)
    loaded = load_manifest(plugin.absolute())
    for warning in loaded.warnings:
        show_warning(warning)
    if not loaded.manifest.uploader_list:
        raise InvalidRequest(f"{loaded.path} only downloads: it has no uploader to make documents.")
    name = run_command(
        lambda context: _run_plugin(context, plugin, loaded.manifest, force=force, infer_anew=not keep_mapping),
        inline=True,
    )
    if no_serve:
        out.print(f"API {name} is ready: sourcebook serve {name}", markup=False)
        return
    serve_api(name, settings)


async def _run_plugin(context: Context, folder: Path, manifest: Manifest, *, force: bool, infer_anew: bool) -> str:
    name = (await source_commands.add_plugin(context, folder)).name
    await _end_leftovers(context, name)
    await follow_here(context, [await source_commands.start_dump(context, name, force=force, then_upload=False)])
    await follow_here(context, await source_commands.start_upload(context, name, force=force, infer_anew=infer_anew))
    config = BuildConfig(
        name=name,
        doc_type=manifest.biothing_type or "document",
        sources=[name],
        builder="link" if len(manifest.uploader_list) == 1 else "merge",
    )
    await build_commands.put_build_config(context, config)
    (built,) = await follow_here(context, [await build_commands.start_build(context, config.name)])
    await follow_here(context, [await build_commands.start_release(context, str((built.result or {})["build"]))])
    return name


async def _end_leftovers(context: Context, name: str) -> None:
    """Cancel what an earlier `run` of this plugin left when it was killed; where a stack runs, its beat sees to that."""
    if await broker_answers(context.settings):
        return
    patience = context.settings.lock_ttl.total_seconds()
    for job in await context.state.find(Job, {"state": tuple(ACTIVE_STATES)}):
        if job.lock.partition(":")[2].partition("/")[0] != name:
            continue
        waited = 0.0
        while await context.locks.holder(job.lock) and waited <= patience:
            if not waited:
                err.print(f"waiting for job {job.id} ({job.kind} {job.target}), which another run began", markup=False)
            await asyncio.sleep(_LOOK_SECONDS)
            waited += _LOOK_SECONDS
        if not await context.locks.holder(job.lock):
            await cancel_if_active(context, job.id)
