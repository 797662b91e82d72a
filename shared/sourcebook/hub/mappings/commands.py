"""Read, edit and commit the mappings of uploads; what an edit changes is said before it is committed."""

import reprlib
from collections.abc import Callable, Sequence

from pydantic import BaseModel, Field

from sourcebook.context import Context
from sourcebook.errors import MappingError, NotFound
from sourcebook.hub.changes.model import FieldChange, diff_properties
from sourcebook.hub.mappings.model import Mapping, Properties, add_new_fields, check_properties, iterate_fields
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.sources.commands import choose_uploaders
from sourcebook.hub.sources.model import SourceState, Upload
from sourcebook.ports.search import FieldTrial

_TRIED_DOCUMENTS = 100_000  # a few seconds


class MappingEdit(BaseModel):
    """How an edited mapping differs from the one before, by dotted path, and which documents would not fit into it."""

    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    changed: dict[str, FieldChange] = Field(default_factory=dict)
    misfits: list[FieldTrial] = Field(default_factory=list)
    """Added and changed fields with values that would not be indexed."""
    tried: int = 0
    """The documents that were looked at: the first ones by id."""
    documents: int = 0
    """Those of the upload."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class SavedMapping(Mapping):
    """A mapping after an edit, and what the edit changed, or would change."""

    edit: MappingEdit


async def get_mapping(context: Context, source: str, uploader: str) -> Mapping:
    """Return inferred and committed mapping of an uploader.

    Raises:
        NotFound: there is no such source or uploader, or nothing was inferred yet.
    """
    await choose_uploaders(context, source, uploader)
    name = build_upload_name(source, uploader)
    mapping = await context.state.get(Mapping, name)
    if mapping is None:
        raise NotFound(f"{name} has no mapping yet: sourcebook upload {source}", source=source, uploader=uploader)
    return mapping


async def save_mapping(
    context: Context,
    source: str,
    uploader: str,
    properties: Properties,
    *,
    confirm: Callable[[MappingEdit], bool] = lambda _edit: True,
) -> SavedMapping:
    """Commit a mapping that a person edited; the next build uses it, and it stays when the data change.

    Args:
        context: the engines.
        source: the source.
        uploader: one of its uploaders.
        properties: the mapping.
        confirm: whether to commit it, once it is known what that changes.

    Raises:
        NotFound: there is no such source or uploader.
        MappingError: a field's type or option is not known, or not one document fits its type.
    """
    before = await get_mapping(context, source, uploader)
    checked = check_properties(properties)
    edit = await _describe_edit(context, before, source, uploader, checked)
    _refuse_hopeless(before.name, edit, checked)
    if not confirm(edit):
        return SavedMapping(**before.model_dump(), edit=edit)

    def change(mapping: Mapping) -> Mapping:
        return mapping.model_copy(update={"committed": checked, "edited": checked != mapping.inferred})

    mapping = await context.state.update(Mapping, before.name, change)
    return SavedMapping(**mapping.model_dump(), edit=edit)


async def commit_mapping(context: Context, source: str, uploader: str, *, new_fields_only: bool = False) -> Mapping:
    """Commit the inferred mapping: in place of the committed one, or only the fields that this does not have yet.

    Without `new_fields_only` it follows the data again.

    Raises:
        NotFound: there is no such source or uploader, or nothing was inferred yet.
    """

    def commit(mapping: Mapping) -> Mapping:
        keep = mapping.committed if new_fields_only else None
        committed = mapping.inferred if keep is None else add_new_fields(keep, mapping.inferred)
        return mapping.model_copy(update={"committed": committed, "edited": committed != mapping.inferred})

    name = (await get_mapping(context, source, uploader)).name
    return await context.state.update(Mapping, name, commit)


async def _describe_edit(
    context: Context, before: Mapping, source: str, uploader: str, properties: Properties
) -> MappingEdit:
    changes = diff_properties(before.committed or before.inferred, properties)
    edit = MappingEdit(added=list(changes.added), removed=changes.removed, changed=changes.changed)
    state = await context.state.get(SourceState, source)
    upload = await context.state.get(Upload, state.uploads.get(uploader, "")) if state is not None else None
    if upload is None:
        return edit
    edit.documents = upload.count
    paths = [*edit.added, *edit.changed]
    if paths:
        edit.tried, trials = await _try_documents(context, upload, properties, paths)
        edit.misfits = [trial for trial in trials if trial.misfits]
    return edit


async def _try_documents(
    context: Context, upload: Upload, properties: Properties, paths: Sequence[str]
) -> tuple[int, list[FieldTrial]]:
    tried, trials = 0, [FieldTrial(field=path) for path in paths]
    async for batch in context.documents.scan(upload.collection, size=context.settings.batch_documents):
        found = await context.search.try_fields(properties, paths, batch)
        trials = [trial.plus(more) for trial, more in zip(trials, found, strict=True)]
        tried += len(batch)
        if tried >= _TRIED_DOCUMENTS:
            break
    return tried, trials


def _refuse_hopeless(name: str, edit: MappingEdit, properties: Properties) -> None:
    """Refuse a type into which no document fits that has the field."""
    for trial in edit.misfits:
        if trial.misfits < trial.documents:
            continue
        kind = next(
            field.spec.get("type", "object") for field in iterate_fields(properties) if field.path == trial.field
        )
        identifier, value = trial.examples[0]
        whole = "" if edit.tried == edit.documents else f" of the first {edit.tried:,}"
        raise MappingError(
            f"{name}: field {trial.field!r} cannot be {kind}: none of the {trial.documents:,} documents{whole} that have it fits "
            f"(document {identifier!r} has {reprlib.repr(value)}).",
            field=trial.field,
            documents=trial.documents,
            examples=[identifier for identifier, _ in trial.examples],
        )
