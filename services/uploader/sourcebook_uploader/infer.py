"""Infers the mapping of documents while they are parsed: one walk over each, and memory that does not grow with their number."""

import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, Final

from sourcebook.errors import MappingError
from sourcebook.model.document import Json
from sourcebook.model.mapping import KEYWORD_NORMALIZER, Properties
from sourcebook_uploader.validate import MAX_DEPTH, InvalidValueError, check_key, is_plain, to_plain

MAX_FIELDS = 5000  # OpenSearch allows 1000 by default; more are ids used as keys
_MAX_WARNINGS = 50

# What was seen at a path; several bits if several types were.
INTEGER: Final = 1
LONG: Final = 2
FLOAT: Final = 4
BOOLEAN: Final = 8
DATE: Final = 16
KEYWORD: Final = 32
TEXT: Final = 64
OBJECT: Final = 128
_NUMBERS = INTEGER | LONG | FLOAT
_STRINGS = DATE | KEYWORD | TEXT
_NAMES = {
    INTEGER: "an integer",
    LONG: "a long integer",
    FLOAT: "a float",
    BOOLEAN: "a boolean",
    DATE: "a date",
    KEYWORD: "a string",
    TEXT: "a text",
    OBJECT: "an object",
}
_MIN_INTEGER, _MAX_INTEGER = -(2**31), 2**31 - 1
_MIN_LONG, _MAX_LONG = -(2**63), 2**63 - 1
_NONE_TYPE = type(None)
_GOOD_KEY = re.compile(r"[a-z0-9_.]+\Z")
_BAD_CHARACTER = re.compile(r"[^A-Za-z0-9_.\s]")
_DAY_LENGTH = len("2024-01-02")
_TIME = re.compile(r"T([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?)?(Z|[+-]\d\d(:?[0-5]\d)?)?\Z", re.ASCII)


class _Field:
    """What is known of one path."""

    __slots__ = ("children", "count", "depth", "examples", "is_open", "path", "seen")

    def __init__(self, path: str, depth: int) -> None:
        self.path = path
        self.depth = depth
        self.count = 0
        self.seen = 0
        self.examples: dict[int, str] = {}  # type -> id of the first document that has it
        self.children: dict[str, _Field] = {}
        self.is_open = True  # False: too many different keys, no new ones are looked at


