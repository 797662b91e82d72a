"""`show`: the documents of a source as they are stored, and what a field holds."""

from typing import Annotated, Any

import typer

from sourcebook.cli.sources import UploadArgument
from sourcebook.cli.terminal import JsonOption, make_table, run_command, show
from sourcebook.context import Context
from sourcebook.hub.documents import answers as hub
from sourcebook.hub.documents.fields import FieldStatistics


def show_documents(
    source: UploadArgument,
    document_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Id of a document; default: a sample.")
    ] = None,
    *,
    sample: Annotated[int, typer.Option(min=1, max=hub.MAX_SAMPLE, help="How many documents to show.")] = 3,
    field: Annotated[
        str | None, typer.Option(help="Show statistics of this field instead: in how many documents, which values.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show documents of a source before they are built and released."""
    name, _, uploader = source.partition("/")

    async def work(context: Context) -> Any:
        if field is not None:
            return await hub.describe_field(context, name, uploader or None, field)
        if document_id is not None:
            return await hub.get_document(context, name, uploader or None, document_id)
        return await hub.sample_documents(context, name, uploader or None, sample)

    found = run_command(work, inline=True)
    is_table = isinstance(found, FieldStatistics)
    show(found, as_json=as_json, table=(lambda: make_table(["", ""], _list_rows(found))) if is_table else None)


def _list_rows(told: FieldStatistics) -> list[tuple[object, ...]]:
    distinct = f"{told.distinct:,}" if told.distinct_is_exact else f"more than {told.distinct:,}"
    return [
        ("documents that have it", f"{told.count:,} of {told.documents:,}"),
        ("values", f"{told.values:,}"),
        ("different ones", distinct),
        ("types", ", ".join(f"{kind} ({count:,})" for kind, count in told.types.items())),
        ("smallest", told.min),
        ("largest", told.max),
        ("examples", ", ".join(map(repr, told.examples))),
        ("in", ", ".join(told.example_ids)),
    ]
