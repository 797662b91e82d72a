"""Reads a manifest's text (JSON or YAML) into plain JSON values, and says where it is broken."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import yaml

from sourcebook.errors import ManifestError

_MAX_BYTES = 1024 * 1024
_MAX_VALUES = 100_000  # YAML aliases can make a small file enormous


def read_manifest_file(path: Path) -> dict[str, Any]:
    """Return the object that a manifest holds: strings, numbers, booleans, null, lists and objects only.

    Raises:
        ManifestError: the file cannot be read, is too large, is not JSON or YAML (with line and column), or is not an object.
    """
    text = _read_text(path)
    try:
        value = _parse_json(path, text) if path.suffix == ".json" else _parse_yaml(path, text)
        plain = _PlainValues(path).convert(value)
    except RecursionError as error:
        raise ManifestError(f"{path}: is nested too deeply.", file=str(path)) from error
    if not isinstance(plain, dict):
        raise ManifestError(
            f"{path}: must hold an object with the key 'dumper', not {type(value).__name__}.", file=str(path)
        )
    return plain


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise ManifestError(f"{path}: is larger than {_MAX_BYTES} bytes.", file=str(path))
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}.", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not UTF-8 (byte {error.start}): save it as UTF-8.", file=str(path)) from error


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(path, "JSON", error.lineno, error.colno, error.msg) from error


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _broken(path, "YAML", line, column, error.problem or str(error)) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-02-31
        raise ManifestError(f"{path}: is not valid YAML: {error}.", file=str(path)) from error


def _broken(path: Path, language: str, line: int, column: int, problem: str) -> ManifestError:
    message = f"{path}: line {line}, column {column}: no valid {language}: {problem}."
    return ManifestError(message, file=str(path), line=line, column=column, problem=problem)


class _PlainValues:
    """Turns what YAML knows beyond JSON (dates, keys that are not strings, aliases) into JSON values, within a bound."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = _MAX_VALUES

    def convert(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ManifestError(
                f"{self._path}: has more than {_MAX_VALUES} values (aliases count).", file=str(self._path)
            )
        if isinstance(value, dict):
            return {str(key): self.convert(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set):
            return [self.convert(item) for item in value]
        if isinstance(value, dt.date):
            return value.isoformat()
        if value is None or isinstance(value, str | int | float):
            return value
        raise ManifestError(
            f"{self._path}: has a value of the type {type(value).__name__}; use JSON values.", file=str(self._path)
        )
