"""The rules for a document: which values are JSON, what an `_id` is, and what happens to documents with the same `_id`."""

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice, pairwise
from operator import eq
from typing import Any

import orjson

from sourcebook.errors import DocumentError
from sourcebook.hub.documents.merge import deep_merge
from sourcebook.hub.documents.record import MAX_ID_BYTES, Json, Record, make_record, read_document

# Root keys that answers, queries and search engines have a meaning of their own for. A document's own value would stand beside
# theirs, or be lost, or keep the whole document out of an index.
RESERVED_KEYS = frozenset(
    {"_all", "_explanation", "_ignored", "_score", "_version", "all"}
    | {
        "_doc_count",
        "_field_names",
        "_index",
        "_nested_path",
        "_primary_term",
        "_routing",
        "_seq_no",
        "_source",
        "_type",
    }
)
MAX_DEPTH = 100  # objects inside objects; search engines allow fewer
_MAX_LEVELS = 250  # objects and lists together: what orjson can write
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**63 - 1
_SHOWN_BITS = 128
_DROPPED: Any = object()
_BYTE_ORDER_MARK = "\ufeff"
_SPACES = (b" ", b"\t", b"\r", b"\n", b"\v", b"\f")
_SHOWN_KEYS = 20
_SHOWN_CHARACTERS = 100
_MISSING_TIMES = ("NaT", "NaTType", "NAType")


class InvalidValueError(Exception):
    """A value that cannot be stored; `parse` says in which document."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def is_plain(value: Json) -> bool:
    """Whether a value can be stored as it is; False also for values that `to_plain` can convert."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(_MIN_INTEGER <= value <= _MAX_INTEGER)
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return all(is_plain(item) for item in value)
    if kind is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    return False


def to_plain(value: Any, *, drop_nan: bool = False) -> Json:
    """Return a copy of a value with JSON values only.

    Dates become ISO 8601; tuples and sets become lists (sets sorted, so that equal documents stay equal); numpy's values
    become Python's; a Decimal becomes the nearest float; subclasses of str, int and so on become the base class.

    Args:
        drop_nan: leave out keys and items that are NaN or infinite, instead of refusing them.

    Raises:
        InvalidValueError: a value is not a JSON value; it has the path and the reason.
    """
    plain = _Copier(drop_nan=drop_nan).copy(value, "", 0)
    return None if plain is _DROPPED else plain


class _Copier:
    def __init__(self, *, drop_nan: bool) -> None:
        self._drop_nan = drop_nan

    def copy(self, value: Any, path: str, level: int) -> Json:
        if isinstance(value, dict):
            return self._copy_object(value, path, level)
        if isinstance(value, list | tuple):
            return self._copy_items(value, path, level)
        if isinstance(value, set | frozenset):
            return sorted(self._copy_items(value, path, level), key=_sort_key)
        if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
            return self._copy_numpy(value, path, level)
        return self._copy_scalar(value, path)

    def _copy_object(self, value: dict[Any, Any], path: str, level: int) -> dict[str, Json]:
        _check_level(path, level)
        result = {}
        for key, item in value.items():
            name = check_key(key, path)
            plain = self.copy(item, f"{path}.{name}" if path else name, level + 1)
            if plain is not _DROPPED:
                result[name] = plain
        return result

    def _copy_items(self, items: Iterable[Any], path: str, level: int) -> list[Json]:
        _check_level(path, level)
        copies = [self.copy(item, f"{path}[{number}]", level + 1) for number, item in enumerate(items)]
        return [item for item in copies if item is not _DROPPED]

    def _copy_numpy(self, value: Any, path: str, level: int) -> Json:
        # numpy is the plugin's, if at all: we never import it. Its dates print as ISO 8601.
        native = str(value) if type(value).__name__ == "datetime64" else value.tolist()
        if native == "NaT":
            return self._copy_scalar(math.nan, path)
        if type(native) is type(value):
            raise InvalidValueError(path, f"is a numpy {type(value).__name__}, which JSON cannot hold")
        return self.copy(native, path, level)

    def _copy_scalar(self, value: Any, path: str) -> Json:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _check_text(str.__str__(value), path)
        if isinstance(value, int):
            return _check_integer(int(value), path)
        if type(value).__name__ in _MISSING_TIMES:
            return self._copy_float(math.nan, path)
        if isinstance(value, float | Decimal):
            return self._copy_float(float(value), path)
        if isinstance(value, dt.date):  # datetime.datetime too
            return value.isoformat()
        raise InvalidValueError(path, f"is {_describe(value)}, which JSON cannot hold{_advise(value)}")

    def _copy_float(self, value: float, path: str) -> Json:
        if math.isfinite(value):
            return value
        if self._drop_nan:
            return _DROPPED
        hint = 'leave the key out, or set "nan": "drop" for the uploader in the manifest'
        raise InvalidValueError(path, f"is {value}, which JSON cannot hold; {hint}")


def check_key(key: Any, path: str) -> str:
    """Return a key of the object at `path` as a plain string.

    Raises:
        InvalidValueError: it is not a string, is blank, or cannot be written as UTF-8.
    """
    if not isinstance(key, str):
        raise InvalidValueError(path, f"has the key {key!r} ({type(key).__name__}); keys must be strings")
    if not key.strip():
        raise InvalidValueError(path, f"has the key {key!r}; keys must not be blank")
    return _check_text(str.__str__(key), path)


