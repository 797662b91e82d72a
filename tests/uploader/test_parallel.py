"""An upload in parts is the upload in one go: the same documents, mapping, warnings and errors, in the order of the tuples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sourcebook.errors import DocumentError, DuplicateId, ParserError, SourcebookError
from sourcebook.flow.messages import ParseArguments, UploadDump
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs import commands as job_commands
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.names import build_part_files_key
from sourcebook.hub.sources.model import Upload
from sourcebook.worker import execute_job
from sourcebook_uploader import parallel
from sourcebook_uploader.parse import ParserSpec
from sourcebook_uploader.parser_process import run_parsers

if TYPE_CHECKING:
    from support.uploads import Outcome, SourceBench

    from sourcebook.context import Context

PARSER = """
    import json
    from pathlib import Path

    HERE = Path(__file__).parent

    def jobs(self):
        groups = json.loads((HERE / "groups.json").read_text())
        return [(number, [self.data_folder + "/data.txt"]) for number in range(len(groups))]

    def load_data(number, paths, **kwargs):
        assert len(open(paths[0]).read().split()) == 2
        yield from json.loads((HERE / "groups.json").read_text())[number]
"""


def write(bench: SourceBench, groups: list[list[dict[str, Any]]], **uploader: Any) -> None:
    bench.write(PARSER, parallelizer="parser:jobs", **uploader)
    (bench.plugin / "groups.json").write_text(json.dumps(groups))


def upload_with(bench: SourceBench, parts: int) -> Outcome | SourcebookError:
    """Upload into a HOME of its own; return what that left, or its error."""
    bench.folder = bench.folder.parent / f"parts{parts}"
    bench.overrides["parts"] = parts
    try:
        return bench.upload_once()
    except SourcebookError as error:
        return error


def told(result: Outcome | SourcebookError) -> Any:
    """What must be the same."""
    if isinstance(result, SourcebookError):
        return type(result), result.details.get("id"), result.details.get("field"), result.details.get("examples")
    mapping = result.mapping
    record = (result.record.count, result.record.digest)
    return result.documents, record, mapping.inferred, mapping.counts, mapping.warnings, result.warnings


documents = st.fixed_dictionaries(
    {"_id": st.sampled_from("abcdefgh") | st.integers(0, 3)},
    optional={
        "v": st.integers(0, 3) | st.text("ab ", max_size=4),
        "o": st.dictionaries(st.sampled_from("xY"), st.integers()),
    },
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    groups=st.lists(st.lists(documents, max_size=5), min_size=2, max_size=4),
    on_duplicates=st.sampled_from(["ignore", "merge", "error"]),
    parts=st.integers(2, 5),
)
def test_parts_make_the_same_upload_as_one_go(
    bench: SourceBench,
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[list[dict[str, Any]]],
    on_duplicates: str,
    parts: int,
) -> None:
    bench = type(bench)(tmp_path_factory.mktemp("bench") / "bench")
    write(bench, groups, on_duplicates=on_duplicates)
    assert told(upload_with(bench, parts)) == told(upload_with(bench, 1))


def test_of_duplicates_the_first_tuple_has_the_first(bench: SourceBench) -> None:
    groups: list[list[dict[str, Any]]] = [[{"_id": "x", "from": number}, {"_id": f"y{number}"}] for number in range(5)]
    write(bench, groups, on_duplicates="ignore")
    one, many = upload_with(bench, 1), upload_with(bench, 3)
    assert told(one) == told(many)
    assert not isinstance(many, SourcebookError)
    assert many.documents[0] == {"_id": "x", "from": 0}


@pytest.mark.parametrize(
    ("groups", "kind"),
    [
        ([[{"_id": "a"}], [{"_id": "a"}]], DuplicateId),
        ([[{"_id": "a"}], [{"_id": True}]], DocumentError),
        ([[], []], ParserError),
    ],
    ids=["duplicates", "ids", "nothing"],
)
def test_errors_are_those_of_one_go(
    bench: SourceBench, groups: list[list[dict[str, Any]]], kind: type[Exception]
) -> None:
    write(bench, groups)
    one, many = upload_with(bench, 1), upload_with(bench, 2)
    assert type(one) is type(many) is kind
    assert told(one) == told(many)


A, B, BAD = {"_id": "a"}, {"_id": "b"}, {"name": "no id"}


@pytest.mark.parametrize(
    ("groups", "kind", "words"),
    [
        ([[A, A], [BAD]], DuplicateId, "'a' more than once (documents 1, 2)"),
        ([[BAD], [A, A]], DocumentError, "Document 1 has no _id"),
        ([[A], [A, BAD]], DuplicateId, "'a' more than once"),
        ([[A], [BAD, A]], DocumentError, "Document 1 has no _id"),
        ([[A], [B, A, A], [BAD]], DuplicateId, "'a' more than once (documents 2, 3)"),
        ([[A, B], [B], [BAD]], DuplicateId, "'b' more than once"),
        ([[A, A, BAD]], DuplicateId, "'a' more than once (documents 1, 2)"),
        ([[A, BAD, A]], DocumentError, "Document 2 has no _id"),
        ([[B, A, A, B]], DuplicateId, "'a' more than once (documents 2, 3)"),
    ],
)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_first_error_in_document_order_counts(
    bench: SourceBench, groups: list[list[dict[str, Any]]], kind: type[Exception], words: str, parts: int
) -> None:
    write(bench, groups)
    error = upload_with(bench, parts)
    assert type(error) is kind
    assert words in str(error)


def test_a_process_that_fails_first_waits_for_those_before_it(
    bench: SourceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    write(bench, [[A], [BAD]])
    text = (bench.plugin / "parser.py").read_text()
    meet = """
    import time
    if number == 1:
        (HERE / "second").touch()
        raise KeyError("second")
    while not (HERE / "second").exists():
        time.sleep(0.01)
    raise KeyError("first")
