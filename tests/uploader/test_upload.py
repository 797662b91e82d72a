"""Uploads from end to end, with the embedded stores and a real parser process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sourcebook.backends.lmdb.writer import LmdbWriter
from sourcebook.errors import (
    DuplicateId,
    MappingError,
    MissingUpload,
    NotFound,
    ParserError,
)
from sourcebook.flow.messages import InspectUpload, UploadDump
from sourcebook.hub.builds.model import Build
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.sources.model import SourceState, Upload
from sourcebook.ports.documents import BATCH_BYTES
from sourcebook_uploader.tasks import inspect, upload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.uploads import SourceBench

    from sourcebook.context import Context
    from sourcebook.hub.documents.record import Record

THREE = """
    def load_data(data_folder):
        yield {"_id": "b", "n": 2}
        yield {"_id": "c", "n": 3}
        yield {"_id": "a", "n": 1}
"""


def test_documents_are_stored_in_id_order(bench: SourceBench) -> None:
    bench.write("""
        def load_data(data_folder):
            for line in open(f"{data_folder}/data.txt").read().split():
                yield {"_id": line, "size": len(line)}
            yield {"_id": "a", "name": "first of all"}
    """)
    outcome = bench.upload_once()
    assert outcome.documents == [
        {"_id": "a", "name": "first of all"},
        {"_id": "one", "size": 3},
        {"_id": "two", "size": 3},
    ]
    assert outcome.message.count == 3
    assert not outcome.message.unchanged
    assert outcome.record.version == "1"
    assert outcome.record.metadata == {"url": "https://example.org", "license": "CC0"}
    assert {key: spec["type"] for key, spec in (outcome.mapping.committed or {}).items()} == {
        "size": "integer",
        "name": "text",
    }
    assert outcome.mapping.counts == {"size": 2, "name": 1}
    assert outcome.warnings == []


@pytest.mark.parametrize(
    "body",
    [
        "return [{'_id': 'a', 'x': 1}]",
        "return {'a': {'x': 1}}",
        "return iter(({'_id': 'a', 'x': 1},))",
        "yield {'x': 1, '_id': 'a'}",
    ],
    ids=["list", "dict", "iterator", "generator"],
)
def test_a_parser_may_return_any_collection_of_documents(bench: SourceBench, body: str) -> None:
    bench.write(f"def load_data(data_folder):\n    {body}\n")
    assert bench.upload_once().documents == [{"_id": "a", "x": 1}]


def test_many_runs_are_merged_in_order(bench: SourceBench) -> None:
    bench.write(
        """
        def load_data(data_folder, count):
            for number in range(count):
                yield {"_id": f"{number * 7919 % count:05d}", "number": number, "filler": "x" * 50}
    """,
        parser_kwargs={"count": 4001},
    )
    outcome = bench.upload_once()
    assert [d["_id"] for d in outcome.documents] == [f"{n:05d}" for n in range(4001)]
    assert outcome.mapping.counts["number"] == 4001


def test_an_author_may_yield_the_same_dict_again(bench: SourceBench) -> None:
    bench.write("""
        def load_data(data_folder):
            document = {}
            for number in range(3):
                document["_id"] = number
                document["tags"] = (number,)
                yield document
                assert document == {"_id": number, "tags": (number,)}
    """)
    outcome = bench.upload_once()
    assert outcome.documents == [{"_id": str(n), "tags": [n]} for n in range(3)]
    assert len(outcome.warnings) == 1
    assert "number 0 as _id" in outcome.warnings[0]


def test_what_a_parser_prints_harms_nothing(bench: SourceBench) -> None:
    bench.write("""
        import os, sys, subprocess
        def load_data(data_folder):
            print("hello" * 100_000)
            os.write(1, b'{"kind": "error"}\\n')
            subprocess.run(["echo", "from a child"])
            yield {"_id": "a"}
    """)
    assert bench.upload_once().message.count == 1


# Duplicates


@pytest.mark.parametrize("far", [False, True], ids=["one_run", "two_runs"])
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("ignore", {"_id": "x", "v": [1], "o": {"a": 1}}),
        ("merge", {"_id": "x", "v": [1, 2], "o": {"a": [1, 2], "b": 3}}),
    ],
)
def test_duplicates_as_the_manifest_says(bench: SourceBench, policy: str, expected: dict[str, Any], far: bool) -> None:
    bench.write(
        f"""
        def load_data(data_folder):
            yield {{"_id": "x", "v": [1], "o": {{"a": 1}}}}
            for number in range({2000 if far else 2}):
                yield {{"_id": f"z{{number}}"}}
            yield {{"_id": "x", "v": [1, 2], "o": {{"a": 2, "b": 3}}}}
    """,
        on_duplicates=policy,
    )
    assert bench.upload_once().documents[0] == expected


def test_duplicates_in_different_runs_are_an_error(bench: SourceBench) -> None:
    bench.write("""
        def load_data(data_folder):
            for number in range(2000):
                yield {"_id": str(number)}
            yield {"_id": "7"}
    """)
    error = bench.upload_fails(DuplicateId)
    assert "_id '7' more than once" in error.message
    assert "on_duplicates" in error.message


# Options of the manifest


def test_nan_drop_leaves_keys_and_items_out(bench: SourceBench) -> None:
    bench.write(
        """
        def load_data(data_folder):
            nan = float("nan")
            yield {"_id": "x", "a": nan, "b": [1.5, nan, 2.5], "c": {"d": float("inf"), "e": 1}}
    """,
        nan="drop",
    )
    outcome = bench.upload_once()
    assert outcome.documents == [{"_id": "x", "b": [1.5, 2.5], "c": {"e": 1}}]
    assert outcome.mapping.counts == {"b": 2, "c": 1, "c.e": 1}


def test_a_parallelizer_gives_each_process_its_arguments(bench: SourceBench) -> None:
    bench.write(
        """
        def jobs(self):
            return [(number, self.data_folder) for number in range(3)]
        def load_data(number, folder):
            for n in range(number * 2, number * 2 + 2):
                yield {"_id": f"d{n}", "from": number, "lines": len(open(folder + "/data.txt").read().split())}
    """,
        parallelizer="parser:jobs",
    )
    outcome = bench.upload_once()
    assert [(d["_id"], d["from"], d["lines"]) for d in outcome.documents] == [(f"d{n}", n // 2, 2) for n in range(6)]
    assert outcome.mapping.counts == {"from": 6, "lines": 6}


def test_a_parallelizer_must_give_lists_of_arguments(bench: SourceBench) -> None:
    bench.write("def jobs(self):\n    return ['a']\ndef load_data(x):\n    return []\n", parallelizer="parser:jobs")
    assert "list of argument tuples" in bench.upload_fails(ParserError).message


def test_keylookup_is_warned_of(bench: SourceBench) -> None:
    bench.write(THREE, keylookup={"inputs": []})
    assert "keylookup" in bench.upload_once().warnings[0]


def test_one_failing_process_of_several_fails_the_upload(bench: SourceBench) -> None:
    bench.write(
        """
        def jobs(self):
            return [(1,), (0,)]
        def load_data(number):
            yield {"_id": str(1 / number)}
    """,
        parallelizer="parser:jobs",
    )
    assert "ZeroDivisionError" in bench.upload_fails(ParserError).message


def test_a_plugins_mapping_is_committed_at_every_upload(bench: SourceBench) -> None:
    parser = (
        THREE
        + """
    def get_mapping(cls):
        return {"n": {"type": "long", "copy_to": ["all"]}}
    """
    )
    bench.write(parser, mapping="parser:get_mapping")
    mapping = bench.upload_once().mapping
    assert mapping.committed == {"n": {"type": "long", "copy_to": "all"}}
    assert mapping.from_plugin

    async def again(context: Context) -> Mapping | None:
        await inspect(context, await bench.start(context), InspectUpload(source="bench", uploader="bench"))
        return await context.state.get(Mapping, "bench/bench")

    assert bench.run(again) == mapping
    bench.write(THREE)
    assert bench.upload_once().mapping.committed == {"n": {"type": "integer"}}


def test_a_wrong_mapping_of_a_plugin_fails_before_parsing(bench: SourceBench) -> None:
    bench.write(
        THREE + "    def get_mapping(cls):\n        return {'n': {'type': 'string'}}\n", mapping="parser:get_mapping"
    )
    assert "write keyword or text" in bench.upload_fails(MappingError).message


# What is current


def test_nothing_dumped_yet_says_what_to_do(bench: SourceBench) -> None:
    bench.write(THREE)
    with pytest.raises(MissingUpload, match="sourcebook dump bench"):
        bench.run(bench.upload, with_dump=False)


def test_an_unknown_uploader_is_named(bench: SourceBench) -> None:
    bench.write(THREE)

    async def start(context: Context) -> None:
        with pytest.raises(NotFound, match="no uploader 'other'; it has bench"):
            await upload(context, await bench.start(context), UploadDump(source="bench", uploader="other"))
        with pytest.raises(NotFound, match="no source 'nothing'"):
            await upload(context, await bench.start(context), UploadDump(source="nothing", uploader="nothing"))
        assert await context.state.get(SourceState, "nothing") is None

    bench.run(start)


def test_an_equal_upload_keeps_the_collection_and_takes_the_version(bench: SourceBench) -> None:
    bench.write(THREE)
    first = bench.upload_once()

    async def again(context: Context) -> None:
        await bench.make_dump(context, "2")
        second = await bench.upload(context)
        assert second.message.unchanged
        assert second.record.collection == first.record.collection
        assert second.record.version == "2"
        assert await context.documents.names() == [first.record.collection]
        forced = await bench.upload(context, force=True)
        assert not forced.message.unchanged
        assert await context.documents.names() == [forced.record.collection]

    bench.run(again)


@pytest.mark.parametrize("is_cut", [False, True], ids=["rotten", "cut"])
def test_an_equal_upload_replaces_a_collection_that_is_damaged(bench: SourceBench, is_cut: bool) -> None:
    bench.write(THREE)
    first = bench.upload_once()

    async def again(context: Context) -> None:
        path = context.settings.home / "documents" / first.record.collection / "data.mdb"
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if is_cut else data.replace(b'"n":2', b'"n":5'))
        second = await bench.upload(context)
        assert not second.message.unchanged
        assert second.documents == first.documents
        assert await context.documents.names() == [second.record.collection]

    bench.run(again)


def test_large_documents_are_written_in_batches_that_are_bounded_by_bytes(bench: SourceBench) -> None:
    bench.write("""
        def load_data(data_folder):
            for number in range(40):
                yield {"_id": f"{number:02}", "text": "x" * (1_000_000 if number % 3 else 10)}
    """)
    written: list[int] = []

    async def scenario(context: Context) -> None:
        write = LmdbWriter.write

        async def count(self: LmdbWriter, records: Sequence[Record]) -> None:
            written.append(sum(len(value) for _, value in records))
            await write(self, records)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LmdbWriter, "write", count)
            outcome = await bench.upload(context)
        assert len(outcome.documents) == 40

    bench.run(scenario)
    assert len(written) >= 4
    assert max(written) <= BATCH_BYTES


def test_a_changed_upload_replaces_the_collection(bench: SourceBench) -> None:
    bench.write(THREE)
    first = bench.upload_once()
    bench.write(THREE + "        yield {'_id': 'd', 'n': 4}\n")

    async def again(context: Context) -> None:
        second = await bench.upload(context)
        assert not second.message.unchanged
        assert second.message.count == 4
        assert await context.documents.names() == [second.record.collection]
        assert second.record.collection != first.record.collection

    bench.run(again)


def test_a_collection_that_a_build_serves_stays(bench: SourceBench) -> None:
    bench.write(THREE)
    first = bench.upload_once()
    bench.write(THREE + "        yield {'_id': 'd', 'n': 4}\n")

    async def again(context: Context) -> None:
        build = Build(
            name="b",
            config="c",
            doc_type="gene",
            collection=first.record.collection,
            linked=True,
            count=3,
            digest="",
            uploads=[],
        )
        await context.state.put("b", build)
        second = await bench.upload(context)
        assert await context.documents.names() == sorted([first.record.collection, second.record.collection])

    bench.run(again)


def test_a_failed_upload_keeps_the_last_good_one(bench: SourceBench) -> None:
    bench.write(THREE)
    first = bench.upload_once()
    bench.write("def load_data(data_folder):\n    return []\n")
    bench.upload_fails(ParserError)
    state = bench.state()
    assert state.uploads == {"bench": first.record.id}
    assert state.last_upload_errors["bench"]["code"] == "parser"
    bench.write(THREE)
    assert bench.upload_once().message.unchanged
    assert bench.state().last_upload_errors == {}


def test_the_same_job_twice_gives_the_same(bench: SourceBench) -> None:
    bench.write(THREE)

    async def twice(context: Context) -> None:
        first = await bench.upload(context, job_id="job1")
        second = await bench.upload(context, job_id="job1")
        assert second.message == first.message
        assert second.documents == first.documents
        # The job died after the collection was complete, before it was recorded.
        await context.state.delete(Upload, first.record.id)
        third = await bench.upload(context, job_id="job1")
        assert third.message == first.message
        assert third.documents == first.documents
        assert await context.documents.names() == [first.record.collection]

    bench.run(twice)


def test_warnings_are_told_once_for_each_kind(bench: SourceBench) -> None:
    bench.overrides["run_bytes"] = 1024
    bench.write(
        """
        def jobs(uploader):
            return [(1,), (2,)]

        def load_data(part):
            for number in range(100):
                yield {"_id": part * 1000 + number}
                yield {"_id": f"{part}x{number} "}
    """,
        parallelizer="parser:jobs",
    )
    number, padded = bench.upload_once().warnings
    assert number.startswith("Document 1 has the number 1000 as _id")
    assert padded == "_id '1x0 ' begins or ends with white space, so that nobody finds it: strip ids in the parser."


def test_an_upload_notes_the_code_that_made_it(bench: SourceBench) -> None:
    async def code(context: Context) -> str:
        found = await context.state.get(Upload, bench_state.uploads["bench"])
        assert found is not None
        return found.code

    codes = []
    for text in (THREE, THREE, THREE + "\n    # mended\n"):
        bench.write(text)
        bench.upload_once()
        bench_state = bench.state()
        codes.append(bench.run(code))
    assert codes[0] == codes[1] != codes[2]
    assert all(codes)
