"""Parsers that raise, crash, eat memory, never end or are cancelled: one upload fails, nothing is left running."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from sourcebook.backends.lmdb.writer import LmdbWriter
from sourcebook.errors import (
    Cancelled,
    DocumentError,
    ManifestError,
    ParserError,
    PluginKilled,
)
from sourcebook.flow.messages import UploadDump
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs import commands as job_commands
from sourcebook.hub.sources.model import Upload
from sourcebook.worker import execute_job
from sourcebook_uploader.tasks import upload

if TYPE_CHECKING:
    from support.uploads import SourceBench

    from sourcebook.context import Context

THREE = """
    def load_data(data_folder):
        yield {"_id": "b", "n": 2}
        yield {"_id": "c", "n": 3}
        yield {"_id": "a", "n": 1}
"""


def test_an_exception_names_the_document_before_it_and_the_plugins_frames(bench: SourceBench) -> None:
    bench.write("""
        def load_data(data_folder):
            for number in range(2000):
                yield {"_id": str(number)}
                if number == 999:
                    raise KeyError("gene")
    """)
    error = bench.upload_fails(ParserError)
    assert "KeyError: 'gene' after 1,000 documents (the last _id was '999')" in error.message
    assert "parser.py" in error.details["traceback"]
    assert "sourcebook_uploader" not in error.details["traceback"]
    assert bench.state().last_upload_errors["bench"]["code"] == "parser"


def test_a_bad_document_fails_the_upload(bench: SourceBench) -> None:
    bench.write("def load_data(data_folder):\n    yield {'_id': 'x'}\n    yield {'_id': 'y', 'a': [float('nan')]}\n")
    error = bench.upload_fails(DocumentError)
    assert "Document 2 (_id 'y'): a[0] is nan" in error.message
    assert (error.details["id"], error.details["path"]) == ("y", "a[0]")
    assert bench.state().uploads == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return", "returned a NoneType"),
        ("return 5", "returned a int"),
        ("return 'abc'", "returned a str"),
        ("return []", "yielded no documents"),
        ("return iter(())", "yielded no documents"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("import os; yield {'_id': '1'}; os._exit(0)", "exit code 0 after"),
        ("import os; yield {'_id': '1'}; os.kill(os.getpid(), 11)", "signal SIGSEGV after"),
        ("x = [bytes(1000) for _ in range(10**6)]; yield {'_id': '1'}", "needs more memory than the limit of 256 MiB"),
    ],
)
def test_a_parser_that_gives_nothing_fails(bench: SourceBench, body: str, expected: str) -> None:
    bench.overrides["parser_memory_bytes"] = 256 * 1024**2
    bench.write(f"def load_data(data_folder):\n    {body}\n")
    assert expected in bench.upload_fails(ParserError).message


def test_an_error_about_a_huge_key_is_cut(bench: SourceBench) -> None:
    bench.write("def load_data(data_folder):\n    yield {'_id': 'x', 'k' * 3_000_000: {'a': b''}}\n")
    error = bench.upload_fails(DocumentError)
    assert error.message.startswith("Document 1 (_id 'x'): kkk")
    assert len(error.message) == len(error.details["path"]) == 20_000


def test_a_missing_function_names_the_nearest(bench: SourceBench) -> None:
    bench.write("def load_dta(data_folder):\n    return []\n")
    assert "load_dta" in bench.upload_fails(ManifestError).message


@pytest.mark.parametrize(
    ("signature", "kwargs", "words"),
    [
        ("()", {}, "load_data() (parser.py, line 2) must take one argument: too many"),
        ("(a, b)", {}, "load_data(a, b) (parser.py, line 2) must take one argument: missing"),
        ("(a)", {"limit": 5}, "must take one argument, and limit by name: got an unexpected keyword argument 'limit'"),
    ],
)
def test_a_wrong_signature_is_told_without_a_traceback_of_ours(
    bench: SourceBench, signature: str, kwargs: dict[str, int], words: str
) -> None:
    bench.write(f"\ndef load_data{signature}:\n    return []\n", parser_kwargs=kwargs)
    error = bench.upload_fails(ParserError)
    assert words in error.message
    assert "traceback" not in error.details


def test_a_syntax_error_begins_at_the_authors_line(bench: SourceBench) -> None:
    bench.write("def load_data(folder)\n    return []\n")
    first, *rest = bench.upload_fails(ParserError).details["traceback"].splitlines()
    assert first.strip() == f'File "{bench.plugin}/parser.py", line 1'
    assert rest[-1] == "SyntaxError: expected ':'"


def test_what_a_parser_prints_is_kept_with_the_job(bench: SourceBench) -> None:
    bench.write("""
        print("imported")

        def load_data(folder):
            for number in range(3000):
                print(f"line {number} \N{SNOWMAN}")
                yield {"_id": str(number)}
    """)

    async def work(context: Context) -> str:
        job = await job_commands.submit(context, UploadDump(source="bench", uploader="bench"))
        await execute_job(context, job.id)
        return (await job_answers.get_job(context, job.id)).output

    output = bench.run(work)
    assert output.startswith("imported\nline 0 \N{SNOWMAN}\nline 1 ")
    assert output.endswith("line 2999 \N{SNOWMAN}\n")
    assert "characters left out ..." in output
    assert len(output) < 20_000
    assert "\ufffd" not in output


def test_a_crash_keeps_the_end_of_the_output(bench: SourceBench) -> None:
    bench.write("""
        import os, sys
        def load_data(data_folder):
            print("the last words", file=sys.stderr)
            sys.stderr.flush()
            os._exit(3)
    """)
    error = bench.upload_fails(ParserError)
    assert "exit code 3" in error.message
    assert "the last words" in error.details["output"]


def test_a_parser_that_never_ends_is_killed_with_what_it_started(bench: SourceBench) -> None:
    pids = bench.folder / "pids"
    bench.write(f"""
        import os, subprocess, time
        def load_data(data_folder):
            yield {{"_id": "a"}}
            child = subprocess.Popen(["sleep", "60"])
            with open({str(pids)!r} + ".new", "w") as file:
                file.write(f"{{os.getpid()}} {{child.pid}}")
            os.rename({str(pids)!r} + ".new", {str(pids)!r})
            while True:
                time.sleep(0.01)
    """)

    async def cancel(context: Context) -> None:
        run = await bench.start(context)
        task = asyncio.create_task(upload(context, run, UploadDump(source="bench", uploader="bench")))
        while not pids.exists():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not list((context.settings.home / "scratch" / run.id).iterdir())

    bench.run(cancel)
    assert all(ends_soon(int(pid)) for pid in pids.read_text().split())


def ends_soon(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_cancel_while_writing_leaves_nothing(bench: SourceBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(THREE)
    started = threading.Event()

    def write(_writer: LmdbWriter, _records: object) -> None:
        started.set()
        time.sleep(0.2)

    monkeypatch.setattr(LmdbWriter, "_write", write)

    async def cancel(context: Context) -> None:
        run = await bench.start(context)
        task = asyncio.create_task(upload(context, run, UploadDump(source="bench", uploader="bench")))
        await asyncio.to_thread(started.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await context.documents.names() == []
        assert await context.state.find(Upload) == []

    bench.run(cancel)


def test_a_parser_dies_with_the_worker(bench: SourceBench) -> None:
    pid_file = bench.folder / "pid"
    (bench.plugin / "parser.py").write_text(
        dedent(f"""
        import os, time
        def load_data(data_folder):
            with open({str(pid_file)!r} + ".new", "w") as file:
                file.write(str(os.getpid()))
            os.rename({str(pid_file)!r} + ".new", {str(pid_file)!r})
            time.sleep(60)
            yield {{"_id": "a"}}
        """)
    )
    script = dedent("""
        import asyncio, sys
        from sourcebook_uploader.parse import ParserSpec
        from sourcebook_uploader.parser_process import run_parsers
        async def listen(documents):
            pass
        folder, scratch = sys.argv[1:]
        spec = ParserSpec(folder=folder, parser="parser:load_data", data_folder=folder, scratch=scratch)
        asyncio.run(run_parsers([spec], listen))
    """)
    command = [sys.executable, "-c", script, str(bench.plugin), str(bench.folder)]
    with subprocess.Popen(command) as worker:
        while not pid_file.exists():
            assert worker.poll() is None
            time.sleep(0.02)
        worker.kill()
    assert ends_soon(int(pid_file.read_text()))


def test_what_progress_raises_ends_the_parser(bench: SourceBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("""
        import time
        def load_data(data_folder):
            number = 0
            while True:
                number += 1
                yield {"_id": str(number)}
                time.sleep(0.01)
    """)

    async def refuse(*_arguments: object) -> None:
        raise Cancelled("Someone cancelled.")

    async def cancel(context: Context) -> None:
        run = await bench.start(context)
        monkeypatch.setattr(run, "progress", refuse)
        with pytest.raises(Cancelled):
            await upload(context, run, UploadDump(source="bench", uploader="bench"))

    bench.run(cancel)
    assert bench.state().last_upload_errors == {}


def test_a_process_left_behind_does_not_hold_the_upload(bench: SourceBench) -> None:
    bench.write("""
        import subprocess
        def load_data(data_folder):
            yield {"_id": "a"}
            subprocess.Popen(["sleep", "60"])
    """)
    started = time.monotonic()
    assert bench.upload_once().message.count == 1
    assert time.monotonic() - started < 10


def test_a_parser_that_was_killed_from_outside_is_tried_again(bench: SourceBench) -> None:
    bench.write("""
        import os, pathlib
        def load_data(data_folder):
            yield {"_id": "a"}
            tried = pathlib.Path(__file__).with_name("tried")
            if not tried.exists():
                tried.touch()
                os.kill(os.getpid(), 9)
    """)

    with pytest.raises(PluginKilled, match="killed from outside"):
        bench.upload_once()
    assert bench.state().last_upload_errors["bench"]["code"] == "plugin_killed"
    bench.upload_once()
    assert bench.state().last_upload_errors == {}
