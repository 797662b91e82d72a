"""Tries a parser on its first documents, without storing any: in the plugin's own process, for `sourcebook plugin check`."""

from itertools import islice
from pathlib import Path
from typing import Any

from sourcebook.errors import ParserError
from sourcebook.hub.documents.record import read_document, say_documents
from sourcebook.sdk.checks import describe_failure
from sourcebook.sdk.plugins import check_arguments, load_function
from sourcebook_uploader.describe import list_warnings
from sourcebook_uploader.infer import Inference
from sourcebook_uploader.parse import RecordMaker, duplicate_error, iterate_documents, warn_of_padding
from sourcebook_uploader.validate import find_padded_id

_EXAMPLES = 3


def parse_sample(folder: str, uploader: dict[str, Any], args: list[Any], limit: int) -> dict[str, Any]:
    """Return how many documents a parser gave (at most `limit`), the first of them, warnings, and what is wrong with it.

    Args:
        folder: the plugin's folder.
        uploader: `parser`, `parser_kwargs`, `on_duplicates` and `nan` as the manifest has them.
        args: the parser's arguments.
        limit: after so many documents the parser is not asked for more.
    """
    told: dict[str, Any] = {"documents": 0, "examples": [], "warnings": []}
    # Whatever a plugin raises, SystemExit included, is the answer.
    try:
        _parse(folder, uploader, args, limit, told)
    except BaseException as error:  # noqa: BLE001
        failure = describe_failure(error, Path(folder), uploader["parser"])
        failure["problem"] += f" (after {say_documents(told['documents'])})" if failure["traceback"] else ""
        return told | failure
    return told


def _parse(folder: str, uploader: dict[str, Any], args: list[Any], limit: int, told: dict[str, Any]) -> None:
    reference, kwargs, drop_nan = uploader["parser"], uploader["parser_kwargs"], uploader["nan"] == "drop"
    function = load_function(Path(folder), reference)
    check_arguments(function, reference, args, kwargs)
    inference = Inference(drop_nan=drop_nan)
    maker = RecordMaker(inference, drop_nan=drop_nan, warn=lambda _, text: told["warnings"].append(text))
    numbers: dict[bytes, int] = {}
    for number, document in enumerate(islice(iterate_documents(function(*args, **kwargs), reference), limit), start=1):
        record = maker.make(document, number)
        first = numbers.setdefault(record[0], number)
        if first != number and uploader["on_duplicates"] == "error":
            raise duplicate_error(record[0], [first, number])
        told["documents"] = number
        if number <= _EXAMPLES:
            told["examples"].append(read_document(record))
    if not told["documents"]:
        raise ParserError(f"{reference!r} yielded no documents.")
    if padded := find_padded_id([*numbers]):
        told["warnings"].append(warn_of_padding(padded))
    told["warnings"] += list_warnings(inference)