"""
    (bench.plugin / "parser.py").write_text(text.replace("    assert len", f"{meet}    assert len"))
    assert "KeyError: 'first'" in str(upload_with(bench, 1))


def test_an_exception_in_a_part_fails_the_upload_with_the_plugins_traceback(bench: SourceBench) -> None:
    write(bench, [[{"_id": "a"}], [{"_id": "b"}]])
    text = (bench.plugin / "parser.py").read_text()
    (bench.plugin / "parser.py").write_text(text + "    if number == 1:\n        raise KeyError('gene')\n")
    bench.overrides["parts"] = 2
    error = bench.upload_fails(ParserError)
    assert "KeyError: 'gene' after 1 document " in error.message
    assert "parser.py" in error.details["traceback"]
    assert bench.state().last_upload_errors["bench"]["code"] == "parser"


def test_a_job_in_parts_leaves_its_upload_and_nothing_else(bench: SourceBench) -> None:
    write(bench, [[{"_id": f"{group}{n}"} for n in range(20)] for group in range(5)])
    bench.overrides["parts"] = 3

    async def work(context: Context) -> None:
        job = await job_commands.submit(context, UploadDump(source="bench", uploader="bench"))
        await execute_job(context, job.id)
        ended = await job_answers.get_job(context, job.id)
        assert ended.state is JobState.SUCCEEDED, ended.error
        assert (ended.result or {})["count"] == 100
        parts = await context.state.find(Job, {"parent": job.id})
        groups = [ParseArguments.model_validate(part.command).arguments for part in parts]
        assert [[number for number, _ in group] for group in groups] == [[0], [1, 2], [3, 4]]
        assert [(part.kind, part.target, (part.result or {})["documents"]) for part in parts] == [
            ("parse", "bench/bench", count) for count in (20, 40, 40)
        ]
        assert await context.files.keys("parts") == []
        assert not list((context.settings.home / "scratch").glob("*"))
        (upload,) = await context.state.find(Upload)
        assert await context.documents.names() == [upload.collection]

    bench.run(work)


def test_a_part_that_died_after_it_was_published_is_not_parsed_again(
    bench: SourceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, [[{"_id": "a"}], [{"_id": "b"}]])
    bench.overrides["parts"] = 2
    parsed = []

    async def count(specs: Any, progress: Any) -> Any:
        parsed.append([spec.args[0] for spec in specs])
        return await run_parsers(specs, progress)

    monkeypatch.setattr(parallel, "run_parsers", count)

    async def work(context: Context) -> None:
        run = await bench.start(context)
        arguments = (context, run, make_spec(bench), tuples(bench), make_command(bench, run.id))
        results = await parallel.parse_tuples(*arguments)
        assert [result.documents for result in results] == [1, 1]
        (first, _) = await context.state.find(Job, {"parent": run.id})
        assert await context.files.exists(build_part_files_key(first.id))
        # As a worker leaves it that is killed before it notes the end.
        await context.state.put(first.id, first.model_copy(update={"state": JobState.QUEUED, "result": None}))
        assert await parallel.parse_tuples(*arguments) == results

    bench.run(work)
    assert parsed == [[0], [1]]


def make_spec(bench: SourceBench) -> Any:
    return ParserSpec(
        folder=str(bench.plugin), parser="parser:load_data", data_folder=data_folder(bench), scratch=str(bench.folder)
    )


def data_folder(bench: SourceBench) -> str:
    return str(bench.folder / "home" / "files" / "archive" / "bench" / "1")


def tuples(bench: SourceBench) -> list[Any]:
    return [[number, [f"{data_folder(bench)}/data.txt"]] for number in range(2)]


def make_command(bench: SourceBench, job_id: str, folder: str | None = None) -> ParseArguments:
    return ParseArguments(
        job=job_id,
        number=0,
        source="bench",
        uploader="bench",
        dump="bench@1",
        data_folder=folder or data_folder(bench),
        parser="parser:load_data",
        kwargs={},
        drop_nan=False,
        refuse_duplicates=True,
    )


def test_paths_below_the_dump_are_those_of_the_machine_that_parses(bench: SourceBench) -> None:
    write(bench, [[{"_id": "a"}], [{"_id": "b"}]])
    bench.overrides["parts"] = 2

    async def work(context: Context) -> None:
        run = await bench.start(context)
        elsewhere = [[number, ["/elsewhere/1/data.txt"]] for number in range(2)]
        command = make_command(bench, run.id, "/elsewhere/1")
        results = await parallel.parse_tuples(context, run, make_spec(bench), elsewhere, command)
        assert [result.documents for result in results] == [1, 1]

    bench.run(work)


def test_only_paths_of_the_dump_are_replaced() -> None:
    given_ = ["/old", "/old/a", "/older/a", "x/old", 5, None, {"k": ["/old/b"]}]
    assert parallel._replace_folder(given_, "/old", "/new") == [
        "/new",
        "/new/a",
        "/older/a",
        "x/old",
        5,
        None,
        {"k": ["/new/b"]},
    ]