def _check_level(path: str, level: int) -> None:
    if level > _MAX_LEVELS:
        raise InvalidValueError(f"{path[:60]}...", "is nested too deeply (does the document contain itself?)")


def _check_text(value: str, path: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            what = f"has half a surrogate pair ({value[error.start]!r} at character {error.start})"
            raise InvalidValueError(path, f"{what}, which UTF-8 cannot hold; decode the file as what it is") from error
    return value


def _check_integer(value: int, path: str) -> int:
    if _MIN_INTEGER <= value <= _MAX_INTEGER:
        return value
    shown = str(value) if value.bit_length() <= _SHOWN_BITS else f"an integer of {value.bit_length()} bits"
    raise InvalidValueError(path, f"is {shown}; whole numbers go from -2**63 to 2**63 - 1. Make it a string")


def _describe(value: Any) -> str:
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _advise(value: Any) -> str:
    return "; decode bytes to a string" if isinstance(value, bytes | bytearray) else ""


def _sort_key(item: Json) -> bytes:
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)


def check_id(value: Any, number: int) -> str:
    """Return the `_id` of a document as it is stored; an integer or float becomes a string.

    Raises:
        DocumentError: it is null, empty, longer than 512 bytes, no UTF-8, or neither string nor number.
    """
    if value is None:
        raise DocumentError(f"Document {number}: _id is null. Give each document a string `_id`.", number=number)
    try:
        value = to_plain(value)
    except InvalidValueError as error:
        raise DocumentError(f"Document {number}: _id {error.reason}.", number=number) from error
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        what = f"is {_describe(value)}: it must be a string"
        raise DocumentError(f"Document {number}: _id {what}.", number=number)
    size = len(value.encode())
    if size == 0:
        raise DocumentError(f"Document {number} has an empty _id.", number=number)
    if size > MAX_ID_BYTES:
        raise DocumentError(
            f"Document {number} ({value[:60]}...): _id has {size} bytes, at most {MAX_ID_BYTES} are allowed.",
            number=number,
            id=value[:200],
        )
    return value


def check_has_id(document: dict[Any, Any], number: int) -> None:
    """Check that a document has an `_id`.

    Raises:
        DocumentError: it has none; the message names the keys that it has.
    """
    if "_id" in document:
        return
    keys = [str(key) for key in document]
    shown = ", ".join(repr(key[:_SHOWN_CHARACTERS]) for key in keys[:_SHOWN_KEYS])
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    hint = "Give each document a string `_id`."
    if any(key.startswith(_BYTE_ORDER_MARK) for key in keys):
        hint = "The file begins with a byte-order mark: open it with encoding='utf-8-sig'."
    elif close := next((key for key in keys if key.strip().lower() in {"_id", "id"}), None):
        hint = f"Is it {close!r}? Give each document a string `_id`."
    raise DocumentError(
        f"Document {number} has no _id; its keys are {shown or 'none'}{more}. {hint}",
        number=number,
        keys=keys[:_SHOWN_KEYS],
    )


def check_root_keys(keys: Iterable[str], number: int, identifier: str) -> None:
    """Check the root keys of a document.

    Raises:
        DocumentError: one is reserved.
    """
    for key in keys:
        root = key.partition(".")[0]
        if root in RESERVED_KEYS or (root == "_id" and key != "_id"):
            raise DocumentError(
                f"Document {number} (_id {identifier[:200]!r}) has the key {key!r}, which has a meaning of its own in answers or "
                "search engines. Leave it out, or give it another name in the parser.",
                number=number,
                id=identifier[:600],
                path=key,
                reserved=sorted(RESERVED_KEYS),
            )


def find_padded_id(keys: Sequence[bytes]) -> str:
    """Return the first key that begins or ends with white space (or a byte-order mark), which nobody sees; else ""."""
    joined = b"\0".join(keys)
    if joined.isascii():
        # Most ids have no white space at all, which is seen at once.
        has_spaces = any(space in joined for space in _SPACES)
        return next((key.decode() for key in keys if key != key.strip()), "") if has_spaces else ""
    texts = (key.decode(errors="replace") for key in keys)
    return next((text for text in texts if text != text.strip().strip(_BYTE_ORDER_MARK)), "")


def merge_duplicates(records: list[Record], *, merge: bool) -> list[Record]:
    """Return sorted records with one for each key: the first, or the deep merge of all in their order."""
    result: list[Record] = []
    start, total = 0, len(records)
    for position in range(1, total + 1):
        if position < total and records[position][0] == records[start][0]:
            continue
        same = records[start:position]
        result.append(_merge_records(same) if merge and len(same) > 1 else same[0])
        start = position
    return result


def _merge_records(records: list[Record]) -> Record:
    document = read_document(records[0])
    for record in records[1:]:
        document = deep_merge(document, read_document(record))
    return make_record(document)


def find_duplicate(records: Sequence[Record]) -> bytes | None:
    """Return the first key that stands twice in sorted records, or None."""
    return find_repeated([key for key, _ in records])


def find_repeated(keys: Sequence[bytes]) -> bytes | None:
    """Return the first of sorted keys that stands twice, or None."""
    if not any(map(eq, keys, islice(keys, 1, None))):
        return None
    return next(left for left, right in pairwise(keys) if left == right)
