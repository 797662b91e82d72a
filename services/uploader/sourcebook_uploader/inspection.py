"""Keeps the inferred mapping of uploads, and infers it again from stored documents."""

import asyncio
from collections.abc import Sequence

from sourcebook.context import Context
from sourcebook.errors import MissingUpload
from sourcebook.flow.messages import InspectReady, InspectUpload
from sourcebook.hub.changes.model import MappingChanges, diff_properties
from sourcebook.hub.documents.record import Record, read_document
from sourcebook.hub.mappings.model import Mapping, MappingDifferences, Properties, compare_mappings, iterate_fields
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.sources.model import SourceState, Upload
from sourcebook.worker import JobRun
from sourcebook_uploader.describe import count_fields, describe_kinds, describe_properties, list_warnings
from sourcebook_uploader.infer import Inference

_SHOWN_FIELDS = 20


async def inspect_upload(context: Context, run: JobRun, command: InspectUpload) -> InspectReady:
    """Infer the mapping of an upload again, from its stored documents.

    Raises:
        MissingUpload: there are no documents yet.
    """
    state = await context.state.get(SourceState, command.source)
    upload_id = state.uploads.get(command.uploader) if state is not None else None
    upload = await context.state.get(Upload, upload_id) if upload_id else None
    if upload is None:
        name = build_upload_name(command.source, command.uploader)
        raise MissingUpload(f"{name} has no documents yet: sourcebook upload {command.source}", source=command.source)
    inference, done = Inference(), 0
    async for batch in context.documents.scan(upload.collection, size=context.settings.batch_documents):
        await asyncio.to_thread(_learn_records, inference, batch)
        done += len(batch)
        await run.progress("inspect", done, upload.count, "documents")
    name = build_upload_name(command.source, command.uploader)
    known = await context.state.get(Mapping, name)
    from_plugin = known.committed if known is not None and known.from_plugin else None
    mapping = await save_inferred_mapping(context, run, name, inference, from_plugin=from_plugin, anew=False)
    differences = compare_mappings(mapping.committed or {}, mapping.inferred)
    fields = sum(1 for field in iterate_fields(mapping.inferred) if not field.is_object)
    return InspectReady(source=command.source, uploader=command.uploader, fields=fields, differences=differences.count)


def _learn_records(inference: Inference, records: Sequence[Record]) -> None:
    for record in records:
        document = read_document(record)
        inference.learn(document["_id"], document)


async def save_inferred_mapping(
    context: Context, run: JobRun, name: str, inference: Inference, *, from_plugin: Properties | None, anew: bool
) -> Mapping:
    """Replace the inferred mapping of an upload, and commit it unless a person edited the committed one.

    What changed, and differences between documents and a mapping that stays, become warnings of the job.

    Args:
        context: the engines.
        run: the job.
        name: of the upload.
        inference: the types of its documents.
        from_plugin: the mapping that the plugin itself gives, which is committed instead.
        anew: commit what was inferred even if a person edited the committed mapping.
    """
    inferred, counts = describe_properties(inference), count_fields(inference)
    before = Mapping(name=name)

    def change(mapping: Mapping) -> Mapping:
        nonlocal before
        before = mapping
        is_kept = mapping.edited and not anew
        committed = None if mapping.from_plugin else mapping.committed
        if from_plugin is not None:
            committed = from_plugin
        elif context.settings.auto_commit_mapping and not is_kept:
            committed = inferred
        return mapping.model_copy(
            update={
                "inferred": inferred,
                "counts": counts,
                "warnings": list_warnings(inference, _list_decided(inferred, committed)),
                "committed": committed,
                "edited": is_kept and from_plugin is None,
                "replaced": mapping.committed
                if mapping.edited and committed != mapping.committed
                else mapping.replaced,
                "from_plugin": from_plugin is not None,
            }
        )

    mapping = await context.state.update(Mapping, name, change, default=before)
    for warning in mapping.warnings:
        run.warn(warning)
    if before.edited and anew and before.committed != mapping.committed:
        run.warn(
            f"The mapping of {name} was inferred again, in place of the one that was edited (`mapping show {name} --json` still "
            "has it, as `replaced`). `sourcebook run --keep-mapping` leaves an edited mapping as it is."
        )
    elif before.committed is not None and not mapping.edited and from_plugin is None:
        _warn_of_new_types(run, diff_properties(before.committed, mapping.committed or {}), inference)
    if mapping.committed is not None:
        _warn_of_differences(run, mapping, compare_mappings(mapping.committed, inferred))
    return mapping


def _list_decided(inferred: Properties, committed: Properties | None) -> set[str]:
    """Return the fields whose type is not the inferred one: what the data suggest does not become of them."""
    if committed is None:
        return set()
    changes = diff_properties(inferred, committed)
    moved = {path for path, change in changes.changed.items() if change.old.get("type") != change.new.get("type")}
    return moved.union(changes.removed)


def _warn_of_new_types(run: JobRun, changes: MappingChanges, inference: Inference) -> None:
    """Say which types moved and in which documents: the next release has to index everything again for it."""
    fields = {field.path: field for field in inference.fields()}
    for path, change in list(changes.changed.items())[:_SHOWN_FIELDS]:
        before, after = (spec.get("type", "object") for spec in (change.old, change.new))
        moved = f"was {before} and is {after} now" if before != after else f"is {after} as before, indexed otherwise"
        seen = f" ({describe_kinds(fields[path])})" if path in fields else ""
        run.warn(f"Field {path!r} {moved}{seen}; the next release indexes all documents again.")


def _warn_of_differences(run: JobRun, mapping: Mapping, differences: MappingDifferences) -> None:
    name = mapping.name
    whose = "the mapping of the plugin" if mapping.from_plugin else "the committed mapping"
    if differences.added:
        advice = "" if mapping.from_plugin else f"; add them with `sourcebook mapping commit --new-fields {name}`"
        fields = _list_fields(differences.added, mapping.counts)
        run.warn(f"{fields} not in {whose}, so they cannot be searched{advice}.")
    for path, (committed, inferred) in list(differences.changed.items())[:_SHOWN_FIELDS]:
        run.warn(
            f"Field {path!r} is {committed} in {whose}, but documents have {inferred}: values that do not fit are not "
            f"indexed. Once released, the query `_ignored:{path}` finds them."
        )


def _list_fields(paths: list[str], counts: dict[str, int]) -> str:
    shown = ", ".join(f"{path!r} (values: {counts.get(path, 0):,})" for path in paths[:_SHOWN_FIELDS])
    more = f" and {len(paths) - _SHOWN_FIELDS} more" if len(paths) > _SHOWN_FIELDS else ""
    return f"New field{'s' if len(paths) > 1 else ''} {shown}{more}"