class Inference:
    """The types of all fields so far.

    Set `document_id` and `is_plain = True`, then call `learn` with each document. Afterwards `is_plain` says whether the document
    can be stored as it is; if not, `validate.to_plain` copies it.
    """

    def __init__(self, *, drop_nan: bool = False) -> None:
        self.document_id = ""
        self.is_plain = True
        self.notes: list[str] = []
        self._drop_nan = drop_nan
        self._root = _Field("", 0)
        self._root.children["_id"] = _id_field()
        self._fields = 0
        self._learners: dict[type, Callable[[_Field, Any], None]] = {
            str: self._learn_string,
            int: self._learn_integer,
            float: self._learn_float,
            bool: self._learn_boolean,
            _NONE_TYPE: _learn_nothing,
            list: self._learn_list,
            dict: self._learn_object,
        }

    def learn(self, document: dict[str, Json]) -> None:
        """Take the types of one document into account.

        Raises:
            InvalidValueError: a key or value is no JSON, or it is nested too deeply.
            MappingError: a field is an object here and a scalar elsewhere.
        """
        self._learn_fields(self._root, document)

    # The hot loop: what is already known of a field is recognised here, everything else is learned below.
    def _learn_fields(self, parent: _Field, document: dict[str, Json]) -> None:  # noqa: C901, PLR0912 - one call a document
        children = parent.children
        for key, value in document.items():
            try:
                field = children[key]
            except KeyError:
                new_field = self._add_field(parent, key, value)
                if new_field is None:
                    continue
                field = new_field
            kind = type(value)
            seen = field.seen
            if kind is str:
                if seen == TEXT or (seen == KEYWORD and " " not in value):
                    field.count += 1
                else:
                    self._learn_string(field, value)
            elif kind is int:
                if seen == INTEGER and _MIN_INTEGER <= value <= _MAX_INTEGER:
                    field.count += 1
                else:
                    self._learn_integer(field, value)
            elif kind is float:
                if seen == FLOAT and value - value == 0.0:
                    field.count += 1
                else:
                    self._learn_float(field, value)
            elif kind is dict:
                if seen == OBJECT and value and field.is_open:
                    field.count += 1
                    self._learn_fields(field, value)
                else:
                    self._learn_object(field, value)
            elif kind is list:
                self._learn_list(field, value)
            elif kind is bool and seen == BOOLEAN:
                field.count += 1
            elif value is not None:
                self._learn_value(field, value)

    def _learn_value(self, field: _Field, value: Any) -> None:
        learner = self._learners.get(type(value))
        if learner is None:
            self.is_plain = False
            value = to_plain(value, drop_nan=self._drop_nan)
            learner = self._learners[type(value)]
        learner(field, value)

    def _learn_list(self, field: _Field, items: list[Json]) -> None:
        seen = field.seen
        for item in items:
            if type(item) is str and (seen == TEXT or (seen == KEYWORD and " " not in item)):
                field.count += 1
            else:
                self._learn_value(field, item)
                seen = field.seen

    def _learn_string(self, field: _Field, value: str) -> None:
        field.count += 1
        seen = field.seen
        if seen & TEXT:
            return
        kind = KEYWORD
        if " " in value and " " in value.strip():
            kind = TEXT
        elif not seen & KEYWORD and _is_date(value):
            kind = DATE
        if not seen & kind:
            self._see(field, kind)

    def _learn_integer(self, field: _Field, value: int) -> None:
        if not _MIN_LONG <= value <= _MAX_LONG:
            self.is_plain = False  # to_plain refuses it, and names its path
            return
        field.count += 1
        kind = INTEGER if _MIN_INTEGER <= value <= _MAX_INTEGER else LONG
        if not field.seen & kind:
            self._see(field, kind)

    def _learn_float(self, field: _Field, value: float) -> None:
        if value - value != 0.0:  # NaN or infinite
            self.is_plain = False
            return
        field.count += 1
        if not field.seen & FLOAT:
            self._see(field, FLOAT)

    def _learn_boolean(self, field: _Field, _value: bool) -> None:
        field.count += 1
        if not field.seen & BOOLEAN:
            self._see(field, BOOLEAN)

    def _learn_object(self, field: _Field, value: dict[str, Json]) -> None:
        if not value:
            return
        field.count += 1
        if not field.seen & OBJECT:
            self._see(field, OBJECT)
        if field.is_open:
            self._learn_fields(field, value)
        elif not is_plain(value):
            self.is_plain = False

    def _see(self, field: _Field, kind: int) -> None:
        field.examples[kind] = self.document_id
        field.seen |= kind
        if field.seen & OBJECT and field.seen != OBJECT:
            raise _conflict(field)

    def _add_field(self, parent: _Field, key: Any, value: Any) -> _Field | None:
        """Return the field of a new key, or None if its object has too many and `value` is only checked."""
        if parent.depth >= MAX_DEPTH:
            raise InvalidValueError(f"{parent.path[:60]}...", f"has objects nested more than {MAX_DEPTH} deep")
        if self._fields >= MAX_FIELDS and parent.is_open:
            self._close_widest()
        if not parent.is_open:
            self.is_plain = self.is_plain and type(key) is str and is_plain(value)
            return None
        name = check_key(key, parent.path)
        field = _Field(f"{parent.path}.{name}" if parent.path else name, parent.depth + 1)
        parent.children[name] = field
        self._fields += 1
        return field

    def _close_widest(self) -> None:
        objects = [field for field in _iterate(self._root) if field.is_open and field.children]
        widest = max(objects, key=lambda field: len(field.children))
        widest.is_open = False
        keys = len(widest.children)
        if widest is self._root:
            self.notes.append(
                f"Documents have more than {keys} different keys; fields beyond these cannot be searched. Put ids into values, "
                "not into keys."
            )
            return
        self.notes.append(
            f"Field {widest.path!r} has more than {keys} different keys, so what is in it cannot be searched. Make it a list of "
            "objects, with the ids as values."
        )
        self._fields -= sum(1 for _ in _iterate(widest)) - 1
        widest.children.clear()

    # Results

    def properties(self) -> Properties:
        """Return the mapping inferred so far, as OpenSearch writes it; `_id` is not in it."""
        return _properties(self._root)

    def counts(self) -> dict[str, int]:
        """Return, by path, how many documents or list items have the field."""
        return {field.path: field.count for field in _iterate(self._root) if field.count}

    def warnings(self) -> list[str]:
        """Return what authors should look at: odd keys, several types, objects with too many keys."""
        found = list(self.notes)
        for field in _iterate(self._root):
            if field.count:
                found += _field_warnings(field)
        if len(found) > _MAX_WARNINGS:
            found = [*found[:_MAX_WARNINGS], f"... and {len(found) - _MAX_WARNINGS} more warnings of this kind."]
        return found

    def dump(self) -> dict[str, Json]:
        """Return everything as JSON, for `absorb` in another process."""
        return {"notes": self.notes, "root": _dump_field(self._root)}

    def absorb(self, dumped: dict[str, Json]) -> None:
        """Add what another Inference dumped.

        Raises:
            MappingError: a field is an object in one and a scalar in the other.
        """
        self.notes += [note for note in dumped["notes"] if note not in self.notes]
        self._absorb_field(self._root, dumped["root"])

    def _absorb_field(self, field: _Field, dumped: dict[str, Json]) -> None:
        field.count += dumped["count"]
        field.seen |= dumped["seen"]
        for kind, example in dumped["examples"].items():
            field.examples.setdefault(int(kind), example)
        if field.seen & OBJECT and field.seen != OBJECT:
            raise _conflict(field)
        if not dumped["is_open"]:
            field.is_open = False
            if field is not self._root:
                self._fields -= sum(1 for _ in _iterate(field)) - 1
                field.children.clear()
        for key, child in dumped["children"].items():
            known = field.children.get(key) or self._add_absorbed(field, key)
            if known is not None:
                self._absorb_field(known, child)

    def _add_absorbed(self, parent: _Field, key: str) -> _Field | None:
        return self._add_field(parent, key, None)


