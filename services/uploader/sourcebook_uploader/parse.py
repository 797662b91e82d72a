"""The parser process: calls a plugin's parser, checks each document, infers the mapping and writes sorted runs.

Started by `parser_process` as `python -m sourcebook_uploader.parse SPEC DESCRIPTOR`. It reports on the descriptor, one JSON
object a line: how far it is, warnings, finished runs, and how it ended. Documents never travel there, only in run files.
"""

import faulthandler
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from sourcebook.errors import (
    DocumentError,
    DuplicateId,
    EngineUnavailable,
    ParserError,
    SourcebookError,
)
from sourcebook.hub.documents.record import Json, Record, make_value, record_key, say_documents
from sourcebook.sdk.plugins import check_arguments, format_plugin_traceback, load_function
from sourcebook.sdk.sandbox import enter_sandbox
from sourcebook_uploader.infer import Inference
from sourcebook_uploader.runs import write_run
from sourcebook_uploader.validate import InvalidValueError, check_has_id, check_id, check_root_keys, to_plain

REPORT_SECONDS = 0.5
_RECORD_OVERHEAD = 170  # bytes that Python needs for a record beside its content
# Plain documents make no garbage cycles, but the records of a run are walked by each look for them: look seldom.
_GARBAGE_THRESHOLD = 200_000
# Python gives a MiB of memory back when nothing in it is used, and takes it page by page for the next run, which costs a
# twentieth of an upload. So one of so many records is held: a few in each MiB.
_HELD = 256
_MAX_PLAIN_KEY = 511
_MAX_TEXT = 20_000
_RESERVE_BYTES = 4 * 1024 * 1024  # given back when memory runs out, so that the report of it can be made


@dataclass(frozen=True, slots=True)
class ParserSpec:
    """What a parser process is to do. With `args`, the parser is called with these instead of the data folder."""

    folder: str
    parser: str
    data_folder: str
    scratch: str
    number: int = 0
    args: list[Any] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    drop_nan: bool = False
    refuse_duplicates: bool = True
    run_bytes: int = 96 * 1024 * 1024
    memory_bytes: int = 4096 * 1024 * 1024
    parent_pid: int = 0


def main() -> None:
    """Do what the specification says, and report how it ended."""
    spec = ParserSpec(**orjson.loads(Path(sys.argv[1]).read_bytes()))
    descriptor = int(sys.argv[2])
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's own signature
    enter_sandbox(spec.memory_bytes, parent_pid=spec.parent_pid)
    faulthandler.enable()
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 50)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def send(report: dict[str, Any]) -> None:
        line = memoryview(orjson.dumps(report, option=orjson.OPT_APPEND_NEWLINE, default=str))
        while line:
            line = line[os.write(descriptor, line) :]

    code = run_parser(spec, send)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that the plugin left running do not keep us


def run_parser(spec: ParserSpec, send: Callable[[dict[str, Any]], None]) -> int:
    """Parse, and report every way in which that can end; return the exit code."""
    parser = Parser(spec, send)
    reserve = bytearray(_RESERVE_BYTES)
    try:
        parser.parse()
    except SourcebookError as error:
        send(_error_report(error, parser, None))
    except MemoryError as error:
        del reserve
        limit = f"{spec.memory_bytes // 1024**2} MiB"
        told = ParserError(
            f"{spec.parser!r} needs more memory than the limit of {limit}, {parser.describe_position()}. Yield documents one "
            "by one instead of collecting them, or raise SOURCEBOOK_PARSER_MEMORY_BYTES.",
            exception="MemoryError",
        )
        send(_error_report(told, parser, format_plugin_traceback(error, Path(spec.folder))))
    # Whatever a plugin raises, SystemExit included, is the answer: this process has nothing else to do.
    except BaseException as error:  # noqa: BLE001
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        told = ParserError(
            f"{spec.parser!r} raised {text[:2000]} {parser.describe_position()}.", exception=type(error).__name__
        )
        send(_error_report(told, parser, format_plugin_traceback(error, Path(spec.folder))))
    else:
        return 0
    return 1


