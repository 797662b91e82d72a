"""Keeps the inferred mapping of uploads, and infers it again from stored documents."""

import asyncio
from collections.abc import Sequence

from sourcebook.context import Context
from sourcebook.errors import MissingUpload
from sourcebook.flow.messages import InspectReady, InspectUpload
from sourcebook.model.document import Record, read_document
from sourcebook.model.mapping import Mapping, MappingDifferences, Properties, compare_mappings, iterate_fields
from sourcebook.model.names import build_upload_name
from sourcebook.model.source import SourceState
from sourcebook.model.upload import Upload
from sourcebook.worker import JobRun
from sourcebook_uploader.describe import count_fields, describe_properties, list_warnings
from sourcebook_uploader.infer import Inference

_SHOWN_FIELDS = 20


async def inspect_upload(context: Context, run: JobRun, command: InspectUpload) -> InspectReady:
    """Infer the mapping of an upload again, from its stored documents.

    Raises:
        MissingUpload: there are no documents yet.
    """
    state = await context.catalog.get(SourceState, command.source)
    upload_id = state.uploads.get(command.uploader) if state is not None else None
    upload = await context.catalog.get(Upload, upload_id) if upload_id else None
    if upload is None:
        name = build_upload_name(command.source, command.uploader)
        raise MissingUpload(f"{name} has no documents yet: sourcebook upload {command.source}", source=command.source)
    inference, done = Inference(), 0
    async for batch in context.documents.scan(upload.collection, size=context.settings.batch_documents):
        await asyncio.to_thread(_learn_records, inference, batch)
        done += len(batch)
        await run.progress("inspect", done, upload.count, "documents")
    known = await context.catalog.get(Mapping, build_upload_name(command.source, command.uploader))
    from_plugin = known.committed if known is not None and known.from_plugin else None
    mapping = await save_inferred_mapping(
        context, run, command.source, command.uploader, inference, from_plugin=from_plugin
    )
    differences = compare_mappings(mapping.committed or {}, mapping.inferred)
    fields = sum(1 for field in iterate_fields(mapping.inferred) if not field.is_object)
    return InspectReady(source=command.source, uploader=command.uploader, fields=fields, differences=differences.count)


def _learn_records(inference: Inference, records: Sequence[Record]) -> None:
    for record in records:
        document = read_document(record)
        inference.learn(document["_id"], document)


async def save_inferred_mapping(
    context: Context,
    run: JobRun,
    source: str,
    uploader: str,
    inference: Inference,
    *,
    from_plugin: Properties | None = None,
) -> Mapping:
    """Replace the inferred mapping of an upload, and commit it if there is none (and the settings allow it).

    Differences between the committed mapping and the documents become warnings of the job.

    Args:
        from_plugin: the mapping that the plugin itself gives, which is committed instead.
    """
    name = build_upload_name(source, uploader)
    inferred, counts, warnings = describe_properties(inference), count_fields(inference), list_warnings(inference)
    automatic = inferred if context.settings.auto_commit_mapping else None

    def change(mapping: Mapping) -> Mapping:
        committed = None if mapping.from_plugin else mapping.committed
        if from_plugin is not None:
            committed = from_plugin
        return mapping.model_copy(
            update={
                "inferred": inferred,
                "counts": counts,
                "warnings": warnings,
                "committed": automatic if committed is None else committed,
                "from_plugin": from_plugin is not None,
            }
        )

    mapping = await context.catalog.update(Mapping, name, change, default=Mapping(name=name))
    for warning in warnings:
        run.warn(warning)
    if mapping.committed is not None:
        _warn_of_differences(run, name, compare_mappings(mapping.committed, inferred))
    return mapping


def _warn_of_differences(run: JobRun, name: str, differences: MappingDifferences) -> None:
    if differences.added:
        run.warn(
            f"{name}: {_list_fields(differences.added)} not in the committed mapping, so they cannot be searched; add them with "
            f"`sourcebook mapping commit {name}`."
        )
    for path, (committed, inferred) in list(differences.changed.items())[:_SHOWN_FIELDS]:
        run.warn(f"{name}: field {path!r} is committed as {committed}, but documents have {inferred}.")


def _list_fields(paths: list[str]) -> str:
    shown = ", ".join(repr(path) for path in paths[:_SHOWN_FIELDS])
    more = f" and {len(paths) - _SHOWN_FIELDS} more" if len(paths) > _SHOWN_FIELDS else ""
    return f"new field{'s' if len(paths) > 1 else ''} {shown}{more}"
