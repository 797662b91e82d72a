"""A release by its changes: equal to a full one, chosen by a rule, verified, and harmless whatever goes wrong."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
import tantivy
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import CannotDerive, EngineUnavailable, IndexDamaged, VerificationFailed
from sourcebook.flow.messages import ApplyChanges, IndexReady
from sourcebook.hub.builds.commands import start_release
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.model import ChangeKind
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases.answers import get_api, read_changed_documents, read_notes
from sourcebook.hub.releases.commands import rollback, set_note
from sourcebook.hub.releases.model import Release
from sourcebook.hub.releases.notes import render_notes
from sourcebook.language.requests import SearchRequest
from sourcebook.worker import JobRun
from sourcebook_indexer import patch
from sourcebook_indexer.patch import apply_changes
from sourcebook_indexer.rollover import build_index_name
from sourcebook_indexer.touched import has_path

Content = dict[str, dict[str, Any]]
MAPPING: dict[str, Any] = {"word": {"type": "keyword"}, "number": {"type": "integer"}}


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    run_in_context(home, scenario, batch_documents=7)


def make_content(size: int = 40, changes: Mapping[str, dict[str, Any] | None] = MappingProxyType({})) -> Content:
    """Documents id000, id001 ...; `changes` adds or replaces some, None takes one out."""
    content: Content = {f"id{n:03}": {"word": "same", "number": n} for n in range(size)}
    for key, fields in changes.items():
        if fields is None:
            content.pop(key)
        else:
            content[key] = fields
    return content


async def add_build(context: Context, name: str, content: Content, **fields: Any) -> Build:
    collection = f"build~c~{name}"
    async with context.documents.create(collection) as writer:
        await writer.write(sorted(make_record({"_id": key, **values}) for key, values in content.items()))
        info = await writer.commit()
    described = {"src": {"s": {"version": name, "stats": {"s": info.count}}}, "build_version": name}
    base = {"name": name, "config": "c", "doc_type": "thing", "collection": collection, "uploads": []}
    counted = {"count": info.count, "digest": info.digest, "mapping": MAPPING, "metadata": described}
    build = Build.model_validate({**base, **counted, **fields})
    await context.state.put(name, build)
    return build


async def apply(context: Context, build: str, mode: str = "auto", job_id: str = "") -> IndexReady:
    job = Job(id=job_id or f"job{build}", kind="apply", target=build, lock="index:c")
    await context.state.put(job.id, job)
    try:
        command = ApplyChanges.model_validate({"build": build, "api": "c", "mode": mode})
        return await apply_changes(context, JobRun(context, job), command)
    finally:
        await context.state.delete(Job, job.id)


async def served(context: Context, query: str = "*") -> tuple[str, list[str]]:
    release = await context.state.get(Release, (await get_api(context, "c")).release or "")
    assert release
    result = await context.search.search(release.index, SearchRequest(query, size=1000, in_id_order=True))
    return release.name, [hit.id for hit in result.hits]


async def start_with(context: Context, content: Content, **fields: Any) -> None:
    await add_build(context, "c_1", content, **fields)
    ready = await apply(context, "c_1")
    assert (ready.kind, ready.reason) == ("full", "API 'c' serves nothing yet")


CHANGES: dict[str, dict[str, Any] | None] = {"id003": {"word": "new"}, "id0105": {"word": "new"}, "id020": None}


def test_what_changed_is_added_replaced_and_taken_out(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        new = make_content(changes=CHANGES)
        await add_build(context, "c_2", new)
        ready = await apply(context, "c_2")
        assert (ready.kind, ready.reason) == ("incremental", "3 of 40 documents changed (7.50%)")
        assert await served(context) == ("c_2", sorted(new))
        assert (await served(context, "word:new"))[1] == ["id003", "id0105"]
        release = await context.state.get(Release, "c_2")
        assert release
        assert (release.kind, release.base, release.changes) == ("incremental", "c_1", "changes/c_2/c_1")
        await rollback(context, "c")
        assert await served(context) == ("c_1", sorted(make_content()))
        await rollback(context, "c", "c_2")
        assert (await served(context, "word:new"))[1] == ["id003", "id0105"]

    play(tmp_path, scenario)


def test_releases_by_changes_follow_each_other_and_a_full_one(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        for number in range(2, 6):
            new = make_content(40 + number, {f"id{number:03}": {"word": f"w{number}"}})
            await add_build(context, f"c_{number}", new)
            job = await start_release(context, f"c_{number}", mode="full" if number == 4 else "auto")
            assert job.kind == ("index" if number == 4 else "apply")
            assert (await apply(context, f"c_{number}", job_id=job.id)).kind == "incremental"
            assert await served(context) == (f"c_{number}", sorted(new))
            assert (await served(context, f"word:w{number}"))[1] == [f"id{number:03}"]
        assert len(await context.search.names()) == context.settings.keep_indices

    play(tmp_path, scenario)


def test_new_fields_are_found_also_in_documents_that_did_not_change(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        # The mapping did not have `code` yet, though two documents have it.
        old = make_content(
            changes={"id001": {"word": "same", "more": [{"code": "A"}]}, "id002": {"more.code": "B", "word": "x"}}
        )
        await start_with(context, old)
        mapping = {**MAPPING, "more": {"properties": {"code": {"type": "keyword"}}}}
        await add_build(context, "c_2", {**old, "id003": {"more": {"code": "C"}}}, mapping=mapping)
        ready = await apply(context, "c_2")
        assert (ready.kind, (await served(context, "more.code:*"))[1]) == ("incremental", ["id001", "id002", "id003"])
        await add_build(context, "c_3", {**old, "id003": {"more": {"code": "C"}}})
        assert (await apply(context, "c_3")).kind == "incremental"
        assert (await served(context, "word:x OR more.code:C"))[1] == ["id002"]

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("a.b", {"a": [{"c": 1}, {"b": 0}]}, True),
        ("a.b.c", {"a.b": {"c": "x"}}, True),
        ("a.b", {"a": {"b": None}}, False),
        ("a.b", {"a": {"b": []}}, False),
        ("a.b", {"b": 1, "a": 2}, False),
    ],
)
def test_a_path_leads_through_lists_and_dotted_keys(path: str, value: Any, expected: bool) -> None:
    assert has_path(value, path.split(".")) is expected


@pytest.mark.parametrize(
    ("content", "fields", "reason"),
    [
        (make_content(100), {}, "60 of 100 documents changed (60.00%), more than 30%"),
        (make_content(), {"mapping": {**MAPPING, "number": {"type": "keyword"}}}, "'number' was integer and is keyword now"),
        (make_content(), {"mapping": {**MAPPING, "word": {"type": "keyword", "copy_to": "all"}}}, "is indexed differently"),
        (make_content(), {"index_settings": {"shards": 3}}, "the settings of the index changed"),
        (make_content(), {"doc_type": "other"}, "documents of type 'thing'"),
        (make_content(), {"mapping": {**MAPPING, **{f"k{n}": {"type": "keyword"} for n in range(99)}}}, "no spare field"),
    ],
    ids=["share", "type", "copy", "settings", "doc_type", "spare"],
)  # fmt: skip
def test_where_changes_do_not_lead_or_cost_more_it_is_a_full_release(
    tmp_path: Path, content: Content, fields: dict[str, Any], reason: str
) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        await add_build(context, "c_2", content, **fields)
        if "share" not in reason and "more than" not in reason:
            with pytest.raises(CannotDerive, match=r"in full|--mode full"):
                await apply(context, "c_2", "incremental")
            assert (await served(context))[0] == "c_1"
        ready = await apply(context, "c_2")
        assert ready.kind == "full"
        assert reason in ready.reason
        assert await served(context) == ("c_2", sorted(content))

    play(tmp_path, scenario)


def test_more_changes_than_the_rule_likes_are_applied_when_asked_for(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        await add_build(context, "c_2", make_content(100))
        job = await start_release(context, "c_2", mode="incremental")
        assert (await apply(context, "c_2", "incremental", job.id)).kind == "incremental"
        assert await served(context) == ("c_2", sorted(make_content(100)))

    play(tmp_path, scenario)


async def tamper(context: Context) -> None:
    release = await context.state.get(Release, "c_1")
    assert release
    folder = context.settings.home / "search" / release.index
    writer = tantivy.Index.open(str(folder)).writer(15_000_000, 1)
    writer.delete_documents_by_term("_id", "id007")
    writer.commit()
    writer.wait_merging_threads()


def test_an_index_that_someone_changed_is_said_and_mended_by_a_full_release(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        await tamper(context)
        await add_build(context, "c_2", make_content(changes=CHANGES))
        with pytest.raises(IndexDamaged, match=r"changed since it was written.*--mode full"):
            await start_release(context, "c_2", mode="incremental")
        with pytest.raises(IndexDamaged):
            await apply(context, "c_2", "incremental")
        job = await start_release(context, "c_2")
        assert job.kind == "index"
        ready = await apply(context, "c_2", job_id=job.id)
        assert ready.kind == "full"
        assert "changed since it was written" in ready.reason
        assert await served(context) == ("c_2", sorted(make_content(changes=CHANGES)))

    play(tmp_path, scenario)


def test_an_index_with_another_digest_than_its_build_is_said(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        release = await context.state.get(Release, "c_1")
        assert release
        manifest = context.settings.home / "search" / release.index / "sourcebook.json"
        manifest.write_bytes(orjson.dumps({**orjson.loads(manifest.read_bytes()), "digest": "0" * 32}))
        await add_build(context, "c_2", make_content(changes=CHANGES))
        with pytest.raises(IndexDamaged, match=f"digest {'0' * 32}"):
            await apply(context, "c_2", "incremental")
        assert (await apply(context, "c_2")).kind == "full"

    play(tmp_path, scenario)


@pytest.mark.parametrize("what", ["build", "documents", "index"])
def test_a_base_that_is_gone_makes_it_a_full_release(tmp_path: Path, what: str) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        release = await context.state.get(Release, "c_1")
        assert release
        if what == "build":
            await context.state.delete(Build, "c_1")
        elif what == "documents":
            await context.documents.drop(release.collection)
        else:
            await context.search.drop(release.index)
        await add_build(context, "c_2", make_content(changes=CHANGES))
        with pytest.raises(CannotDerive, match="is gone"):
            await apply(context, "c_2", "incremental")
        ready = await apply(context, "c_2")
        assert (ready.kind, "is gone" in ready.reason) == ("full", True)
        assert await served(context) == ("c_2", sorted(make_content(changes=CHANGES)))

    play(tmp_path, scenario)


def test_a_result_that_is_not_the_build_is_discarded(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        build = await add_build(context, "c_2", make_content(changes=CHANGES))
        await context.state.put("c_2", build.model_copy(update={"digest": "1" * 32}))
        with pytest.raises(VerificationFailed):
            await apply(context, "c_2", "incremental")
        assert await served(context) == ("c_1", sorted(make_content()))
        assert len(await context.search.names()) == 1

    play(tmp_path, scenario)


@pytest.mark.parametrize("lost", ["id0105", "id003"], ids=["a new document is not found", "the digest is another"])
def test_changes_that_do_not_lead_to_the_build_make_it_a_full_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    def read_most(context: Context, build: Build, ids: list[str]) -> AsyncIterator[list[Record]]:
        return read_records(context, build, [item for item in ids if item != lost])

    read_records = patch._read_records
    monkeypatch.setattr(patch, "_read_records", read_most)

    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        await add_build(context, "c_2", make_content(changes=CHANGES))
        with pytest.raises(VerificationFailed, match="release the build in full"):
            await apply(context, "c_2", "incremental")
        assert await served(context) == ("c_1", sorted(make_content()))
        ready = await apply(context, "c_2", job_id="again")
        assert ready.kind == "full"
        assert "Index c~c_2~again" in ready.reason
        assert "The API keeps its release" not in ready.reason
        assert await served(context) == ("c_2", sorted(make_content(changes=CHANGES)))
        assert len(await context.search.names()) == 2

    play(tmp_path, scenario)


def test_a_damaged_changes_file_is_made_again(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        await add_build(context, "c_2", make_content(changes=CHANGES))
        await apply(context, "c_2")
        await rollback(context, "c")
        folder = await context.files.local_folder("changes/c_2/c_1")
        (folder / "changes-00001.jsonl.zst").write_bytes(b"damaged")
        assert (await apply(context, "c_2", job_id="again")).kind == "incremental"
        assert await served(context) == ("c_2_r2", sorted(make_content(changes=CHANGES)))

    play(tmp_path, scenario)


def test_a_full_disk_leaves_the_api_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        await add_build(context, "c_2", make_content(changes=CHANGES))
        monkeypatch.setattr("sourcebook.backends.tantivy.patch.publish_folder", refuse)
        with pytest.raises(EngineUnavailable, match="disk full"):
            await apply(context, "c_2")
        assert await served(context) == ("c_1", sorted(make_content()))
        monkeypatch.undo()
        assert (await apply(context, "c_2")).kind == "incremental"

    play(tmp_path, scenario)


@pytest.mark.parametrize("moment", ["commit", "record", "switch"])
def test_a_job_that_died_goes_on_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    class Died(BaseException):
        pass

    async def die(*_: object) -> None:
        raise Died

    names = {"commit": "index.verify_index", "record": "index.switch_api", "switch": "index.drop_unused_indices"}

    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        await add_build(context, "c_2", make_content(changes=CHANGES))
        monkeypatch.setattr(f"sourcebook_indexer.{names[moment]}", die)
        with pytest.raises(Died):
            await apply(context, "c_2", "incremental")
        assert (await served(context))[0] == ("c_2" if moment == "switch" else "c_1")
        monkeypatch.undo()
        ready = await apply(context, "c_2", "incremental")
        assert (ready.release, ready.kind) == ("c_2", "incremental")
        assert await served(context) == ("c_2", sorted(make_content(changes=CHANGES)))
        assert await context.search.count(build_index_name("c", "c_2", "jobc_2")) == 40

    play(tmp_path, scenario)


def test_the_notes_say_what_changed(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_with(context, make_content())
        notes = await read_notes(context, "c_1")
        assert (notes.documents, notes.previous, notes.count) == (None, None, 40)
        assert "all          40" in render_notes(notes, "text")
        mapping = {**MAPPING, "extra": {"type": "text"}}
        await add_build(context, "c_2", make_content(changes={**CHANGES, "id004": {"extra": "words"}}), mapping=mapping)
        await apply(context, "c_2")
        await set_note(context, "c_2", "Corrected by hand | see *there*")
        notes = await read_notes(context, "c_2")
        assert notes.documents is not None
        assert (notes.documents.add, notes.documents.update, notes.documents.delete) == (1, 2, 1)
        text = render_notes(notes, "text")
        for part in ("Incremental release (4 of 40", "Corrected by hand | see", "added  extra  text", "id003"):
            assert part in text, text
        markdown = render_notes(notes, "markdown")
        assert "> Corrected by hand \\| see \\*there\\*" in markdown
        assert "| added | extra | text |" in markdown
        assert orjson.loads(render_notes(notes, "json"))["mapping"]["added"] == {"extra": {"type": "text"}}
        page = await read_changed_documents(context, "c_2", kind=ChangeKind.UPDATE, page=2, size=1)
        assert (page.total, [change.id for change in page.changes]) == (2, ["id004"])

    play(tmp_path, scenario)
