"""Mappings as people edit them: what an edit changes is said first, and one that the data contradict is refused."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, MappingError, NotFound
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.mappings import commands as mappings
from sourcebook.hub.mappings.commands import SavedMapping, save_mapping
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.sources import commands as source_commands
from sourcebook.hub.sources.model import SourceState, Upload

KEYWORD = {"type": "keyword"}
INFERRED: dict[str, Any] = {
    "title": {"type": "text"},
    "n": {"type": "integer"},
    "score": {"type": "float"},
    "code": KEYWORD,
    "o": {"properties": {"at": {"type": "date"}}},
}
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "a", "title": "first of all", "n": 1, "score": 0.5, "code": "7", "o": [{"at": "2024-01-02"}]},
    {"_id": "b", "title": "second", "n": [2, 3], "score": 2.0, "code": "8"},
    {"_id": "c", "title": "third", "n": 40_000, "code": ["9", "N/A"], "o": {"at": "2024"}},
]


def run(home: Path, work: Callable[[Context], Awaitable[None]], *, documents: list[dict[str, Any]] = DOCUMENTS) -> None:
    async def scenario(context: Context) -> None:
        folder = home / "one"
        folder.mkdir()
        (folder / "manifest.json").write_text('{"dumper": {"data_url": "x"}, "uploader": {"parser": "p:f"}}')
        await source_commands.add_plugin(context, folder)
        await context.state.put("one/one", Mapping(name="one/one", inferred=INFERRED, committed=INFERRED))
        if documents:
            async with context.documents.create("upload~one.one~1") as writer:
                await writer.write(sorted(make_record(document) for document in documents))
                info = await writer.commit()
            fields = {"source": "one", "uploader": "one", "version": "1", "collection": info.name}
            upload = Upload(id="one/one@1", count=info.count, digest=info.digest, **fields)
            await context.state.put(upload.id, upload)
            await context.state.put("one", SourceState(name="one", uploads={"one": upload.id}))
        await work(context)

    run_in_context(home / "home", scenario)


def saved(home: Path, **changes: Any) -> SavedMapping:
    found: list[SavedMapping] = []
    properties = {key: spec for key, spec in {**INFERRED, **changes}.items() if spec is not None}

    async def work(context: Context) -> None:
        found.append(await save_mapping(context, "one", "one", properties))

    run(home, work)
    return found[0]


def test_an_edit_says_what_it_removes_adds_and_changes(tmp_path: Path) -> None:
    edit = saved(tmp_path, n=None, o=None, new=KEYWORD, code={"type": "text"}).edit
    assert edit.added == ["new"]
    assert edit.removed == ["n", "o.at"]
    assert {path: (change.old["type"], change.new["type"]) for path, change in edit.changed.items()} == {
        "code": ("keyword", "text")
    }
    assert (edit.misfits, edit.tried, edit.documents) == ([], 3, 3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"code": {"type": "integer"}}, [("code", 3, 1, [("c", "N/A")])]),
        ({"score": {"type": "integer"}}, [("score", 2, 1, [("a", 0.5)])]),
        ({"title": {**KEYWORD, "ignore_above": 6}}, [("title", 3, 1, [("a", "first of all")])]),
        ({"n": {"type": "date"}}, []),
        ({"code": {"type": "float"}}, [("code", 3, 1, [("c", "N/A")])]),
        ({"title": {"type": "object", "enabled": False}}, []),
    ],
    ids=str,
)
def test_documents_that_do_not_fit_are_counted_and_shown(
    tmp_path: Path, changes: dict[str, Any], told: list[Any]
) -> None:
    found = saved(tmp_path, **changes)
    misfits = found.edit.misfits
    assert [(trial.field, trial.documents, trial.misfits, trial.examples) for trial in misfits] == told
    assert found.edited


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"title": {"type": "integer"}},
            "'title' cannot be integer: none of the 3 documents that have it fits (document 'a'",
        ),
        ({"title": {"properties": {"x": KEYWORD}}}, "'title' cannot be object"),
        ({"o": KEYWORD}, "'o' cannot be keyword: none of the 2 documents"),
        ({"score": {"type": "boolean"}}, "'score' cannot be boolean"),
        ({"o": {"properties": {"at": {"type": "boolean"}}}}, "'o.at' cannot be boolean"),
    ],
    ids=str,
)
def test_a_type_that_no_document_fits_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    async def work(context: Context) -> None:
        with pytest.raises(MappingError) as caught:
            await save_mapping(context, "one", "one", {**INFERRED, **changes})
        assert words in caught.value.message
        assert (await mappings.get_mapping(context, "one", "one")).committed == INFERRED

    run(tmp_path, work)


def test_a_large_upload_is_tried_in_part_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "_TRIED_DOCUMENTS", 2)

    async def work(given: Context) -> None:
        context = replace(given, settings=given.settings.model_copy(update={"batch_documents": 1}))
        edit = (await save_mapping(context, "one", "one", {**INFERRED, "code": {"type": "integer"}})).edit
        assert (edit.tried, edit.documents, edit.misfits) == (2, 3, [])
        with pytest.raises(MappingError, match="none of the 2 documents of the first 2 that have it"):
            await save_mapping(context, "one", "one", {**INFERRED, "title": {"type": "integer"}})

    run(tmp_path, work)


def test_what_is_not_confirmed_is_not_committed(tmp_path: Path) -> None:
    async def work(context: Context) -> None:
        asked = []

        def confirm(edit: mappings.MappingEdit) -> bool:
            asked.append(edit.removed)
            return False

        answer = await save_mapping(context, "one", "one", {"code": KEYWORD}, confirm=confirm)
        assert asked == [["title", "n", "score", "o.at"]]
        assert answer.committed == (await mappings.get_mapping(context, "one", "one")).committed == INFERRED
        assert answer.edit.removed == asked[0]

    run(tmp_path, work)


def test_a_mapping_is_committed_and_edited(tmp_path: Path) -> None:
    async def work(context: Context) -> None:
        assert (await mappings.commit_mapping(context, "one", "one")).committed == INFERRED
        edited = {"a": {"type": "text", "copy_to": "all"}}
        assert (await save_mapping(context, "one", "one", edited)).committed == edited
        added = await mappings.commit_mapping(context, "one", "one", new_fields_only=True)
        assert added.committed == {**edited, **INFERRED}
        with pytest.raises((MappingError, InvalidRequest), match="strnig"):
            await save_mapping(context, "one", "one", {"a": {"type": "strnig"}})
        assert (await mappings.get_mapping(context, "one", "one")).committed == added.committed

    run(tmp_path, work, documents=[])


def test_a_mapping_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    async def work(context: Context) -> None:
        await context.state.delete(Mapping, "one/one")
        with pytest.raises(NotFound, match="no mapping yet"):
            await mappings.get_mapping(context, "one", "one")
        with pytest.raises(NotFound, match="no uploader 'x'"):
            await save_mapping(context, "one", "x", {})

    run(tmp_path, work, documents=[])
