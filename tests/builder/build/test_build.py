"""Builds: order, root rules, mappings, metadata, and what a build refuses."""

import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, MappingError, MissingUpload, NotFound, StoreDamaged, VerificationFailed
from sourcebook.flow.messages import BuildDocuments, BuildReady
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.documents.record import make_record, read_document
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.mappings.model import Mapping, Properties
from sourcebook.hub.sources.model import Dump, Plugin, SourceState, Upload
from sourcebook.ports.documents import BATCH_BYTES
from sourcebook.worker import JobRun
from sourcebook_builder.build.build import build_documents

KEYWORD = {"type": "keyword"}


def play(home: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    run_in_context(home, scenario, batch_documents=2)


async def add_upload(
    context: Context,
    name: str,
    docs: dict[str, dict[str, Any]],
    mapping: Properties | None = None,
    *,
    merge: bool = False,
) -> None:
    source, _, uploader = name.partition("/")
    uploader = uploader or source
    collection = f"upload~{source}.{uploader}~1"
    async with context.documents.create(collection) as writer:
        await writer.write(sorted(make_record({"_id": key, **body}) for key, body in docs.items()))
        info = await writer.commit()
    upload = Upload(
        id=f"{source}/{uploader}@1",
        source=source,
        uploader=uploader,
        version="2024",
        collection=collection,
        count=info.count,
        digest=info.digest,
        merge=merge,
        metadata={"license": "CC0", "license_url": "https://example.org/cc0"},
    )
    await context.state.put(upload.id, upload)
    await context.state.insert(source, Plugin(name=source, folder=f"plugins/{source}"))
    committed = {"v": KEYWORD} if mapping is None else mapping
    full_name = f"{source}/{uploader}"
    await context.state.put(full_name, Mapping(name=full_name, committed=committed))

    def switch(state: SourceState) -> SourceState:
        return state.model_copy(update={"uploads": {**state.uploads, uploader: upload.id}})

    await context.state.update(SourceState, source, switch, default=SourceState(name=source))


async def build(context: Context, name: str = "c_1", **config: Any) -> BuildReady:
    settled = BuildConfig.model_validate({"name": "c", "doc_type": "thing", **config})
    await context.state.put("c", settled)
    job = Job(id=f"job{name}", kind="build", target="c", lock="build:c")
    await context.state.put(job.id, job)
    return await build_documents(context, JobRun(context, job), BuildDocuments(config="c", build=name))


async def documents_of(context: Context, ready: BuildReady) -> list[dict[str, Any]]:
    made = await context.state.get(Build, ready.build)
    assert made
    return [read_document(record) async for batch in context.documents.scan(made.collection) for record in batch]


def test_root_sources_come_first_then_the_others_each_by_name(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "b", {"1": {"v": "b"}, "2": {"v": "b"}})
        await add_upload(context, "a", {"1": {"v": "a"}, "3": {"v": "a"}})
        await add_upload(context, "c", {"1": {"v": "c"}})
        ready = await build(context, sources=["c", "b", "a"], root=["c", "b"])
        assert await documents_of(context, ready) == [{"_id": "1", "v": "a"}, {"_id": "2", "v": "b"}]
        assert ready.dropped == {"a/a": 1}

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("root", "ids"),
    [([], "123"), (["a"], "13"), (["!a"], "12"), (["a/a"], "13"), (["?"], "123"), (["!a", "b"], "12")],
    ids=["all", "one", "all but one", "an upload", "a pattern", "both kinds"],
)
def test_root_rules_say_who_creates_ids(tmp_path: Path, root: list[str], ids: str) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {}, "3": {}})
        await add_upload(context, "b", {"1": {}, "2": {}})
        found = await documents_of(context, await build(context, sources=["a", "b"], root=root))
        assert "".join(item["_id"] for item in found) == ids

    play(tmp_path, scenario)


def test_sources_are_named_by_source_upload_or_pattern(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "s/one", {"1": {}})
        await add_upload(context, "s/two", {"2": {}})
        await add_upload(context, "t", {"3": {}})
        for number, (sources, ids) in enumerate(
            [(["s"], "12"), (["s/one", "t"], "13"), (["*"], "123"), (["s/t*", "s"], "12")]
        ):
            found = await documents_of(context, await build(context, f"c_{number}", sources=sources))
            assert "".join(item["_id"] for item in found) == ids

    play(tmp_path, scenario)