def _id_field() -> _Field:
    field = _Field("_id", 1)
    field.seen = TEXT  # so that nothing more is asked of it
    return field


def _learn_nothing(_field: _Field, _value: None) -> None:
    """An empty value says nothing of a type."""


def _is_date(value: str) -> bool:
    size = len(value)
    # The two hyphens exclude the other forms that Python reads (20240102, 2024-W01-2).
    if size < _DAY_LENGTH or value[7] != "-" or value[4] != "-" or (size > _DAY_LENGTH and not _TIME.match(value, 10)):
        return False
    try:
        date.fromisoformat(value[:_DAY_LENGTH])
    except ValueError:
        return False
    return True


def _conflict(field: _Field) -> MappingError:
    scalar = next(kind for kind in field.examples if kind != OBJECT)
    return MappingError(
        f"Field {field.path!r} is an object in document {field.examples[OBJECT]!r} and {_NAMES[scalar]} in document "
        f"{field.examples[scalar]!r}. One field cannot be both: give one of them another key in the parser.",
        field=field.path,
        types=["object", _type_of(field.seen & ~OBJECT)],
        examples=[field.examples[OBJECT], field.examples[scalar]],
    )


def _iterate(field: _Field) -> Iterator[_Field]:
    """Yield all fields below one, and itself unless it is the root; `_id` is left out."""
    if field.path == "_id":
        return
    if field.path:
        yield field
    for child in field.children.values():
        yield from _iterate(child)


def _properties(parent: _Field) -> Properties:
    result: Properties = {}
    for key, field in parent.children.items():
        if field.path == "_id" or not field.count:
            continue
        if field.seen & OBJECT:
            inner = _properties(field)
            result[key] = {"properties": inner} if field.is_open else {"type": "object", "enabled": False}
        else:
            kind = _type_of(field.seen)
            result[key] = {"type": kind, **({"normalizer": KEYWORD_NORMALIZER} if kind == "keyword" else {})}
    return result


def _type_of(seen: int) -> str:
    """Return the one type that holds everything seen: text beats keyword, float beats integer, a mix is written as strings."""
    if seen & TEXT:
        return "text"
    groups = bool(seen & _STRINGS) + bool(seen & _NUMBERS) + bool(seen & BOOLEAN)
    if seen & KEYWORD or groups > 1:
        return "keyword"
    for kind, name in ((DATE, "date"), (BOOLEAN, "boolean"), (FLOAT, "float"), (LONG, "long")):
        if seen & kind:
            return name
    return "integer"


def _field_warnings(field: _Field) -> list[str]:
    found = []
    key = field.path.rpartition(".")[2]
    if not _GOOD_KEY.match(key):
        problems = [
            name
            for name, is_there in (
                ("upper case", key != key.lower()),
                ("white space", bool(re.search(r"\s", key))),
                ("characters other than letters, digits, '_' and '.'", bool(_BAD_CHARACTER.search(key))),
            )
            if is_there
        ]
        found.append(f"Field {field.path!r} has {' and '.join(problems)} in its key.")
    kinds = [kind for kind in (_STRINGS, _NUMBERS, BOOLEAN) if field.seen & kind]
    if len(kinds) > 1:
        examples = ", ".join(f"{_NAMES[kind]} in {example!r}" for kind, example in field.examples.items())
        found.append(f"Field {field.path!r} has several types ({examples}); it is mapped as {_type_of(field.seen)}.")
    return found


def _dump_field(field: _Field) -> dict[str, Json]:
    return {
        "count": field.count,
        "seen": field.seen if field.path != "_id" else TEXT,
        "examples": {str(kind): example for kind, example in field.examples.items()},
        "is_open": field.is_open,
        "children": {key: _dump_field(child) for key, child in field.children.items()},
    }
