"""`mapping show|edit|commit`."""

import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from sourcebook.cli.sources import UploadArgument
from sourcebook.cli.terminal import JsonOption, make_table, run_command, show
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, SourcebookError
from sourcebook.hub import sources as hub
from sourcebook.model.mapping import Mapping, iterate_fields
from sourcebook.model.names import parse_upload_name

app = typer.Typer(no_args_is_help=True)


@app.command("show")
def mapping_show(upload_name: UploadArgument, *, as_json: JsonOption = False) -> None:
    """Show every field with its committed and its inferred type."""
    mapping = run_command(lambda context: hub.get_mapping(context, *parse_upload_name(upload_name)), inline=True)

    def table() -> Any:
        committed = {field.path: field for field in iterate_fields(mapping.committed or {})}
        inferred = {field.path: field for field in iterate_fields(mapping.inferred)}
        rows = [
            (path, _describe(committed.get(path)), _describe(inferred.get(path)), mapping.counts.get(path, ""))
            for path in dict.fromkeys([*committed, *inferred])
        ]
        return make_table(["field", "committed", "inferred", "documents"], rows)

    show(mapping, as_json=as_json, table=table)


@app.command("commit")
def mapping_commit(
    upload_name: UploadArgument,
    *,
    new_fields: Annotated[
        bool, typer.Option("--new-fields", help="Add only the fields that the committed mapping does not have yet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take the inferred mapping for the next builds."""
    source, uploader = parse_upload_name(upload_name)
    mapping = run_command(
        lambda context: hub.commit_mapping(context, source, uploader, new_fields_only=new_fields), inline=True
    )
    what = "The new fields of the inferred mapping" if new_fields else "The inferred mapping"
    show(mapping, as_json=as_json, table=lambda: f"{what} of {mapping.name}: committed.")


@app.command("edit")
def mapping_edit(
    upload_name: UploadArgument,
    *,
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A JSON file with the properties, instead of $EDITOR."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Edit the committed mapping in $EDITOR, or read it from a file."""
    source, uploader = parse_upload_name(upload_name)

    async def work(context: Context) -> Mapping:
        mapping = await hub.get_mapping(context, source, uploader)
        edited = file or _edit(mapping)
        try:
            saved = await hub.save_mapping(context, source, uploader, _read_properties(edited))
        except SourcebookError as error:
            # What someone typed must not be lost with a misplaced comma.
            kept = (
                "" if file else f" Your text is in {edited}: mend it, and `mapping edit {upload_name} --file` reads it."
            )
            raise type(error)(f"{error.message} The mapping is as it was.{kept}", **error.details) from error
        if file is None:
            edited.unlink()
        return saved

    mapping = run_command(work, inline=True)
    show(mapping, as_json=as_json, table=lambda: f"The mapping of {mapping.name} is committed.")


def _edit(mapping: Mapping) -> Path:
    """Open the mapping in the user's editor; return the file that was edited."""
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.NamedTemporaryFile("w", prefix="mapping-", suffix=".json", delete=False) as made:
        json.dump(mapping.committed or mapping.inferred, made, indent=2)
    try:
        subprocess.run([*editor, made.name], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        Path(made.name).unlink()
        raise InvalidRequest(
            f"The editor {editor[0]!r} failed ({error}). The mapping is as it was; EDITOR names another one."
        ) from error
    return Path(made.name)


def _read_properties(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InvalidRequest(f"{path} is no JSON: {error}.", file=str(path)) from error


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