def test_an_uploader_may_ask_for_the_deep_merge(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        mapping = {"o": {"properties": {"x": {"type": "long"}, "y": {"type": "long"}}}}
        await add_upload(context, "a", {"1": {"o": {"x": 1}}}, mapping)
        await add_upload(context, "b", {"1": {"o": {"y": 2}}}, mapping, merge=True)
        assert await documents_of(context, await build(context, sources=["a", "b"])) == [
            {"_id": "1", "o": {"x": 1, "y": 2}}
        ]

    play(tmp_path, scenario)


def test_the_link_builder_copies_nothing(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {"v": "x"}})
        ready = await build(context, sources=["a"], builder="link")
        made = await context.state.get(Build, ready.build)
        assert made
        assert (made.collection, made.linked, made.count) == ("upload~a.a~1", True, 1)
        assert await context.documents.names() == ["upload~a.a~1"]
        await add_upload(context, "b", {"1": {}})
        with pytest.raises(InvalidRequest, match="a/a, b/b"):
            await build(context, "c_2", sources=["a", "b"], builder="link")

    play(tmp_path, scenario)


def test_metadata_names_sources_versions_and_counts(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {"v": "x"}})
        ready = await build(context, "c_2024", sources=["a"], _meta={"note": "ours"})
        made = await context.state.get(Build, ready.build)
        assert made
        meta = made.metadata
        assert (meta["biothing_type"], meta["build_version"], meta["stats"]) == ("thing", "2024", {"total": 1})
        assert meta["src"]["a"]["version"] == "2024"
        assert meta["src"]["a"]["stats"] == {"a": 1}
        assert meta["src"]["a"]["license_url"] == "https://example.org/cc0"
        assert (meta["note"], meta["_root_keys"]) == ("ours", {"v": ["a/a"]})

    play(tmp_path, scenario)


def test_a_source_without_upload_is_named(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {}})
        await context.state.put("b", Plugin(name="b", folder="plugins/b"))
        failed = SourceState(name="b", last_upload_errors={"b": {"code": "parser", "message": "raised"}})
        await context.state.put("b", failed)
        with pytest.raises(MissingUpload, match="b/b"):
            await build(context, sources=["a", "b"])
        with pytest.raises(MissingUpload, match="unknown"):
            await build(context, sources=["a", "unknown"])
        with pytest.raises(MissingUpload, match="a/other"):
            await build(context, sources=["a/other"])
        assert await context.state.find(Build) == []

    play(tmp_path, scenario)


def test_a_mapping_conflict_names_field_sources_and_types(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {"v": 1}}, {"v": {"type": "integer"}})
        await add_upload(context, "b", {"1": {"v": {"x": "y"}}}, {"v": {"properties": {"x": KEYWORD}}})
        with pytest.raises(MappingError, match=r"'v' is integer in a/a and object in b/b") as caught:
            await build(context, sources=["a", "b"])
        assert caught.value.details == {"field": "v", "sources": ["a/a", "b/b"], "types": ["integer", "object"]}

    play(tmp_path, scenario)


def test_a_configuration_narrows_what_is_searched_by_default(tmp_path: Path) -> None:
    mapping = {"v": {**KEYWORD, "copy_to": "all"}, "w": {**KEYWORD, "copy_to": "all"}, "x": KEYWORD}

    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {"v": "1"}}, mapping)
        for number, (chosen, expected) in enumerate([(None, {"v", "w"}), (["w"], {"w"}), ([], set()), (["x"], {"x"})]):
            ready = await build(context, f"c_{number}", sources=["a"], search_by_default=chosen)
            made = await context.state.get(Build, ready.build)
            assert made is not None
            assert {path for path, spec in made.mapping.items() if "copy_to" in spec} == expected
        with pytest.raises(MappingError, match=r"search_by_default names 'vv'.*did you mean 'v'"):
            await build(context, "c_9", sources=["a"], search_by_default=["vv"])
        assert await context.state.get(Build, "c_9") is None

    play(tmp_path, scenario)


def test_a_mapping_that_nobody_committed_is_asked_for(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {}})
        await context.state.put("a/a", Mapping(name="a/a", inferred={"v": KEYWORD}))
        with pytest.raises(MappingError, match="sourcebook mapping commit a/a"):
            await build(context, sources=["a"])

    play(tmp_path, scenario)


