"""Diffs: what they find, that they lead from one build to the other, and that they survive whatever happens to them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.context import run_in_context
from support.locks import block_until_renewed

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, InvalidRequest, NotFound, VerificationFailed
from sourcebook.flow.messages import DiffBuilds, DiffReady
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes import commands as diff
from sourcebook.hub.changes.commands import ensure_changes, start_diff
from sourcebook.hub.changes.folder import ChangesFolder, ChangesWriter, apply_change, open_changes, read_changes
from sourcebook.hub.changes.model import Change
from sourcebook.hub.documents.record import Record, make_record, record_key
from sourcebook.hub.jobs.model import Job
from sourcebook.worker import JobRun
from sourcebook_builder.diff import diff_builds

Documents = dict[str, dict[str, Any]]


def play(home: Path, scenario: Callable[[Context], Awaitable[None]], **options: Any) -> None:
    run_in_context(home, scenario, **{"batch_documents": 2, **options})


def as_records(documents: Documents) -> list[Record]:
    return sorted(make_record({"_id": key, **body}) for key, body in documents.items())


async def add_build(context: Context, name: str, documents: Documents, **fields: Any) -> Build:
    collection = f"build~c~{name}"
    async with context.documents.create(collection) as writer:
        await writer.write(as_records(documents))
        info = await writer.commit()
    build = Build(
        name=name,
        doc_type="thing",
        collection=collection,
        count=info.count,
        digest=info.digest,
        uploads=[],
        **{"config": "c", **fields},
    )
    await context.state.put(name, build)
    return build


async def compare(context: Context, old: str = "c_1", new: str = "c_2", **options: Any) -> DiffReady:
    job = Job(id="job", kind="diff", target=new, lock="diff")
    await context.state.put(job.id, job)
    return await diff_builds(context, JobRun(context, job), DiffBuilds(old=old, new=new, **options))


async def read(context: Context, ready: DiffReady) -> tuple[ChangesFolder, list[Change]]:
    folder = await open_changes(context, ready.changes)
    return folder, list(read_changes(folder.path))


LONG = {f"key{number}": number for number in range(30)}
OLD: Documents = {"a": {"v": 1}, "b": {"v": [1, 2], "same": LONG}, "c": {"x": "y", "same": LONG}, "d": {"only": "old"}}
NEW: Documents = {"b": {"v": [2, 1], "same": LONG}, "c": {"X": "y", "same": LONG}, "d": {"new": 1}, "e": {"v": 1}}


def test_a_diff_says_what_was_added_updated_and_deleted(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", OLD, mapping={"v": {"type": "integer"}, "x": {"type": "text"}})
        await add_build(context, "c_2", NEW, mapping={"v": {"type": "long"}, "X": {"type": "text"}})
        ready = await compare(context)
        assert (ready.add, ready.update, ready.delete) == (1, 3, 1)
        folder, changes = await read(context, ready)
        assert [(change.op.value, change.id) for change in changes] == [
            ("delete", "a"),
            ("update", "b"),
            ("update", "c"),
            ("update", "d"),
            ("add", "e"),
        ]
        assert changes[1].patch == [
            {"op": "replace", "path": "/v/0", "value": 2},
            {"op": "replace", "path": "/v/1", "value": 1},
        ]
        assert changes[3].doc == {"_id": "d", "new": 1}  # shorter than its patch
        told = folder.metadata
        assert (told.old.count, told.new.count, told.counts.total) == (4, 4, 5)
        assert (list(told.mapping.added), told.mapping.removed, list(told.mapping.changed)) == (["X"], ["x"], ["v"])
        assert told.root_keys["v"].changed.samples == ["b"]
        assert told.root_keys["x"].removed.samples == told.root_keys["X"].added.samples == ["c"]
        assert told.new_mapping == {"v": {"type": "long"}, "X": {"type": "text"}}

    play(tmp_path, scenario)


def test_the_order_of_lists_counts_unless_told_otherwise(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", OLD)
        await add_build(context, "c_2", NEW)
        strict, loose = await compare(context), await compare(context, ignore_list_order=True)
        assert (strict.update, loose.update) == (3, 2)
        assert strict.changes != loose.changes
        folder, changes = await read(context, loose)
        assert folder.metadata.ignore_list_order
        assert [change.id for change in changes] == ["a", "c", "d", "e"]

    play(tmp_path, scenario)


documents: st.SearchStrategy[Documents] = st.dictionaries(
    st.sampled_from("abcdefghij"),
    st.dictionaries(st.sampled_from(["v", "A", "~/"]), st.sampled_from([1, True, 1.0, [1], [1, 2], {"x": []}, None])),
)


@settings(max_examples=40, deadline=None)
@given(old=documents, new=documents, size=st.integers(1, 4))
def test_the_changes_lead_from_old_to_new(
    tmp_path_factory: pytest.TempPathFactory, old: Documents, new: Documents, size: int
) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", old)
        await add_build(context, "c_2", new)
        _, changes = await read(context, await compare(context))
        result = dict(as_records(old))
        for change in changes:
            key = record_key(change.id)
            record = apply_change(change, result[key][16:] if key in result else None)
            result.pop(key, None)
            result |= dict([record] if record else [])
        assert sorted(result.items()) == as_records(new)
        assert [record_key(change.id) for change in changes] == sorted(record_key(change.id) for change in changes)

    play(tmp_path_factory.mktemp("home"), scenario, batch_documents=size)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first = await add_build(context, "c_1", OLD)
        await add_build(context, "d_1", OLD, config="d")
        await add_build(context, "c_2", NEW)
        for old, new in (("c_1", "d_1"), ("c_1", "c_1")):
            with pytest.raises(InvalidRequest, match="two builds of one configuration"):
                await compare(context, old, new)
            with pytest.raises(InvalidRequest):
                await start_diff(context, old, new)
        with pytest.raises(NotFound, match="'c_0'"):
            await compare(context, "c_0", "c_2")
        job = await start_diff(context, "c_1", "c_2")
        assert (job.kind, job.target) == ("diff", "c_2")
        await context.documents.drop(first.collection)
        with pytest.raises(NotFound, match="documents of build 'c_1' are gone"):
            await compare(context)

    play(tmp_path, scenario)


def test_a_collection_that_is_not_what_its_record_says_is_noticed(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", OLD)
        build = await add_build(context, "c_2", NEW)
        await context.documents.drop(build.collection)
        async with context.documents.create(build.collection) as writer:
            await writer.write(as_records({**NEW, "b": {"v": 0}}))
            await writer.commit()
        with pytest.raises(VerificationFailed, match="is not what its record says"):
            await compare(context)
        assert await context.files.keys("changes") == []

    play(tmp_path, scenario)


def test_a_damaged_folder_is_made_again(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", OLD)
        await add_build(context, "c_2", NEW)
        ready = await compare(context)
        folder, expected = await read(context, ready)
        made_at = folder.metadata.created_at
        assert (await read(context, await compare(context)))[0].metadata.created_at == made_at
        for damage in ("changes-00001.jsonl.zst", "metadata.json"):
            (folder.path / damage).write_bytes(b"x")
            assert (await read(context, await compare(context)))[1] == expected
            (folder.path / damage).unlink()
            assert (await read(context, await compare(context)))[1] == expected

    play(tmp_path, scenario)


def test_a_try_that_died_harms_nothing(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", OLD)
        await add_build(context, "c_2", NEW)
        left = await context.files.staging("changes/c_2/c_1")
        (left / "changes-00007.jsonl.zst").write_bytes(b"half")
        ready = await compare(context)
        folder, _ = await read(context, ready)
        assert sorted(path.name for path in folder.path.iterdir()) == ["changes-00001.jsonl.zst", "metadata.json"]

    play(tmp_path, scenario)


def test_a_full_disk_leaves_nothing_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(ChangesWriter):
        def write(self, *_: Any) -> None:
            raise OSError(28, "No space left on device")

    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", OLD)
        await add_build(context, "c_2", NEW)
        with monkeypatch.context() as patch:
            patch.setattr(diff, "ChangesWriter", FullDisk)
            with pytest.raises(EngineUnavailable, match=r"No space left on device.*Is the disk full"):
                await compare(context)
        assert await context.files.keys("changes") == []
        assert (await compare(context)).add == 1

    play(tmp_path, scenario)


def test_two_that_want_the_same_diff_at_once_get_one(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", OLD)
        await add_build(context, "c_2", NEW)
        first, second = await asyncio.gather(compare(context), compare(context))
        assert first == second
        assert len((await read(context, first))[1]) == 5

    play(tmp_path, scenario)


def test_the_lock_of_a_diff_is_renewed_while_documents_are_compared_on_the_event_loop(tmp_path: Path) -> None:
    ttl = timedelta(seconds=1)

    async def scenario(context: Context) -> None:
        old, new = await add_build(context, "c_1", OLD), await add_build(context, "c_2", NEW)
        steps: list[str] = []

        async def progress(step: str, *_: Any) -> None:
            if not steps:
                block_until_renewed(tmp_path, "files:changes/c_2/c_1", ttl)
            steps.append(step)

        await ensure_changes(context, old, new, progress=progress)
        assert "compare" in steps
        assert await context.locks.holder("files:changes/c_2/c_1") is None

    play(tmp_path, scenario, lock_ttl=ttl)


def test_a_long_diff_is_written_to_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", {})
        await add_build(context, "c_2", {f"{number:04}": LONG for number in range(200)})
        folder, changes = await read(context, await compare(context))
        assert len(folder.metadata.files) > 5
        assert [change.id for change in changes] == [f"{number:04}" for number in range(200)]

    small = ChangesWriter
    monkeypatch.setattr(diff, "ChangesWriter", lambda folder: small(folder, file_bytes=5000))
    play(tmp_path, scenario, batch_documents=50)
