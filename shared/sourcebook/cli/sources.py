"""`dump`, `upload`, `inspect` and `mapping`."""

import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from sourcebook.cli.terminal import follow_jobs, make_table, out, run_command, show
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest
from sourcebook.hub import sources as hub
from sourcebook.model.job import Job
from sourcebook.model.mapping import Mapping, iterate_fields
from sourcebook.model.names import parse_upload_name

SourceArgument = Annotated[str, typer.Argument(help="Name of the source, or source/uploader where that makes sense.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Even if nothing is new.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Start the job and return.")]
mapping_app = typer.Typer(no_args_is_help=True)


def dump(
    source: SourceArgument,
    *,
    force: ForceOption = False,
    only: Annotated[bool, typer.Option("--only", help="Do not upload afterwards.")] = False,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Download the newest release of a source, and upload it if it is new."""

    async def work(context: Context) -> list[Job]:
        job = await hub.start_dump(context, source, force=force, then_upload=not only)
        return [job] if no_wait else await follow_jobs(context, [job], quiet=as_json)

    show_jobs(run_command(work), as_json=as_json)


def upload(
    source: SourceArgument, *, force: ForceOption = False, no_wait: NoWaitOption = False, as_json: JsonOption = False
) -> None:
    """Parse the downloaded files of a source into documents, and infer their mapping."""
    name, _, uploader = source.partition("/")

    async def work(context: Context) -> list[Job]:
        jobs = await hub.start_upload(context, name, uploader or None, force=force)
        return jobs if no_wait else await follow_jobs(context, jobs, quiet=as_json)

    show_jobs(run_command(work), as_json=as_json)


def inspect(source: SourceArgument, *, no_wait: NoWaitOption = False, as_json: JsonOption = False) -> None:
    """Infer the mapping of a source's stored documents again."""
    name, _, uploader = source.partition("/")

    async def work(context: Context) -> list[Job]:
        jobs = await hub.start_inspect(context, name, uploader or None)
        return jobs if no_wait else await follow_jobs(context, jobs, quiet=as_json)

    show_jobs(run_command(work), as_json=as_json)


@mapping_app.command("show")
def mapping_show(upload_name: SourceArgument, *, as_json: JsonOption = False) -> None:
    """Show every field with its committed and its inferred type."""
    mapping = run_command(lambda context: hub.get_mapping(context, *parse_upload_name(upload_name)))

    def table() -> Any:
        committed = {field.path: field for field in iterate_fields(mapping.committed or {})}
        inferred = {field.path: field for field in iterate_fields(mapping.inferred)}
        rows = [
            (path, _describe(committed.get(path)), _describe(inferred.get(path)), mapping.counts.get(path, ""))
            for path in dict.fromkeys([*committed, *inferred])
        ]
        return make_table(["field", "committed", "inferred", "documents"], rows)

    show(mapping, as_json=as_json, table=table)


@mapping_app.command("commit")
def mapping_commit(upload_name: SourceArgument, *, as_json: JsonOption = False) -> None:
    """Take the inferred mapping for the next builds."""
    mapping = run_command(lambda context: hub.commit_mapping(context, *parse_upload_name(upload_name)))
    show(mapping, as_json=as_json, table=lambda: f"The inferred mapping of {mapping.name} is committed.")


@mapping_app.command("edit")
def mapping_edit(
    upload_name: SourceArgument,
    *,
    file: Annotated[Path | None, typer.Option(help="A JSON file with the properties, instead of $EDITOR.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Edit the committed mapping in $EDITOR, or read it from a file."""
    source, uploader = parse_upload_name(upload_name)

    async def work(context: Context) -> Mapping:
        mapping = await hub.get_mapping(context, source, uploader)
        text = file.read_text() if file else _edit(json.dumps(mapping.committed or mapping.inferred, indent=2))
        try:
            properties = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"That is no JSON: {error}. The mapping is as it was.") from error
        return await hub.save_mapping(context, source, uploader, properties)

    mapping = run_command(work)
    show(mapping, as_json=as_json, table=lambda: f"The mapping of {mapping.name} is committed.")


def _edit(text: str) -> str:
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
        file.write(text)
        file.flush()
        subprocess.run([*editor, file.name], check=True)
        return Path(file.name).read_text()


def _describe(field: Any) -> str:
    if field is None:
        return ""
    kind = "object" if field.is_object else field.spec.get("type", "object")
    marks = [
        mark
        for mark, on in (("not indexed", field.spec.get("index") is False), ("in all", "copy_to" in field.spec))
        if on
    ]
    return ", ".join([kind, *marks])


def show_jobs(jobs: list[Job], *, as_json: bool) -> None:
    """Print jobs as JSON, or one line each."""
    if as_json:
        show(jobs, as_json=True)
        return
    for job in jobs:
        out.print(f"{job.kind} {job.target}: {job.state.value} ({job.id})", highlight=False)
