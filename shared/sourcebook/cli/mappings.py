"""`mapping show|edit|commit`."""

import json
import reprlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sourcebook.cli.editor import edit_text
from sourcebook.cli.sources import UploadArgument
from sourcebook.cli.terminal import JsonOption, err, make_table, run_command, show
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, SourcebookError
from sourcebook.hub.mappings import commands as hub
from sourcebook.hub.mappings.commands import MappingEdit, SavedMapping
from sourcebook.hub.mappings.model import EXACT, FieldEntry, iterate_fields
from sourcebook.hub.names import parse_upload_name

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
        return make_table(["field", "committed", "inferred", "values"], rows)

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
    yes: Annotated[bool, typer.Option("--yes", help="Commit without asking: for scripts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Edit the committed mapping in $EDITOR, or read it from a file; what that changes is shown before it is committed."""
    source, uploader = parse_upload_name(upload_name)
    answers: list[bool] = []

    def confirm(edit: MappingEdit) -> bool:
        answers.append(yes or _ask(edit))
        return answers[-1]

    async def work(context: Context) -> SavedMapping:
        mapping = await hub.get_mapping(context, source, uploader)
        edited = file or edit_text(json.dumps(mapping.committed or mapping.inferred, indent=2), "mapping.json")
        try:
            saved = await hub.save_mapping(context, source, uploader, _read_properties(edited), confirm=confirm)
        except SourcebookError as error:
            # What someone typed must not be lost with a misplaced comma.
            raise type(error)(f"{error.message} {_tell_kept(upload_name, edited, file)}", **error.details) from error
        if answers[-1:] == [False]:
            raise InvalidRequest(f"Nothing was committed. {_tell_kept(upload_name, edited, file)}")
        if file is None:
            edited.unlink()
        return saved

    mapping = run_command(work, inline=True)
    show(mapping, as_json=as_json, table=lambda: _tell_saved(mapping))


def _tell_saved(mapping: SavedMapping) -> str:
    if mapping.edited:
        return f"The mapping of {mapping.name} is committed."
    done = "is committed" if mapping.edit else "is as it was"
    return f"The mapping of {mapping.name} {done}. It is the inferred one, so it goes on following the data."


def _tell_kept(upload_name: str, edited: Path, file: Path | None) -> str:
    kept = f" Your text is in {edited}: mend it, and `mapping edit {upload_name} --file` reads it."
    return f"The mapping is as it was.{'' if file else kept}"


def _ask(edit: MappingEdit) -> bool:
    """Show what an edit changes, and ask whether to commit it."""
    if not edit:
        return True
    err.print(
        make_table(["field", "", "before", "now", "documents that do not fit", "for example"], _list_changes(edit))
    )
    if edit.tried < edit.documents and edit.misfits:
        err.print(f"The first {edit.tried:,} of {edit.documents:,} documents were looked at.")
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "`mapping edit` asks before it commits, and nobody can answer here: --yes commits without asking."
        )
    return typer.confirm("Commit it?", err=True)


def _list_changes(edit: MappingEdit) -> list[tuple[str, ...]]:
    misfits = {trial.field: trial for trial in edit.misfits}

    def tell(path: str) -> tuple[str, str]:
        trial = misfits.get(path)
        if trial is None:
            return "", ""
        examples = ", ".join(f"{reprlib.repr(value)} in {identifier!r}" for identifier, value in trial.examples)
        return f"{trial.misfits:,} of {trial.documents:,}", examples

    rows: list[tuple[str, ...]] = [(path, "removed", "", "cannot be searched", "", "") for path in edit.removed]
    rows += [(path, "added", "", "", *tell(path)) for path in edit.added]
    for path, change in edit.changed.items():
        rows.append((path, "changed", *(_describe_spec(spec) for spec in (change.old, change.new)), *tell(path)))
    return rows


def _read_properties(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}.", file=str(path)) from error


def _describe(field: FieldEntry | None) -> str:
    if field is None:
        return ""
    return _describe_spec({**field.spec, **({"type": "object"} if field.is_object else {})})


def _describe_spec(spec: dict[str, Any]) -> str:
    marks = (
        ("not indexed", spec.get("index") is False or spec.get("enabled") is False),
        ("in all", "copy_to" in spec),
        ("counted whole", EXACT in spec.get("fields", {})),
    )
    return ", ".join([spec.get("type", "object"), *(mark for mark, is_on in marks if is_on)])
