"""Parses the argument tuples of a parallelizer: here, or in parts that several workers parse at once. The result is the same.

A part is a group of tuples that follow one another. It publishes its runs, and what else its parser processes told, as files; the
upload takes the results of all parts in the order of the tuples.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from sourcebook.context import Context
from sourcebook.errors import Conflict, NotFound, SourcebookError, TransientError, rebuild_error
from sourcebook.flow.messages import ArgumentsParsed, ParseArguments
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.names import build_part_files_key
from sourcebook.hub.sources.answers import get_plugin
from sourcebook.hub.sources.model import Dump
from sourcebook.parts import run_parts
from sourcebook.worker import JobRun
from sourcebook_uploader.parse import ParserSpec
from sourcebook_uploader.parser_process import ParserResult, make_parallel_specs, run_parsers
from sourcebook_uploader.runs import Run

_RESULTS_FILE = "results.json"


async def parse_tuples(
    context: Context, run: JobRun, spec: ParserSpec, tuples: list[Any], command: ParseArguments
) -> list[ParserResult]:
    """Call a parser with each argument tuple; return the results in the order of the tuples, up to the first that failed.

    Args:
        context: the engines.
        run: the upload.
        spec: what the parser processes have in common.
        tuples: what the parallelizer returned.
        command: the command of a part, without its number and its arguments.

    Raises:
        ParserError: the parallelizer returned something else than lists of arguments.
    """
    specs = make_parallel_specs(spec, tuples)
    parts = min(context.settings.parts, len(specs))
    if parts <= 1:
        return await run_parsers(specs, lambda done: run.progress("parse", done, None, "documents"))
    commands = []
    for number in range(parts):
        group = specs[len(specs) * number // parts : len(specs) * (number + 1) // parts]
        arguments = tuple(item.args for item in group)
        changes = {"number": number + 1, "arguments": arguments, "run_bytes": specs[0].run_bytes}
        commands.append(command.model_copy(update=changes))
    results: list[ParserResult] = []
    for part in await run_parts(context, run, commands, step="parse", is_last=_has_failed):
        run.note_output(part.output)
        folder = await context.files.local_folder(build_part_files_key(part.id))
        results += await asyncio.to_thread(_read_results, folder)
    return results


def _has_failed(part: Job) -> bool:
    return ArgumentsParsed.model_validate(part.result).failed


async def parse_arguments(context: Context, run: JobRun, command: ParseArguments) -> ArgumentsParsed:
    """Call the parser with the argument tuples of a part, and publish the results.

    An error of the parser or of a document is a result too: which one counts, the upload knows when the parts before have ended.

    Raises:
        NotFound: the plugin or the dump is gone.
        TransientError: another attempt may succeed.
    """
    key = build_part_files_key(run.id)
    if await context.files.exists(key):  # this part ran before and died after its last write
        results = await asyncio.to_thread(_read_results, await context.files.local_folder(key))
        return _sum_up(results)
    await context.files.discard(key)
    folder = await context.files.staging(key)
    scratch = folder / secrets.token_hex(4)  # a worker that was taken for dead may still write to its own
    scratch.mkdir()
    spec = await _make_spec(context, command, scratch)
    specs = [replace(spec, number=number, args=args) for number, args in enumerate(await _localize(context, command))]
    results = await run_parsers(specs, lambda done: run.progress("parse", done, None, "documents"))
    if isinstance(results[-1].error, TransientError):
        raise results[-1].error
    told = _sum_up(results)
    await run.progress("parse", told.documents, told.documents, "documents")
    await asyncio.to_thread(_write_results, folder, results)
    with contextlib.suppress(Conflict):  # a worker that was taken for dead was faster, with the same results
        await context.files.publish(key)
    return told


def _sum_up(results: Sequence[ParserResult]) -> ArgumentsParsed:
    documents = sum(result.documents for result in results)
    return ArgumentsParsed(documents=documents, failed=any(result.error for result in results))


async def _make_spec(context: Context, command: ParseArguments, scratch: Path) -> ParserSpec:
    plugin = await get_plugin(context, command.source)
    return ParserSpec(
        folder=plugin.folder,
        parser=command.parser,
        data_folder="",
        scratch=str(scratch),
        kwargs=command.kwargs,
        drop_nan=command.drop_nan,
        refuse_duplicates=command.refuse_duplicates,
        run_bytes=command.run_bytes or context.settings.run_bytes,
        memory_bytes=context.settings.parser_memory_bytes,
    )


async def _localize(context: Context, command: ParseArguments) -> list[Any]:
    """Return the argument tuples, with paths below the folder of the dump as they are on this machine."""
    dump = await context.state.get(Dump, command.dump)
    if dump is None:
        raise NotFound(f"There is no dump {command.dump!r} any more.", dump=command.dump)
    folder = await context.files.local_folder(dump.folder)
    localized: list[Any] = _replace_folder(list(command.arguments), command.data_folder, str(folder))
    return localized


def _replace_folder(value: Any, old: str, new: str) -> Any:
    match value:
        case str():
            is_inside = value == old or value.startswith(f"{old}/")
            return new + value.removeprefix(old) if is_inside else value
        case list():
            return [_replace_folder(item, old, new) for item in value]
        case dict():
            return {key: _replace_folder(item, old, new) for key, item in value.items()}
        case _:
            return value


def _write_results(folder: Path, results: Sequence[ParserResult]) -> None:
    told = [
        {
            "runs": [_describe_run(folder, item) for item in result.runs],
            "documents": result.documents,
            "warnings": result.warnings,
            "inferred": result.inferred,
            "error": _describe_error(result.error),
        }
        for result in results
    ]
    (folder / _RESULTS_FILE).write_bytes(orjson.dumps(told, default=str))


def _describe_error(error: SourcebookError | None) -> dict[str, Any] | None:
    return None if error is None else {"code": error.code, "message": error.message, "details": error.details}


def _describe_run(folder: Path, run: Run) -> dict[str, Any]:
    path = run.path.relative_to(folder).as_posix()
    return {**run._asdict(), "path": path, "first": run.first.hex(), "last": run.last.hex()}


def _read_results(folder: Path) -> list[ParserResult]:
    results = []
    for told in orjson.loads((folder / _RESULTS_FILE).read_bytes()):
        runs = [_read_run(folder, item) for item in told.pop("runs")]
        error = told.pop("error")
        results.append(ParserResult(runs=runs, error=error and rebuild_error(**error), **told))
    return results


def _read_run(folder: Path, told: dict[str, Any]) -> Run:
    first, last = bytes.fromhex(told["first"]), bytes.fromhex(told["last"])
    return Run(folder / told["path"], told["total"], first, last, told["has_duplicates"])
