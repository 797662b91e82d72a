"""Release notes: what a release is, and what changed since the one before; as text and as Markdown too."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from sourcebook.hub.changes.model import ChangeCounts, MappingChanges, Occurrences, RootKeyChange, SourceChange
from sourcebook.hub.releases.model import ReleaseKind

NotesFormat = Literal["text", "markdown", "json"]
_MAX_LISTED = 30  # fields of one kind that are named; the JSON names all
_SHOWN_SAMPLES = 5


class ReleaseNotes(BaseModel):
    """What a person or a program may want to know of a release.

    `count` is in documents. `documents` and what follows it are compared with the build `previous`; they are missing if there
    was none, or nobody had the two compared.
    """

    release: str
    config: str
    build: str
    kind: ReleaseKind
    reason: str
    released_at: float
    count: int
    previous: str | None = None
    previous_count: int | None = None
    note: str = ""
    ignored: dict[str, int] = Field(default_factory=dict)
    """Documents that have a value which does not fit into the mapping, by field."""
    unmapped: dict[str, int] = Field(default_factory=dict)
    """Values of fields that are not in the mapping."""
    sources: dict[str, SourceChange] = Field(default_factory=dict)
    documents: ChangeCounts | None = None
    mapping: MappingChanges | None = None
    root_keys: dict[str, RootKeyChange] = Field(default_factory=dict)


Rows = list[tuple[str, ...]]


def render_notes(notes: ReleaseNotes, form: NotesFormat) -> str:
    """Return release notes in a form that ends with a new line."""
    if form == "json":
        return notes.model_dump_json(indent=1) + "\n"
    return _render_markdown(notes) if form == "markdown" else _render_text(notes)


def _render_text(notes: ReleaseNotes) -> str:
    lines = [f"Release {notes.release}", _summary(notes)]
    if notes.note:
        lines += ["", *notes.note.splitlines()]
    for title, head, rows in _sections(notes):
        table = [head, *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        lines += ["", title]
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines) + "\n"


def _render_markdown(notes: ReleaseNotes) -> str:
    lines = [f"# Release {_escape(notes.release)}", "", _escape(_summary(notes))]
    if notes.note:
        lines += ["", *(f"> {_escape(line)}" for line in notes.note.splitlines())]
    for title, head, rows in _sections(notes):
        lines += ["", f"## {title}", ""]
        lines += ["| " + " | ".join(map(_escape, row)) + " |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _escape(cell: str) -> str:
    # Names and notes are data: they must not become tables or markup.
    return cell if cell == "---" else "".join(f"\\{letter}" if letter in "\\|`*_<>[]#" else letter for letter in cell)


def _summary(notes: ReleaseNotes) -> str:
    when = datetime.fromtimestamp(notes.released_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    why = f" ({notes.reason})" if notes.reason else ""
    after = f" after {notes.previous}" if notes.previous else ""
    return f"Build {notes.build}{after}, {when}. {notes.kind.capitalize()} release{why}."


def _sections(notes: ReleaseNotes) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    yield "Documents", ("", "before", "now"), _document_rows(notes)
    if notes.sources:
        rows = [_source_row(name, change) for name, change in notes.sources.items()]
        yield "Sources", ("source", "version before", "version now", "documents before", "documents now"), rows
    if notes.mapping:
        yield "Fields", ("", "field", "type"), list(_field_rows(notes.mapping))
    if notes.ignored or notes.unmapped:
        yield "Not indexed", ("field", "", ""), list(_unindexed_rows(notes))
    if notes.root_keys:
        rows = [row for key, change in notes.root_keys.items() for row in _key_rows(key, change)]
        yield "Updated documents by root key", ("key", "", "documents", "for example"), rows


def _document_rows(notes: ReleaseNotes) -> Rows:
    before = "" if notes.previous_count is None else f"{notes.previous_count:,}"
    rows: Rows = [("all", before, f"{notes.count:,}")]
    if notes.documents is not None:
        counts = notes.documents
        words = (("added", counts.add), ("updated", counts.update), ("deleted", counts.delete))
        rows += [(word, "", f"{count:,}") for word, count in words]
    return rows


def _source_row(name: str, change: SourceChange) -> tuple[str, ...]:
    versions = [side.version if side else "-" for side in (change.old, change.new)]
    counts = [f"{side.count:,}" if side else "-" for side in (change.old, change.new)]
    return (name, *versions, *counts)


def _field_rows(mapping: MappingChanges) -> Iterator[tuple[str, ...]]:
    added = [(path, _type_of(spec)) for path, spec in mapping.added.items()]
    changed = [
        (path, f"{_type_of(field.old)} before, {_type_of(field.new)} now") for path, field in mapping.changed.items()
    ]
    for word, fields in (("added", added), ("removed", [(path, "") for path in mapping.removed]), ("changed", changed)):
        yield from ((word, path, kind) for path, kind in fields[:_MAX_LISTED])
        if len(fields) > _MAX_LISTED:
            yield word, f"and {len(fields) - _MAX_LISTED:,} more", ""


def _unindexed_rows(notes: ReleaseNotes) -> Iterator[tuple[str, ...]]:
    told = (
        ("documents do not fit into its type", notes.ignored),
        ("values, but it is not in the mapping", notes.unmapped),
    )
    for what, counts in told:
        yield from ((path, f"{count:,}", what) for path, count in list(counts.items())[:_MAX_LISTED])
        if len(counts) > _MAX_LISTED:
            yield f"and {len(counts) - _MAX_LISTED:,} more", "", what


def _type_of(spec: dict[str, Any]) -> str:
    return str(spec.get("type", "object"))


def _key_rows(key: str, change: RootKeyChange) -> Iterator[tuple[str, ...]]:
    named: tuple[tuple[str, Occurrences], ...] = (
        ("added", change.added),
        ("removed", change.removed),
        ("changed", change.changed),
    )
    for word, found in named:
        if found.documents:
            yield key, word, f"{found.documents:,}", ", ".join(found.samples[:_SHOWN_SAMPLES])