class Parser:
    """One run of a parser: `documents` is how many it has yielded so far."""

    def __init__(self, spec: ParserSpec, send: Callable[[dict[str, Any]], None]) -> None:
        self.documents = 0
        self.inference = Inference(drop_nan=spec.drop_nan)
        self._spec = spec
        self._send = send
        self._runs = 0
        self._held: list[Record] = []
        self._last_id = ""
        self._reported = (time.monotonic(), 0)

    def parse(self) -> None:
        """Call the parser and write all its documents to runs.

        Raises:
            PluginError: the plugin did something wrong.
            EngineUnavailable: a run cannot be written.
        """
        spec = self._spec
        function = load_function(Path(spec.folder), spec.parser)
        args = [spec.data_folder] if spec.args is None else spec.args
        check_arguments(function, spec.parser, args, spec.kwargs)
        self._collect(iterate_documents(function(*args, **spec.kwargs), spec.parser))
        path = Path(spec.scratch) / f"inferred-{spec.number}.json"
        path.write_bytes(orjson.dumps(self.inference.dump()))
        self._send({"kind": "done", "documents": self.documents, "inferred": str(path)})

    def _collect(self, documents: Iterable[Any]) -> None:
        maker = RecordMaker(self.inference, drop_nan=self._spec.drop_nan, warn=self._warn)
        make, run_bytes = maker.make, self._spec.run_bytes
        records: list[Record] = []
        append = records.append
        record: Record = (b"", b"")
        number = size = 0
        report_at = first = 1
        try:
            for document in documents:
                number += 1
                record = make(document, number)
                append(record)
                size += len(record[1]) + _RECORD_OVERHEAD
                if size >= run_bytes:
                    self._write_run(records, first)
                    self._held = records[::_HELD]
                    records.clear()
                    size, first = 0, number + 1
                if number >= report_at:
                    report_at = number + self._report(number)
        except (DuplicateId, EngineUnavailable):
            raise
        except (Exception, SystemExit):
            # An `_id` that stands twice among the documents before this one counts, not what is wrong here.
            if records and self._spec.refuse_duplicates:
                self._write_run(records, first)
            raise
        finally:
            self.documents = number
            self._last_id = record[0].decode(errors="replace")
        if records:
            self._write_run(records, first)
        self._send({"kind": "progress", "documents": number})

    def _report(self, number: int) -> int:
        """Report progress; return after how many more documents to come back, for about two reports a second."""
        now = time.monotonic()
        rate = (number - self._reported[1]) / max(now - self._reported[0], 1e-6)
        self._reported = (now, number)
        self._send({"kind": "progress", "documents": number})
        return min(max(1, int(rate * REPORT_SECONDS)), 100_000)

    def _write_run(self, records: list[Record], first: int) -> None:
        """Write records, of which the first was made of document number `first`."""
        ordered = sorted(records, key=itemgetter(0))
        path = Path(self._spec.scratch) / f"run-{self._spec.number}-{self._runs}"
        self._runs += 1
        try:
            run = write_run(path, ordered)
        except OSError as error:
            raise EngineUnavailable(
                f"Sorted documents cannot be written to {path.parent}: {error.strerror}. Is the disk full?"
            ) from error
        if run.has_duplicates and self._spec.refuse_duplicates:
            repeated = _find_first_repeated(records)
            raise duplicate_error(repeated, [first + i for i, record in enumerate(records) if record[0] == repeated])
        if run.padded_id:
            self._warn("padded_id", warn_of_padding(run.padded_id))
        told = {"path": str(path), "total": run.total, "first": run.first.hex(), "last": run.last.hex()}
        self._send({"kind": "run", **told, "has_duplicates": run.has_duplicates})

    def _warn(self, kind: str, text: str) -> None:
        self._send({"kind": "warning", "of": kind, "text": text})

    def describe_position(self) -> str:
        """Return how far the parser came, for an error message."""
        return (
            f"after {say_documents(self.documents)} (the last _id was {self._last_id!r})"
            if self.documents
            else "at once"
        )


def _error_report(error: SourcebookError, parser: Parser, traceback: str | None) -> dict[str, Any]:
    details = {**error.details, **({"traceback": traceback} if traceback else {})}
    # A path is as long as the document's keys are: a report must stay a line.
    return {
        "kind": "error",
        "code": error.code,
        "message": error.message[:_MAX_TEXT],
        "details": {key: item[:_MAX_TEXT] if isinstance(item, str) else item for key, item in details.items()},
        "documents": parser.documents,
    }


def iterate_documents(result: Any, parser: str) -> Iterable[Any]:
    """Return the documents that a parser gave in one way or another.

    Raises:
        ParserError: it gave none of these.
    """
    if isinstance(result, dict):
        return _with_keys_as_ids(result)
    if result is None or isinstance(result, str | bytes) or not hasattr(result, "__iter__"):
        raise ParserError(
            f"{parser!r} returned a {type(result).__name__}: it must be a generator, a list, or a dict of documents by id."
        )
    documents: Iterable[Any] = result
    return documents


def _with_keys_as_ids(result: dict[Any, Any]) -> Iterator[Any]:
    for key, document in result.items():
        yield {"_id": key, **document} if isinstance(document, dict) else document