def test_a_build_without_documents_or_roots_fails(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {})
        await add_upload(context, "b", {"1": {}})
        with pytest.raises(VerificationFailed, match="no documents"):
            await build(context, sources=["a", "b"], root=["a"])
        with pytest.raises(InvalidRequest, match="no source that may create ids"):
            await build(context, sources=["a"], root=["!a"])
        job = Job(kind="build", target="x", lock="build:x")
        with pytest.raises(NotFound):
            await build_documents(context, JobRun(context, job), BuildDocuments(config="x", build="x_1"))

    play(tmp_path, scenario)


def test_a_build_that_runs_twice_is_built_once(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {}})
        first = await build(context, sources=["a"])
        assert await build(context, sources=["a"]) == first
        assert len(await context.documents.names()) == 2

    play(tmp_path, scenario)


def test_the_collection_of_a_build_that_died_before_its_record_is_removed(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {}})
        async with context.documents.create("build~c~dead") as writer:
            await writer.commit()
        async with context.documents.create("build~other~1") as writer:
            await writer.commit()
        await build(context, sources=["a"])
        assert await context.documents.names() == ["build~c~jobc_1", "build~other~1", "upload~a.a~1"]

    play(tmp_path, scenario)


@pytest.mark.parametrize("builder", ["merge", "link"])
def test_a_damaged_upload_is_not_built_from(tmp_path: Path, builder: str) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {f"id{number}": {"v": "x"} for number in range(20)})
        path = tmp_path / "documents" / "upload~a.a~1" / "data.mdb"
        path.write_bytes(path.read_bytes().replace(b'"v":"x"', b'"v":"y"', 1))
        with pytest.raises(StoreDamaged, match=r"a/a are damaged.*sourcebook upload a/a"):
            await build(context, sources=["a"], builder=builder)
        assert await context.state.find(Build) == []

    play(tmp_path, scenario)


@pytest.mark.parametrize("merge", [False, True], ids=["overwrite", "deep"])
def test_large_documents_are_held_a_few_at_a_time(tmp_path: Path, merge: bool) -> None:
    large = {f"id{number:02}": {"v": "x" * 1_000_000} for number in range(48)}

    async def scenario(context: Context) -> None:
        for name in ("a", "b"):
            await add_upload(context, name, {key: {f"v{name}": body["v"]} for key, body in large.items()}, merge=merge)
        tracemalloc.start()
        try:
            ready = await build(context, sources=["a", "b"])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert ready.count == len(large)
        assert peak < 10 * BATCH_BYTES  # blocks of 96 MB would be held, and as much again that is merged of them

    run_in_context(tmp_path, scenario)


@pytest.mark.parametrize("behind", ["warn", "refuse"])
def test_a_source_whose_newest_download_is_not_uploaded_is_warned_of_or_refused(tmp_path: Path, behind: str) -> None:
    async def scenario(context: Context) -> None:
        await add_upload(context, "a", {"1": {"v": "x"}})
        plugin = tmp_path / "a"
        plugin.mkdir()
        (plugin / "manifest.json").write_text(
            '{"dumper": {"data_url": "a.tsv"}, "uploader": {"parser": "parser:load"}}'
        )
        await context.state.put("a", Plugin(name="a", folder=str(plugin)))
        newer = Dump(id="a@2025", source="a", version="2025", folder="x", files=[])
        await context.state.put(newer.id, newer)
        news = {"dump": newer.id, "last_upload_errors": {"a": {"code": "parser", "message": "a bug."}}}
        await context.state.update(SourceState, "a", lambda state: state.model_copy(update=news))
        await context.state.put("c", BuildConfig(name="c", doc_type="t", sources=["a"]))
        job = Job(kind="build", target="c", lock="build:c")
        await context.state.put(job.id, job)
        run = JobRun(context, job)
        told = "version 2025 is downloaded, its documents are of version 2024; the last upload failed: a bug"
        if behind == "refuse":
            with pytest.raises(MissingUpload, match=f"a/a: {told}"):
                await build_documents(context, run, BuildDocuments(config="c", build="c_1"))
        else:
            await build_documents(context, run, BuildDocuments(config="c", build="c_1"))
            assert run.warnings == [f"a/a is built as it was: {told}. `sourcebook dump a` uploads it."]

    run_in_context(tmp_path / "home", scenario, behind_uploads=behind)
