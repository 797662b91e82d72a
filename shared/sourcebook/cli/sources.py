"""`dump`, `upload` and `inspect`."""

from typing import Annotated

import typer

from sourcebook.cli.completion import complete_source
from sourcebook.cli.progress import NoWaitOption, run_jobs
from sourcebook.cli.terminal import JsonOption
from sourcebook.context import Context
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.sources import commands as source_commands

SourceArgument = Annotated[str, typer.Argument(help="Name of the source.", autocompletion=complete_source)]
UploadArgument = Annotated[
    str,
    typer.Argument(
        help="Name of the source, or source/uploader where it has several uploaders.", autocompletion=complete_source
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Even if nothing is new.")]


def dump(
    source: SourceArgument,
    *,
    force: ForceOption = False,
    only: Annotated[bool, typer.Option("--only", help="Do not upload afterwards.")] = False,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Download the newest version of a source, and upload it if it is new."""

    async def start(context: Context) -> list[Job]:
        return [await source_commands.start_dump(context, source, force=force, then_upload=not only)]

    run_jobs(start, no_wait=no_wait, as_json=as_json)


def upload(
    source: UploadArgument, *, force: ForceOption = False, no_wait: NoWaitOption = False, as_json: JsonOption = False
) -> None:
    """Parse the downloaded files of a source into documents, and infer their mapping."""
    name, _, uploader = source.partition("/")

    async def start(context: Context) -> list[Job]:
        return await source_commands.start_upload(context, name, uploader or None, force=force)

    run_jobs(start, no_wait=no_wait, as_json=as_json)


def inspect(source: UploadArgument, *, no_wait: NoWaitOption = False, as_json: JsonOption = False) -> None:
    """Infer the mapping of a source's stored documents again."""
    name, _, uploader = source.partition("/")

    async def start(context: Context) -> list[Job]:
        return await source_commands.start_inspect(context, name, uploader or None)

    run_jobs(start, no_wait=no_wait, as_json=as_json)
