"""What a comparison reads, what it trusts and what it writes down: nothing that other builds say is believed unchecked."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import VerificationFailed
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes import commands as diff
from sourcebook.hub.changes.commands import ensure_changes, record_build_changes, record_changes
from sourcebook.hub.changes.folder import ChangesFolder, open_changes, read_changes
from sourcebook.hub.changes.model import ChangesMetadata
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.names import build_changes_key
from sourcebook.hub.sources.model import Upload

Documents = dict[str, Any]
FULL = [14, 28, 42, 56, 70, 84, 98, 100]
ALL = {f"{number:03}": 0 for number in range(50)}


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    run_in_context(home, scenario, batch_documents=7)


async def add_build(context: Context, number: int, documents: Documents, **fields: Any) -> Build:
    async with context.documents.create(f"build~c~{number}") as writer:
        await writer.write(sorted(make_record({"_id": key, "v": value}) for key, value in documents.items()))
        info = await writer.commit()
    values = {"name": f"c_{number}", "config": "c", "doc_type": "thing", "collection": info.name, "uploads": []}
    build = Build.model_validate({**values, "count": info.count, "digest": info.digest, **fields})
    await context.state.put(build.name, build)
    return build


class Progress:
    """How much was read by and by; 14 is the first step of a full comparison, of 7 documents from each side."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.totals: set[int | None] = set()

    async def __call__(self, _step: str, done: int, total: int | None, _unit: str) -> None:
        self.read.append(done)
        self.totals.add(total)


async def make_steps(context: Context, *versions: Documents) -> list[Build]:
    """Builds of which each was made from the one before by its changes."""
    builds = [await add_build(context, 1, versions[0])]
    for number, documents in enumerate(versions[1:], start=2):
        builds.append(await add_build(context, number, documents, base=f"c_{number - 1}", incremental=True))
        key = build_changes_key(f"c_{number}", f"c_{number - 1}")
        draft = await diff._draft(context, builds[-2], builds[-1], ignore_list_order=False)
        await record_changes(context, key, draft, progress=Progress())
    return builds


VERSIONS = (ALL, ALL | {"001": 1}, ALL | {"001": 1, "002": 1}, ALL | {"001": 2, "003": 1})


async def compare(context: Context, old: Build, new: Build) -> tuple[list[str], Progress]:
    progress = Progress()
    folder = await ensure_changes(context, old, new, progress=progress)
    return [change.id for change in read_changes(folder.path)], progress


def test_only_what_the_steps_between_two_builds_name_is_read(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first, *_, last = await make_steps(context, *VERSIONS)
        changed, progress = await compare(context, first, last)
        assert (changed, progress.read, progress.totals) == (["001", "003"], [3], {100})

    play(tmp_path, scenario)


def test_everything_is_read_where_the_steps_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "_MAX_STEPS", 2)

    async def scenario(context: Context) -> None:
        first, *_, last = await make_steps(context, *VERSIONS)
        assert (await compare(context, first, last))[1].read == FULL

    play(tmp_path, scenario)


def test_everything_is_read_where_no_steps_lead_from_one_build_to_the_other(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first, *_, last = await make_steps(context, *VERSIONS)
        await context.state.delete(Build, first.name)  # the steps break off
        aside = await add_build(context, 9, ALL | {"040": 1})
        changed, progress = await compare(context, aside, last)
        assert (changed, progress.read) == (["001", "003", "040"], FULL)

    play(tmp_path, scenario)


@pytest.mark.parametrize("file", ["metadata.json", "changes-00001.jsonl.zst"])
def test_everything_is_read_where_a_step_is_damaged(tmp_path: Path, file: str) -> None:
    async def scenario(context: Context) -> None:
        first, *_, last = await make_steps(context, *VERSIONS)
        folder = await open_changes(context, build_changes_key("c_3", "c_2"))
        (folder.path / file).write_bytes(b"x")
        changed, progress = await compare(context, first, last)
        assert (changed, progress.read[-1]) == (["001", "003"], 100)

    play(tmp_path, scenario)


def test_a_step_that_does_not_name_all_is_not_believed(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first, _, third, last = await make_steps(context, *VERSIONS)
        key = build_changes_key("c_4", "c_3")
        await context.files.delete(key)
        other = await add_build(context, 9, ALL | {"001": 2, "002": 1})  # without what happened to 003
        await record_changes(
            context, key, await diff._draft(context, third, other, ignore_list_order=False), progress=Progress()
        )
        changed, progress = await compare(context, first, last)
        assert (changed, progress.read) == (["001", "003"], [2, *FULL])

    play(tmp_path, scenario)


def test_the_number_of_documents_is_checked_as_their_digest_is(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first = await add_build(context, 1, ALL)
        last = await add_build(context, 2, ALL | {"001": 1}, count=49)
        with pytest.raises(VerificationFailed, match="lead to 50 documents"):
            await compare(context, first, last)

    play(tmp_path, scenario)


@pytest.mark.parametrize(("most", "is_kept"), [(2, True), (1, False)])
def test_changes_are_kept_up_to_the_given_number(tmp_path: Path, most: int, is_kept: bool) -> None:
    async def scenario(context: Context) -> None:
        first, last = await add_build(context, 1, ALL), await add_build(context, 2, ALL | {"001": 1, "049": 1})
        draft = await diff._draft(context, first, last, ignore_list_order=False)
        metadata = await record_changes(context, "changes/x", draft, progress=Progress(), max_changes=most)
        assert isinstance(metadata, ChangesMetadata) is is_kept
        assert await context.files.exists("changes/x") is is_kept
        assert list(context.settings.home.rglob("changes-*")) == [] or is_kept

    play(tmp_path, scenario)


def test_ten_documents_are_named_for_a_key_and_all_are_counted(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first, last = await add_build(context, 1, ALL), await add_build(context, 2, dict.fromkeys(ALL, 1))
        folder = await ensure_changes(context, first, last, progress=Progress())
        told = folder.metadata.root_keys["v"].changed
        assert (told.documents, told.samples) == (50, sorted(ALL)[:10])

    play(tmp_path, scenario)


def test_the_uploads_of_one_source_are_counted_together(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        for name, count in (("a", 3), ("b", 4)):
            values = {"source": "s", "version": "7", "collection": "x", "digest": "0"}
            upload = Upload.model_validate({"id": f"s/{name}@1", "uploader": name, "count": count, **values})
            await context.state.put(upload.id, upload)
        first = await add_build(context, 1, ALL, uploads=["s/a@1"])
        last = await add_build(context, 2, ALL, uploads=["s/a@1", "s/b@1"])
        told = (await ensure_changes(context, first, last, progress=Progress())).metadata.sources["s"]
        assert told.old is not None
        assert told.new is not None
        assert (told.old.count, told.new.count, told.new.version) == (3, 7, "7")

    play(tmp_path, scenario)


def test_the_changes_of_a_build_are_written_under_their_lock(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first, last = await add_build(context, 1, ALL), await add_build(context, 2, ALL | {"001": 1})
        steps: list[ChangesFolder] = [
            await ensure_changes(context, first, await add_build(context, 3, ALL | {"001": 2}), progress=Progress())
        ]
        lock = f"files:{build_changes_key('c_2', 'c_1')}"
        held: list[str | None] = []

        async def look(*_: Any) -> None:
            held.append(await context.locks.holder(lock))

        await record_build_changes(context, first, last, candidates=steps, progress=look)
        assert held
        assert None not in held
        assert await context.locks.holder(lock) is None
        assert (await open_changes(context, "changes/c_2/c_1")).metadata.counts.update == 1

    play(tmp_path, scenario)
