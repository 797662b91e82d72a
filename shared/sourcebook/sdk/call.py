"""The process that `sdk.process.call_plugin` starts: reads a request, calls the plugin's function, writes the answer."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from sourcebook.errors import SourcebookError
from sourcebook.sdk.plugins import check_arguments, format_plugin_traceback, load_function
from sourcebook.sdk.sandbox import enter_sandbox


def main() -> None:
    """Answer the request on stdin with `{"value": ...}` or `{"error": ...}` on what was stdout."""
    request = orjson.loads(sys.stdin.buffer.read())
    reply_descriptor = os.dup(1)
    enter_sandbox(request["memory_bytes"], parent_pid=request["parent_pid"])
    _close_stdin()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    reply = _answer(Path(request["folder"]), request)
    with os.fdopen(reply_descriptor, "wb") as file:
        file.write(reply)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that the plugin left running do not keep us


def _answer(folder: Path, request: dict[str, Any]) -> bytes:
    try:
        value = _call(folder, request)
    except SourcebookError as error:
        return _encode_error(error.code, error.message, error.details)
    # Whatever a plugin raises, SystemExit included, is the answer: this process has nothing else to do.
    except BaseException as error:  # noqa: BLE001
        details = {"exception": type(error).__name__, "traceback": format_plugin_traceback(error, folder)}
        return _encode_error("parser", _describe(error), details)
    try:
        return orjson.dumps({"value": value}, default=_encode_rest, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        return _encode_error("parser", f"returned a {type(value).__name__} that is not a JSON value: {error}", {})


def _call(folder: Path, request: dict[str, Any]) -> Any:
    function: Callable[..., Any] = load_function(folder, request["function"])
    args = [_build_argument(argument) for argument in request["args"]]
    check_arguments(function, request["function"], args)
    value = function(*args)
    if value is None and request["or_attribute"] is not None:
        return getattr(args[0], request["or_attribute"], None)
    return value


def _build_argument(argument: Any) -> Any:
    if not isinstance(argument, dict) or "__object__" not in argument:
        return argument
    logger = logging.getLogger(argument["__object__"])  # goes to stderr, as what the plugin prints does
    made = type(argument["__object__"], (), {"logger": logger, **argument["attributes"]})
    return made if argument["as_class"] else made()


def _close_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _describe(error: BaseException) -> str:
    text = str(error)
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def _encode_rest(value: Any) -> Any:
    """Encode what functions return beside JSON values: paths and sets."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError


def _encode_error(code: str, message: str, details: dict[str, Any]) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": message, "details": details}}, default=str)


if __name__ == "__main__":
    main()
