"""Checks a plugin before it is registered: its manifest, its functions, and its parsers on the first documents."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field

from sourcebook.context import Context
from sourcebook.errors import PluginError
from sourcebook.hub.sources.model import Dump, Plugin, SourceState
from sourcebook.sdk.manifest import LoadedManifest, Manifest, UploaderManifest
from sourcebook.sdk.process import LISTENER, PluginObject, call_plugin

_TIME_LIMIT = timedelta(minutes=5)
_SAMPLE = "sourcebook_uploader.sample:parse_sample"  # of the service that parses; it runs in a process of its own


class FunctionProblem(BaseModel):
    """A function of the manifest that cannot be used."""

    reference: str
    problem: str
    traceback: str = ""


class ParsedSample(BaseModel):
    """What an uploader's parser gave for the data that were there."""

    uploader: str
    documents: int = 0
    examples: list[dict[str, Any]] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


class PluginCheck(BaseModel):
    """What is known of a plugin after the check; it can be used if there are no `problems`."""

    manifest: Manifest
    warnings: list[str]
    problems: list[FunctionProblem] = Field(default_factory=list)
    samples: list[ParsedSample] = Field(default_factory=list)
    data: str | None = None
    """The folder whose files the parsers were tried on; None if there were none."""
    output: str = ""
    """What the plugin printed."""


async def check_plugin(context: Context, loaded: LoadedManifest, *, data: Path | None, limit: int) -> PluginCheck:
    """Import the functions of a plugin in a process of its own, and run its parsers on the first documents.

    Args:
        context: the engines; nothing is written to them.
        loaded: the plugin's manifest.
        data: the folder with its files; if None, that of its newest dump, or the files that it has itself.
        limit: how many documents each parser is asked for.
    """
    check = PluginCheck(manifest=loaded.manifest, warnings=list(loaded.warnings))
    printed: list[str] = []
    token = LISTENER.set(printed.append)
    try:
        folder = loaded.path.parent
        functions = _list_functions(loaded.manifest)
        found = await _call(context, folder, "sourcebook.sdk.checks:check_functions", [str(folder), functions])
        check.problems = [FunctionProblem.model_validate(item) for item in found]
        if not check.problems:
            async with _find_data(context, folder, loaded.manifest, data) as files:
                check.data = str(files) if files else None
                for uploader in loaded.manifest.uploader_list if files else []:
                    await _try_parser(context, check, folder, uploader, limit=limit)
    finally:
        LISTENER.reset(token)
        check.output = "".join(printed)
    return check


def _list_functions(manifest: Manifest) -> dict[str, int]:
    """Return how many arguments each function of a manifest gets."""
    functions: dict[str, int] = {}
    if manifest.dumper.release:
        functions[manifest.dumper.release] = 1
    for uploader in manifest.uploader_list:
        # What a parallelizer gives and what is called by name is known when they are called.
        is_plain = uploader.parallelizer is None and not uploader.parser_kwargs
        functions[uploader.parser] = 1 if is_plain else -1
        functions |= dict.fromkeys(filter(None, (uploader.mapping, uploader.parallelizer)), 1)
    return functions


async def _try_parser(
    context: Context, check: PluginCheck, folder: Path, uploader: UploaderManifest, *, limit: int
) -> None:
    args: list[Any] = [check.data]
    try:
        if uploader.parallelizer:
            myself = PluginObject("Uploader", {"name": uploader.name, "data_folder": check.data})
            args = (await _call(context, folder, uploader.parallelizer, [myself]))[0]
        rules = uploader.model_dump(include={"parser", "parser_kwargs", "on_duplicates", "nan"})
        found = await _call(context, folder, _SAMPLE, [str(folder), rules, args, limit])
    except (PluginError, IndexError) as error:  # IndexError: a parallelizer that has nothing to do
        trace = str(getattr(error, "details", {}).get("traceback", ""))
        told = str(error).replace(repr(_SAMPLE), repr(uploader.parser))  # authors know their parser, not who runs it
        problem = FunctionProblem(reference=uploader.parallelizer or uploader.parser, problem=told, traceback=trace)
        check.problems.append(problem)
        return
    check.samples.append(
        ParsedSample(uploader=uploader.name, **{k: v for k, v in found.items() if k in ParsedSample.model_fields})
    )
    if "problem" in found:
        check.problems.append(FunctionProblem.model_validate(found))


async def _call(context: Context, folder: Path, function: str, args: list[Any]) -> Any:
    memory_bytes = context.settings.parser_memory_bytes
    return await call_plugin(folder, function, args=args, memory_bytes=memory_bytes, timeout=_TIME_LIMIT)


@contextlib.asynccontextmanager
async def _find_data(
    context: Context, folder: Path, manifest: Manifest, given: Path | None
) -> AsyncIterator[Path | None]:
    """Give a folder with the files that a parser would get, if they are on this machine."""
    dumped = None if given else await _find_dump(context, folder, manifest.name)
    if given or dumped:
        yield given or dumped
        return
    files = [_local_file(folder, url) for url in manifest.dumper.data_url]
    if manifest.dumper.uncompress or not all(file and file.is_file() for file in files):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="sourcebook-check-") as made:
        for file in filter(None, files):
            (Path(made) / file.name).symlink_to(file)
        yield Path(made)


async def _find_dump(context: Context, folder: Path, name: str) -> Path | None:
    plugin = await context.state.get(Plugin, name)
    state = await context.state.get(SourceState, name)
    if plugin is None or Path(plugin.folder).resolve() != folder.resolve() or state is None or state.dump is None:
        return None
    dump = await context.state.get(Dump, state.dump)
    return await context.files.local_folder(dump.folder) if dump else None


def _local_file(folder: Path, url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else (folder / url).resolve()
