"""Starts parser processes (`parse`), listens to their reports, and ends them and all they started, however that goes."""

import asyncio
import codecs
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from sourcebook.errors import ManifestError, ParserError, PluginKilled, SourcebookError
from sourcebook.hub.documents.record import Json, say_documents
from sourcebook.logging import get_logger
from sourcebook.sdk.process import describe_exit, kill_group, plugin_environment, tell_output, was_killed
from sourcebook_uploader.parse import REPORTED_ERRORS, ParserSpec
from sourcebook_uploader.runs import Run

log = get_logger(__name__)

_LINE_MAX_BYTES = 1024 * 1024
_LOGGED_BYTES = 64 * 1024  # of what a plugin prints; the rest is counted, and its end kept for errors
_KEPT_BYTES = 4 * 1024
_GRACE_SECONDS = 5.0  # for the last reports of a process that has ended
_KINDS = {**REPORTED_ERRORS, ManifestError.code: ManifestError}

DocumentsListener = Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class ParserResult:
    """What a parser process has made: its runs in the parser's order, how many documents, and the inference.

    With an `error` it stopped there; its runs hold the documents before.
    """

    runs: list[Run] = field(default_factory=list)
    documents: int = 0
    warnings: dict[str, str] = field(default_factory=dict)  # one of each kind
    inferred: dict[str, Json] | None = None
    error: SourcebookError | None = None


async def run_parsers(specs: Sequence[ParserSpec], progress: DocumentsListener) -> list[ParserResult]:
    """Run parser processes, as many side by side as there are processors, and return their results in the same order.

    The first that failed, in this order and not in time, is the last result: what comes after it is ended.

    Args:
        specs: one for each process.
        progress: awaited with the number of documents of all processes together; what it raises ends them.
    """
    counts = [0] * len(specs)
    slots = asyncio.Semaphore(os.cpu_count() or 1)

    async def run(index: int, spec: ParserSpec) -> ParserResult:
        async def listen(documents: int) -> None:
            counts[index] = documents
            await progress(sum(counts))

        async with slots:
            return await _run_parser(spec, listen)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(index, spec)) for index, spec in enumerate(specs)]
            results = []
            for task in tasks:
                results.append(await task)
                if results[-1].error is not None:
                    break
            for later in tasks[len(results) :]:
                later.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return results


async def _run_parser(spec: ParserSpec, listen: DocumentsListener) -> ParserResult:
    result = ParserResult()
    spec_path = Path(spec.scratch) / f"spec-{spec.number}.json"
    spec_path.write_bytes(orjson.dumps(asdict(replace(spec, parent_pid=os.getpid()))))
    async with _pipe() as (reports, reports_end), _pipe() as (output, output_end):
        process = await _start(spec_path, reports_end, output_end)
        printed = _Output(spec.parser)
        draining = asyncio.create_task(printed.drain(output))
        reading = asyncio.create_task(_read_reports(reports, result, listen))
        waiting = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or reading.exception() is None:
                await waiting
                kill_group(process.pid)  # what it left running would keep the pipes open
            async with asyncio.timeout(_GRACE_SECONDS):
                await reading
                await draining
        except TimeoutError:
            log.warning("parser_left_a_process", parser=spec.parser)
        finally:
            kill_group(process.pid)
            await asyncio.shield(waiting)
            for task in (reading, draining):
                task.cancel()
            await asyncio.gather(reading, draining, return_exceptions=True)
    printed.log_rest()
    return _judge(spec, result, waiting.result(), printed.end)


async def _start(spec_path: Path, reports_end: int, output_end: int) -> asyncio.subprocess.Process:
    """Start the process and close our copies of its ends of the pipes."""
    try:
        return await asyncio.create_subprocess_exec(
            # -P: the folder that the worker was started in is not a place to import modules from.
            *(sys.executable, "-P", "-m", "sourcebook_uploader.parse", str(spec_path), str(reports_end)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output_end,
            stderr=output_end,
            env={**plugin_environment(), "PYTHONHASHSEED": "0"},  # sets come in the same order at each upload
            pass_fds=(reports_end,),
            start_new_session=True,
        )
    finally:
        os.close(reports_end)
        os.close(output_end)


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """Open a pipe: the reading end as a stream, the writing end as a descriptor for the body to close."""
    read_end, write_end = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_MAX_BYTES)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
    )
    try:
        yield reader, write_end
    finally:
        transport.close()


