"""Runs one function of a plugin in a process of its own, and brings its result (or its exception) back."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import orjson

from sourcebook.errors import ManifestError, ParserError, PluginError, PluginKilled
from sourcebook.logging import get_logger

log = get_logger(__name__)

LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("LISTENER", default=None)
"""What is told all that plugins print, in this task and those it starts; a worker sets it for each job."""
_RESULT_MAX_BYTES = 16 * 1024 * 1024
_OUTPUT_KEPT_BYTES = 8 * 1024
# What a plugin's process gets of the worker's environment.
_HARMLESS = {
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "R_HOME",
        "JAVA_HOME",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
}
_HARMLESS_PREFIXES = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_")
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"}
_ERRORS: dict[str, type[PluginError]] = {kind.code: kind for kind in (ManifestError, ParserError)}


@dataclass(frozen=True, slots=True)
class PluginObject:
    """An argument that the plugin sees as an object with `attributes`; as a class that has them, with `as_class`.

    BioThings plugins expect `self` (a dumper or uploader) or `cls` where they are given these.
    """

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    as_class: bool = False


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the process reads its request and leaves its answer and what it prints.

    Files rather than pipes: a process that the plugin left running cannot hold them open and keep us waiting.
    """

    request: IO[bytes]
    reply: IO[bytes]
    output: IO[bytes]


async def call_plugin(
    folder: Path,
    function: str,
    *,
    args: Sequence[Any] = (),
    memory_bytes: int,
    timeout: timedelta,  # noqa: ASYNC109 - the process group is killed then, not just left alone
    or_attribute: str | None = None,
) -> Any:
    """Call `module:function` of the plugin in `folder` in its own process and return its result, a JSON value.

    Args:
        folder: the plugin's folder.
        function: `module:function`.
        args: JSON values or `PluginObject`s, given by position.
        memory_bytes: limit of the process's memory.
        timeout: the process and all it started are killed after this time.
        or_attribute: when the function returns None, return this attribute of its first argument instead.

    Raises:
        ManifestError: the plugin has no such function.
        PluginKilled: its process was killed from outside.
        ParserError: it raised (the plugin's frames are in `details["traceback"]`), ended its process, took too long, or
            returned something that is not a JSON value.
    """
    request = {
        "folder": str(folder),
        "function": function,
        "args": [_encode(argument) for argument in args],
        "or_attribute": or_attribute,
        "memory_bytes": memory_bytes,
        "parent_pid": os.getpid(),
    }
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as reply, tempfile.TemporaryFile() as output:
        files = _Files(asked, reply, output)
        files.request.write(orjson.dumps(request))
        files.request.seek(0)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                exit_code = await _run_process(files)
        except TimeoutError as error:
            raise ParserError(
                f"{function!r} of plugin {folder.name!r} did not end within {timeout}.",
                function=function,
                output=_last_output(files),
            ) from error
        return _read_result(files, exit_code, f"{function!r} of plugin {folder.name!r}")


def _encode(argument: Any) -> Any:
    if isinstance(argument, PluginObject):
        return {"__object__": argument.name, "attributes": argument.attributes, "as_class": argument.as_class}
    return argument


async def _run_process(files: _Files) -> int:
    # -P: the folder that the worker was started in is not a place to import modules from.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "sourcebook.sdk.call"),
        stdin=files.request,
        stdout=files.reply,
        stderr=files.output,
        env=plugin_environment(),
        start_new_session=True,
    )
    try:
        return await process.wait()
    finally:
        kill_group(process.pid)
        await process.wait()


def _read_result(files: _Files, exit_code: int, where: str) -> Any:
    output = _last_output(files)
    if output:
        log.info("plugin_output", where=where, output=output)
        tell_output(f"{output}\n")
    files.reply.seek(0)
    body = files.reply.read(_RESULT_MAX_BYTES + 1)
    if len(body) > _RESULT_MAX_BYTES:
        raise ParserError(f"{where} returned more than {_RESULT_MAX_BYTES} bytes.", output=output)
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if was_killed(exit_code):
            raise PluginKilled(
                f"The process of {where} was killed from outside ({describe_exit(exit_code)}).",
                exit=exit_code,
                output=output,
            ) from error
        raise ParserError(
            f"{where} ended its process ({describe_exit(exit_code)}).", exit=exit_code, output=output
        ) from error
    if "error" in reply:
        told = reply["error"]
        kind = _ERRORS.get(told["code"], ParserError)
        raise kind(f"{where}: {told['message']}", **told["details"], output=output)
    return reply["value"]


def _last_output(files: _Files) -> str:
    size = files.output.seek(0, os.SEEK_END)
    files.output.seek(max(0, size - _OUTPUT_KEPT_BYTES))
    return files.output.read().decode(errors="replace").strip()


def tell_output(text: str) -> None:
    """Tell the listener, if there is one, what a plugin printed."""
    if (listener := LISTENER.get()) is not None:
        listener(text)


def describe_exit(exit_code: int) -> str:
    """Return what an exit code means, in words.

    >>> describe_exit(-11)
    'signal SIGSEGV'
    """
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def was_killed(exit_code: int) -> bool:
    """Whether a process was ended by a signal that people and systems send, not by one that its own faults cause."""
    return -exit_code in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def kill_group(pid: int) -> None:
    """Kill a process that was started with `start_new_session`, and what it started; nothing happens if all have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def plugin_environment() -> dict[str, str]:
    """Return the environment of a plugin's process: what programs need to run, and what SOURCEBOOK_PLUGIN_VARIABLES names.

    Everything else, such as Sourcebook's settings and the keys of a cloud, stays here.
    """
    # Read here and not from the settings, which this function would have to be handed through every stage.
    named = {name.strip() for name in os.environ.get("SOURCEBOOK_PLUGIN_VARIABLES", "").split(",")}
    return {
        name: value
        for name, value in os.environ.items()
        if name in named or _is_harmless(name) or (name.upper() in _PROXIES and "@" not in value)
    }


def proxy_environment() -> dict[str, str]:
    """Return the variables that name proxies, for a program of ours: some of them hold a password."""
    return {name: value for name, value in os.environ.items() if name.upper() in _PROXIES}


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
