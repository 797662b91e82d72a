"""An incremental build is a full build, to the byte; where it cannot be one, everything is merged, and the record says why."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import Conflict, EngineUnavailable, InvalidRequest, NotFound
from sourcebook.flow.messages import BuildDocuments, DiffBuilds, DiffReady
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.changes.answers import open_upload_changes
from sourcebook.hub.changes.commands import start_diff
from sourcebook.hub.changes.folder import open_changes, read_changes
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.names import build_changes_key
from sourcebook.hub.sources.model import Plugin, SourceState, Upload
from sourcebook.worker import JobRun
from sourcebook_builder.build import incremental, merge
from sourcebook_builder.build.build import build_documents
from sourcebook_builder.diff import diff_builds
from sourcebook_uploader.changes import describe_changes, drop_older_changes

Documents = dict[str, dict[str, Any]]


def play(home: Path, scenario: Callable[[Context], Awaitable[None]], **options: Any) -> None:
    run_in_context(home, scenario, **{"batch_documents": 3, **options})


async def make_run(context: Context, job_id: str) -> JobRun:
    job = Job(id=job_id, kind="x", target="x", lock="x")
    await context.state.put(job_id, job)
    return JobRun(context, job)


async def add_upload(context: Context, source: str, documents: Documents, *, merges: bool = False) -> Upload:
    """What the upload stage does once the parser is done."""
    state = await context.state.get(SourceState, source)
    base = await context.state.get(Upload, state.uploads[source]) if state else None
    number = int(base.id.partition("@")[2]) + 1 if base else 1
    collection = f"upload~{source}.{source}~{number}"
    async with context.documents.create(collection) as writer:
        await writer.write(sorted(make_record({"_id": key, **body}) for key, body in documents.items()))
        info = await writer.commit()
    upload = Upload(
        id=f"{source}/{source}@{number}",
        source=source,
        uploader=source,
        version=f"v{number}",
        collection=collection,
        count=info.count,
        digest=info.digest,
        merge=merges,
    )
    upload = await describe_changes(context, await make_run(context, f"{source}{number}"), upload, base)
    await context.state.put(upload.id, upload)
    await context.state.put(source, SourceState(name=source, uploads={source: upload.id}))
    await drop_older_changes(context, upload)
    if base is not None:
        await context.documents.drop(base.collection)
    else:
        await context.state.put(source, Plugin(name=source, folder=f"plugins/{source}"))
        name = f"{source}/{source}"
        await context.state.put(name, Mapping(name=name, committed={"v": {"type": "keyword"}}))
    return upload


async def build(context: Context, name: str, mode: str = "auto", **config: Any) -> Build:
    await context.state.put("c", BuildConfig.model_validate({"name": "c", "doc_type": "thing", **config}))
    run = await make_run(context, f"job{name}")
    command = BuildDocuments.model_validate({"config": "c", "build": name, "mode": mode})
    ready = await build_documents(context, run, command)
    made = await context.state.get(Build, ready.build)
    assert made is not None
    assert (ready.incremental, ready.reason) == (made.incremental, made.reason)
    assert made.reason
    return made


async def read(context: Context, made: Build) -> list[Record]:
    return [record async for batch in context.documents.scan(made.collection) for record in batch]


async def assert_same(context: Context, left: Build, right: Build) -> None:
    assert (left.count, left.digest) == (right.count, right.digest)
    assert await read(context, left) == await read(context, right)
    assert (left.dropped, left.dropped_examples) == (right.dropped, right.dropped_examples)
    assert left.mapping == right.mapping
    dates = ("build_date", "build_version")
    metadata = [{key: value for key, value in made.metadata.items() if key not in dates} for made in (left, right)]
    assert metadata[0] == metadata[1]


ids = st.sampled_from([f"i{number:02}" for number in range(14)] + ["x" * 511, "x" * 512])
bodies = st.dictionaries(st.sampled_from(["v", "A", "w"]), st.sampled_from([1, True, [1], [2], {"p": 1}, {"q": "é\b"}]))
documents = st.dictionaries(ids, bodies, max_size=14)
steps = st.lists(st.tuples(st.sampled_from("abc"), documents, st.sets(ids, max_size=4), st.booleans()), max_size=5)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    first=st.fixed_dictionaries(dict.fromkeys("abc", documents)),
    steps=steps,
    root=st.sampled_from([[], ["a"], ["a", "b"], ["!c"], ["!a"]]),
    merging=st.sets(st.sampled_from("abc")),
    examples=st.integers(1, 3),
)
def test_an_incremental_build_is_a_full_build(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    first: dict[str, Documents],
    steps: list[tuple[str, Documents, set[str], bool]],
    root: list[str],
    merging: set[str],
    examples: int,
) -> None:
    async def scenario(context: Context) -> None:
        now = {name: {"seed": {"v": 1}, **found} for name, found in first.items()}
        for name, found in now.items():
            await add_upload(context, name, found, merges=name in merging)
        config: dict[str, Any] = {"sources": ["*"], "root": root}
        await build(context, "c_0", **config)
        for number, (name, more, gone, builds_now) in enumerate(steps, 1):
            now[name] = {key: body for key, body in (now[name] | more).items() if key not in gone}
            await add_upload(context, name, now[name], merges=name in merging)
            if builds_now or number == len(steps):
                quick = await build(context, f"c_{number}", mode="incremental", **config)
                assert quick.incremental
                # A full build beside it must not become the base of the next one, nor drop the other's collection.
                full = await build(context, f"c_{number}f", mode="full", **config)
                assert not full.incremental
                await assert_same(context, quick, full)
                await context.state.delete(Build, full.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "MAX_EXAMPLES", examples)
        patch.setattr(incremental, "MAX_EXAMPLES", examples)
        play(tmp_path_factory.mktemp("home"), scenario)


MANY: Documents = {f"id{number:03}": {"v": str(number)} for number in range(200)}


async def start(context: Context, **config: Any) -> Build:
    await add_upload(context, "a", MANY)
    await add_upload(context, "b", {key: {"w": 1} for key in list(MANY)[::2]})
    return await build(context, "c_1", sources=["a", "b"], **config)


def test_a_small_change_is_built_incrementally_and_its_diff_is_there(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first = await start(context)
        assert (first.incremental, first.reason) == (False, "There is no earlier build.")
        await add_upload(context, "a", {**MANY, "id007": {"v": "new"}, "more": {"v": "x"}})
        second = await build(context, "c_2", sources=["a", "b"])
        assert (second.incremental, second.base) == (True, "c_1")
        assert second.reason == "2 of 301 documents changed since c_1 (0.7%); the others are carried over."
        folder = await open_changes(context, build_changes_key("c_2", "c_1"))
        assert [(change.op.value, change.id) for change in read_changes(folder.path)] == [
            ("update", "id007"),
            ("add", "more"),
        ]
        assert folder.metadata.sources["a"].new is not None
        assert folder.metadata.sources["a"].new.model_dump() == {"version": "v2", "count": 201}

    play(tmp_path, scenario)


async def change_much(context: Context) -> dict[str, Any]:
    await add_upload(context, "a", {key: {"v": "new"} for key in MANY})
    return {}


async def add_source(context: Context) -> dict[str, Any]:
    await add_upload(context, "d", {"id000": {"d": 1}})
    return {"sources": ["a", "b", "d"]}


async def remove_source(_: Context) -> dict[str, Any]:
    return {"sources": ["a"]}


async def change_root(_: Context) -> dict[str, Any]:
    return {"root": ["a"]}


async def merge_deeply(context: Context) -> dict[str, Any]:
    await add_upload(context, "b", {key: {"w": 1} for key in list(MANY)[::2]}, merges=True)
    return {}


async def change_rules(context: Context) -> dict[str, Any]:
    def old(made: Build) -> Build:
        return made.model_copy(update={"merge_rules": 0})

    await context.state.update(Build, "c_1", old)
    return {}


async def lose_base(context: Context) -> dict[str, Any]:
    made = await context.state.get(Build, "c_1")
    assert made
    await context.documents.drop(made.collection)
    return {}


async def exchange_base(context: Context) -> dict[str, Any]:
    made = await context.state.get(Build, "c_1")
    assert made
    await context.documents.drop(made.collection)
    async with context.documents.create(made.collection) as writer:
        await writer.write([make_record({"_id": "other"})])
        await writer.commit()
    return {}


async def rot_base(context: Context) -> dict[str, Any]:
    await change_a_little(context)
    made = await context.state.get(Build, "c_1")
    assert made is not None
    path = context.settings.home / "documents" / made.collection / "data.mdb"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"v":', b'"w":', 1))
    assert path.read_bytes() != data
    return {}


async def remove_base(context: Context) -> dict[str, Any]:
    await context.state.delete(Build, "c_1")
    return {}


async def change_a_little(context: Context) -> Path:
    upload = await add_upload(context, "a", {**MANY, "id007": {"v": "new"}})
    assert upload.changes_key
    return await context.files.local_folder(upload.changes_key)


async def lose_changes(context: Context) -> dict[str, Any]:
    (await change_a_little(context)).joinpath("changes-00001.jsonl.zst").unlink()
    return {}


async def damage_changes(context: Context) -> dict[str, Any]:
    (await change_a_little(context)).joinpath("changes-00001.jsonl.zst").write_bytes(b"x")
    return {}


async def damage_metadata(context: Context) -> dict[str, Any]:
    (await change_a_little(context)).joinpath("metadata.json").write_bytes(b"{")
    return {}


async def lose_folder(context: Context) -> dict[str, Any]:
    upload = await add_upload(context, "a", {**MANY, "id007": {"v": "new"}})
    await context.files.delete(upload.changes_key or "")
    return {}


async def change_mapping(context: Context) -> dict[str, Any]:
    await context.state.put("a/a", Mapping(name="a/a", committed={"v": {"type": "text"}, "z": {"type": "date"}}))
    await change_a_little(context)
    return {}


Event = Callable[[Context], Awaitable[dict[str, Any]]]
EVENTS: list[tuple[Event, str]] = [
    (change_much, "above 15% a full build is cheaper"),
    (add_source, "the sources, their order, the root or a merge setting changed"),
    (remove_source, "the sources, their order, the root or a merge setting changed"),
    (change_root, "the sources, their order, the root or a merge setting changed"),
    (merge_deeply, "the sources, their order, the root or a merge setting changed"),
    (change_rules, "merged by another version of Sourcebook"),
    (lose_base, "The documents of c_1 are gone"),
    (exchange_base, "are not what its record says"),
    (rot_base, "The documents of c_1 are damaged"),
    (remove_base, "There is no earlier build"),
    (lose_changes, "changes of a source are damaged"),
    (damage_changes, "changes of a source are damaged"),
    (damage_metadata, "The changes of a/a are damaged"),
    (lose_folder, "What changed in a/a since c_1 is not kept any more"),
    (change_mapping, "the others are carried over"),
]


@pytest.mark.parametrize(("event", "reason"), EVENTS, ids=[event.__name__ for event, _ in EVENTS])
def test_whatever_changed_the_build_is_right_and_says_how_it_was_made(
    tmp_path: Path, event: Event, reason: str
) -> None:
    async def scenario(context: Context) -> None:
        await start(context)
        config = {"sources": ["a", "b"], **(await event(context))}
        made = await build(context, "c_2", **config)
        assert reason in made.reason
        assert made.incremental == ("carried over" in reason)
        await assert_same(context, made, await build(context, "c_3", mode="full", **config))

    play(tmp_path, scenario)


def test_incremental_that_cannot_be_is_refused(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", MANY)
        with pytest.raises(Conflict, match=r"cannot be built incrementally: There is no earlier build.*in full once"):
            await build(context, "c_1", mode="incremental", sources=["a"])

    play(tmp_path, scenario)


def test_an_upload_that_changes_too_much_or_nothing_is_told_apart(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        many = {f"id{number:05}": {"v": number} for number in range(4000)}
        first = await add_upload(context, "a", many)
        assert (first.base, first.changes) == (None, None)
        second = await add_upload(context, "a", {key: {"v": -1} for key in many})
        assert (second.base, second.changes, second.changes_key) == (None, None, None)
        assert await context.files.keys("changes") == []
        third = await add_upload(context, "a", {**{key: {"v": -1} for key in many}, "z": {}})
        assert third.changes
        assert (third.base, third.changes.add, third.changes.total) == (second.id, 1, 1)
        same = third.model_copy(update={"id": "a/a@9", "base": None, "changes": None, "changes_key": None})
        described = await describe_changes(context, await make_run(context, "same"), same, third)
        assert described.changes
        assert (described.base, described.changes.total, described.changes_key) == (third.id, 0, None)
        # Its documents are gone: what changed since then cannot be known.
        await context.documents.drop(third.collection)
        lost = third.model_copy(update={"id": "a/a@10", "collection": "upload~a.a~2"})
        assert (await describe_changes(context, await make_run(context, "lost"), lost, third)).id == "a/a@10"

    play(tmp_path, scenario, batch_documents=1000)


def test_two_uploads_are_compared_by_what_was_kept_or_by_their_documents(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first = await add_upload(context, "a", MANY)
        second = await add_upload(context, "a", {**MANY, "id007": {"v": "new"}})
        other = await add_upload(context, "b", MANY)

        async def compare(old: str, new: str) -> DiffReady:
            return await diff_builds(context, await make_run(context, "diff"), DiffBuilds(old=old, new=new))

        job = await start_diff(context, first.id, second.id)
        assert (job.kind, job.command["new"]) == ("diff", second.id)
        ready = await compare(first.id, second.id)  # the documents of the first one are gone
        assert (ready.changes, ready.update, ready.add) == (second.changes_key, 1, 0)
        assert (await open_upload_changes(context, second.id)).metadata.counts.update == 1
        third = second.model_copy(update={"id": "a/a@3", "base": None, "collection": "upload~a.a~3"})
        async with context.documents.create(third.collection) as writer:
            await writer.write(sorted(make_record({"_id": key, **body}) for key, body in MANY.items()))
            info = await writer.commit()
        third = third.model_copy(update={"digest": info.digest, "changes_key": None})
        await context.state.put(third.id, third)
        made = await compare(second.id, third.id)
        assert (made.changes, made.update) == ("changes/uploads/a/a/3~2", 1)
        assert await compare(second.id, third.id) == made
        with pytest.raises(NotFound, match="has no changes"):
            await open_upload_changes(context, third.id)
        with pytest.raises(NotFound, match="documents of upload 'a/a@1' are gone"):
            await compare(first.id, third.id)
        with pytest.raises(InvalidRequest, match="two uploads of one uploader"):
            await compare(first.id, other.id)
        with pytest.raises(NotFound, match="no upload 'a/a@9'"):
            await compare("a/a@9", first.id)

    play(tmp_path, scenario)


def test_only_the_changes_that_builds_follow_back_are_kept(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start(context)
        for number in range(25):
            await add_upload(context, "a", {**MANY, "n": {"v": number}})
        assert len(await context.files.keys("changes/uploads/a")) == 20
        made = await build(context, "c_2", sources=["a", "b"])
        assert "What changed in a/a since c_1 is not kept any more" in made.reason

    play(tmp_path, scenario)


class KilledError(BaseException):
    """What `kill -9` looks like from inside: nothing is tidied up on purpose."""


def kill_at(calls: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return `work`, which dies at its n-th call."""
    left = [calls]

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        return await work(*arguments, **options)

    return wrapped