class RecordMaker:
    """Turns what a parser yields into records, and infers the mapping on the way."""

    def __init__(self, inference: Inference, *, drop_nan: bool, warn: Callable[[str, str], None]) -> None:
        self._inference = inference
        self._drop_nan = drop_nan
        self._warn = warn
        self._warned_of_number = False
        self._root_keys = 0  # how many are known

    def make(self, document: Any, number: int) -> Record:
        """Return the record of a document; the author's object is neither changed nor kept.

        Raises:
            DocumentError: it breaks a rule; the message has its number, id and the path.
        """
        try:
            # The short way, for most documents: what is like those before has an `_id`, and teaches nothing.
            inference = self._inference
            shape = (inference.only_shape or inference.find_shape(document)) if type(document) is dict else None
            if shape is None or not shape.accepts(document):
                document = self._take(document, number)
                if not inference.learn_new(document["_id"], document):
                    document = self._copy(document, number, document["_id"])
                if len(inference.root.children) != self._root_keys or not inference.root.is_open:
                    check_root_keys(document, number, document["_id"])
                    self._root_keys = len(inference.root.children)
            key = document["_id"].encode()
            if not 0 < len(key) <= _MAX_PLAIN_KEY:
                key = record_key(check_id(document["_id"], number))
            return key, make_value(document)
        except (InvalidValueError, TypeError, UnicodeEncodeError, RecursionError) as error:
            document = self._take(document, number)
            identifier = check_id(document["_id"], number)
            return record_key(identifier), self._retry(document, number, identifier, error)

    def _take(self, document: Any, number: int) -> dict[str, Json]:
        """Return a document as a dict whose `_id` is a string."""
        if type(document) is not dict:
            if not isinstance(document, dict):
                raise DocumentError(
                    f"Document {number} is a {type(document).__name__}: a parser must yield dicts, one for each document.",
                    number=number,
                )
            document = self._copy(document, number, document.get("_id"))
        check_has_id(document, number)
        taken: dict[str, Json] = document
        given = taken["_id"]
        if type(given) is str:
            return taken
        identifier = check_id(given, number)
        if not isinstance(given, str) and not self._warned_of_number:
            self._warned_of_number = True
            self._warn(
                "number_as_id",
                f"Document {number} has the number {given!r} as _id: it became a string, as all others of this upload.",
            )
        return {**taken, "_id": identifier}

    def _copy(self, document: dict[str, Json], number: int, identifier: Any) -> dict[str, Json]:
        try:
            plain: dict[str, Json] = to_plain(document, drop_nan=self._drop_nan)
        except InvalidValueError as error:
            raise _document_error(error, number, identifier) from error
        return plain

    def _retry(self, document: dict[str, Json], number: int, identifier: str, error: Exception) -> bytes:
        """Find out what is wrong with a document that could not be written; some only need a plain copy."""
        plain = self._copy(document, number, identifier)
        if not isinstance(error, InvalidValueError):
            try:
                return make_value(plain)
            except TypeError as again:
                error = again
        raise _document_error(error, number, identifier) from error


def _document_error(error: Exception, number: int, identifier: Any) -> DocumentError:
    path = getattr(error, "path", "")
    reason = getattr(error, "reason", None) or f"cannot be written as JSON: {error}"
    where = f"{path} {reason}" if path else f"it {reason}"
    return DocumentError(
        f"Document {number} (_id {str(identifier)[:200]!r}): {where}.",
        number=number,
        id=str(identifier)[:600],
        path=path,
    )


def _find_first_repeated(records: list[Record]) -> bytes:
    seen: set[bytes] = set()
    for key, _ in records:
        if key in seen:
            break
        seen.add(key)
    return key


def duplicate_error(key: bytes, numbers: list[int]) -> DuplicateId:
    """Return the error for an `_id` that stands more than once; `numbers` are those of the documents, if known."""
    identifier = key.decode(errors="replace")
    shown = f" (documents {', '.join(map(str, numbers[:5]))}{', ...' if len(numbers) > 5 else ''})" if numbers else ""  # noqa: PLR2004 - enough to find them
    return DuplicateId(
        f"The parser yielded _id {identifier!r} more than once{shown}. Make it unique, or set "
        '"on_duplicates": "ignore" (keep the first) or "merge" for the uploader in the manifest.',
        id=identifier,
        numbers=numbers[:100],
    )


def warn_of_padding(identifier: str) -> str:
    """Return the warning for an `_id` that begins or ends with white space."""
    return f"_id {identifier!r} begins or ends with white space, so that nobody finds it: strip ids in the parser."


REPORTED_ERRORS = {kind.code: kind for kind in (ParserError, DocumentError, DuplicateId, EngineUnavailable)}


if __name__ == "__main__":
    main()