async def _read_reports(reports: asyncio.StreamReader, result: ParserResult, listen: DocumentsListener) -> None:
    async for line in reports:
        report = orjson.loads(line)
        match report["kind"]:
            case "progress":
                result.documents = report["documents"]
                await listen(result.documents)
            case "warning":
                result.warnings.setdefault(report["of"], report["text"])
            case "run":
                first, last = bytes.fromhex(report["first"]), bytes.fromhex(report["last"])
                result.runs.append(Run(Path(report["path"]), report["total"], first, last, report["has_duplicates"]))
            case "done":
                result.documents = report["documents"]
                result.inferred = orjson.loads(await asyncio.to_thread(Path(report["inferred"]).read_bytes))
            case "error":
                kind = _KINDS.get(report["code"], ParserError)
                result.error = kind(report["message"], **report["details"])


def _judge(spec: ParserSpec, result: ParserResult, exit_code: int, output: str) -> ParserResult:
    """Return a result that is complete, or has the error that the process reported or died of."""
    if result.error is not None:
        if output and isinstance(result.error, ParserError):
            result.error.details["output"] = output
        return result
    if result.inferred is not None and exit_code == 0:
        return result
    if was_killed(exit_code):
        raise PluginKilled(
            f"The process of {spec.parser!r} was killed from outside ({describe_exit(exit_code)}) after {result.documents} "
            "documents or a few more. The system kills processes when memory runs out.",
            exit=exit_code,
            documents=result.documents,
            output=output,
        )
    limit = f"{spec.memory_bytes // 1024**2} MiB"
    hint = (
        f" If it needs more memory than {limit}, raise SOURCEBOOK_PARSER_MEMORY_BYTES."
        if exit_code < 0
        else " Did it call os._exit?"
    )
    result.error = ParserError(
        f"The process of {spec.parser!r} ended with {describe_exit(exit_code)} after {say_documents(result.documents)} or a few "
        f"more.{hint}",
        exit=exit_code,
        documents=result.documents,
        output=output,
    )
    return result


class _Output:
    """What a plugin prints: logged up to a limit, its end kept for errors."""

    def __init__(self, parser: str) -> None:
        self.end = ""
        self._parser = parser
        self._bytes = 0

    async def drain(self, output: asyncio.StreamReader) -> None:
        """Read until the end, so that the plugin never waits for us."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := await output.read(_KEPT_BYTES):
            text = decoder.decode(chunk)
            if self._bytes < _LOGGED_BYTES:
                log.info("plugin_output", parser=self._parser, output=text.rstrip())
            tell_output(text)
            self._bytes += len(chunk)
            self.end = (self.end + text)[-_KEPT_BYTES:]

    def log_rest(self) -> None:
        """Say how much was not logged."""
        if self._bytes > _LOGGED_BYTES:
            log.info("plugin_output_cut", parser=self._parser, total_bytes=self._bytes, end=self.end[-1000:])


def make_parallel_specs(spec: ParserSpec, jobs: list[Any]) -> list[ParserSpec]:
    """Return one specification for each job of a parallelizer; together they sort as much in memory as one alone.

    Raises:
        ParserError: a job is not a list of arguments.
    """
    side_by_side = min(len(jobs), os.cpu_count() or 1)
    run_bytes = max(spec.run_bytes // max(side_by_side, 1), min(spec.run_bytes, 8 * 1024 * 1024))
    for job in jobs:
        if not isinstance(job, list):
            raise ParserError(f"A parallelizer must return a list of argument tuples; one of them is {job!r}.")
    return [replace(spec, number=number, args=job, run_bytes=run_bytes) for number, job in enumerate(jobs)]