@pytest.mark.parametrize("calls", range(4))
@pytest.mark.parametrize("place", ["get_many", "publish", "put"], ids=str)
def test_a_build_that_dies_anywhere_is_built_when_it_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, calls: int
) -> None:
    async def scenario(context: Context) -> None:
        await start(context, root=["a"])
        config: dict[str, Any] = {"sources": ["a", "b"], "root": ["a"]}
        await change_a_little(context)
        owner: Any = {"get_many": context.documents, "publish": context.files, "put": context.state}[place]
        with monkeypatch.context() as patch:
            patch.setattr(owner, place, kill_at(calls, getattr(owner, place)))
            try:
                await build(context, "c_2", **config)
            except KilledError:
                assert await context.state.get(Build, "c_2") is None
        made = await build(context, "c_2", **config)
        assert made.incremental
        await assert_same(context, made, await build(context, "c_3", mode="full", **config))

    play(tmp_path, scenario)


def test_a_full_disk_is_said_and_the_next_try_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(context: Context) -> None:
        await start(context)
        await change_a_little(context)

        def no_space(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.copy_file_range", no_space)
            with pytest.raises(EngineUnavailable, match="No space left on device"):
                await build(context, "c_2", sources=["a", "b"])
        assert (await build(context, "c_2", sources=["a", "b"])).incremental

    play(tmp_path, scenario)


def test_the_base_may_be_dropped_while_its_documents_are_carried_over(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        first = await start(context)
        await change_a_little(context)
        second = await build(context, "c_2", sources=["a", "b"])
        await context.documents.drop(first.collection)
        await change_a_little(context)
        third = await build(context, "c_3", sources=["a", "b"])
        assert third.base == "c_2"
        await assert_same(context, third, second.model_copy(update={"metadata": third.metadata}))

    play(tmp_path, scenario)


def test_sums_of_what_was_changed_by_several_uploads_are_one_change(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start(context)
        for value in ("x", "y", "z"):
            await add_upload(context, "a", {**MANY, "id007": {"v": value}, f"new{value}": {"v": value}})
        made = await build(context, "c_2", sources=["a", "b"])
        folder = await open_changes(context, build_changes_key("c_2", "c_1"))
        assert made.incremental
        assert [change.id for change in read_changes(folder.path)] == ["id007", "newz"]

    play(tmp_path, scenario)
