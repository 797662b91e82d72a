"""Infers the mapping of documents while they are parsed: one walk over each, and memory that does not grow with their number."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sourcebook.hub.documents.record import Json
from sourcebook_uploader.dates import KnownDates
from sourcebook_uploader.fields import (
    BOOLEAN,
    DATE,
    FLOAT,
    INTEGER,
    KEYWORD,
    LONG,
    LONG_STRING,
    MAX_INTEGER,
    MAX_LONG,
    MAX_PHRASE_CHARACTERS,
    MAX_PHRASES,
    MAX_TERM_BYTES,
    MIN_INTEGER,
    MIN_LONG,
    NUMBERS,
    OBJECT,
    PHRASE,
    SHORT_CHARACTERS,
    STRINGS,
    SURE_TERM_CHARACTERS,
    TEXT,
    UNSEARCHABLE,
    WORDS,
    Field,
)
from sourcebook_uploader.shapes import Shape, UnknownShapeError
from sourcebook_uploader.validate import MAX_DEPTH, InvalidValueError, check_key, is_plain, to_plain

MAX_FIELDS = 5000  # OpenSearch allows 1000 by default; more are ids used as keys

_NONE_TYPE = type(None)
_MAX_SHAPES = 500  # that are described: a few for each field that changes, or a few for each kind of document
_MAX_PHRASES = 100_000  # of all fields together


class Inference:
    """The types of all fields so far.

    Call `learn` with each document (or `learn_new`, if its shape does not accept it); it says whether the document can be stored
    as it is. If not, `validate.to_plain` copies it.
    """

    def __init__(self, *, drop_nan: bool = False) -> None:
        self.document_id = ""
        self._is_plain = True
        self.notes: list[str] = []
        self._drop_nan = drop_nan
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self.only_shape: Shape | None = None  # as long as there is one: many sources have documents of one kind
        self._shapes_left = _MAX_SHAPES
        self._phrases_left = _MAX_PHRASES
        self._dates = KnownDates()
        self.root = Field("", "", 0)
        self.root.children["_id"] = _id_field()
        self._fields = 0
        self._learners: dict[type, Callable[[Field, Any], None]] = {
            str: self._learn_string,
            int: self._learn_integer,
            float: self._learn_float,
            bool: self._learn_boolean,
            _NONE_TYPE: _learn_nothing,
            list: self._learn_list,
            dict: self._learn_object,
        }

    def learn(self, document_id: str, document: dict[str, Json]) -> bool:
        """Take the types of one document into account; return whether it consists of plain JSON values.

        Raises:
            InvalidValueError: a key or value is not JSON, or it is nested too deeply.
        """
        shape = self.only_shape or self.find_shape(document)
        return (shape is not None and shape.accepts(document)) or self.learn_new(document_id, document)

    def find_shape(self, document: dict[str, Json]) -> Shape | None:
        """Return the shape of the documents with the same root keys, if it is known."""
        return self._shapes.get((*document,))

    def learn_new(self, document_id: str, document: dict[str, Json]) -> bool:
        """As `learn`, for a document that no shape accepts."""
        self.document_id = document_id
        self._is_plain = True
        self._learn_fields(self.root, document)
        if self._is_plain:
            self._note_shape(document)
        return self._is_plain

    def _note_shape(self, document: dict[str, Json]) -> None:
        """Have documents like this one recognised from now on; give up a shape that too few have."""
        keys = (*document,)
        shape = self._shapes.get(keys)
        if shape is None:
            if self._shapes_left:
                self._shapes_left -= 1
                with contextlib.suppress(UnknownShapeError):
                    self._shapes[keys] = Shape(self.root, document, self._dates)
        elif not shape.stays_useful():
            shape.settle()
            del self._shapes[keys]
        self.only_shape = self._shapes.get(keys) if len(self._shapes) == 1 else None

    def _forget_shapes(self) -> None:
        """Begin anew when something new was learned, or when the counts are wanted."""
        for shape in self._shapes.values():
            shape.settle()
        self._shapes.clear()
        self.only_shape = None

    # The hot loop: what is already known of a field is recognised here, everything else is learned below.
    def _learn_fields(self, parent: Field, document: dict[str, Json]) -> None:  # noqa: C901, PLR0912 - one call a document
        children, dates = parent.children, self._dates
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
                size = len(value)
                if (
                    size <= field.known_text
                    or (size <= field.known_word and " " not in value)
                    or (seen == DATE and value in dates)
                    or value in field.phrases
                ):
                    field.count += 1
                else:
                    self._learn_string(field, value)
            elif kind is int:
                if seen == INTEGER and MIN_INTEGER <= value <= MAX_INTEGER:
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

    def _learn_value(self, field: Field, value: Any) -> None:
        learner = self._learners.get(type(value))
        if learner is None:
            self._is_plain = False
            value = to_plain(value, drop_nan=self._drop_nan)
            learner = self._learners[type(value)]
        learner(field, value)

    def _learn_list(self, field: Field, items: list[Json]) -> None:
        for item in items:
            if type(item) is str and (
                len(item) <= field.known_text or (len(item) <= field.known_word and " " not in item)
            ):
                field.count += 1
            else:
                self._learn_value(field, item)

    def _learn_string(self, field: Field, value: str) -> None:
        field.count += 1
        seen = field.seen
        size = len(value)
        kind = LONG_STRING if size > SHORT_CHARACTERS else 0
        if seen & TEXT:
            pass
        elif (" " in value or not seen & (KEYWORD | PHRASE)) and self._dates.read(value):
            kind |= DATE
        elif " " in value and " " in value.strip():
            kind |= self._learn_phrase(field, value)
        else:
            kind |= KEYWORD
            if size > SURE_TERM_CHARACTERS and len(value.encode(errors="replace")) > MAX_TERM_BYTES:
                kind |= UNSEARCHABLE
        if kind & ~seen:
            self._see(field, kind & ~seen)

    def _learn_phrase(self, field: Field, value: str) -> int:
        """Return what a text makes of a field: one of many, or a category that is remembered."""
        known = field.phrases
        if value not in known:
            if len(value) > MAX_PHRASE_CHARACTERS or len(known) >= MAX_PHRASES or not self._phrases_left:
                return TEXT
            self._phrases_left -= 1
            known.add(value)
        return PHRASE

    def _learn_integer(self, field: Field, value: int) -> None:
        if not MIN_LONG <= value <= MAX_LONG:
            self._is_plain = False  # to_plain refuses it, and names its path
            return
        field.count += 1
        kind = INTEGER if MIN_INTEGER <= value <= MAX_INTEGER else LONG
        if not field.seen & kind:
            self._see(field, kind)

    def _learn_float(self, field: Field, value: float) -> None:
        if value - value != 0.0:  # NaN or infinite
            self._is_plain = False
            return
        field.count += 1
        if not field.seen & FLOAT:
            self._see(field, FLOAT)

    def _learn_boolean(self, field: Field, _value: bool) -> None:
        field.count += 1
        if not field.seen & BOOLEAN:
            self._see(field, BOOLEAN)

    def _learn_object(self, field: Field, value: dict[str, Json]) -> None:
        if not value:
            return
        field.count += 1
        if not field.seen & OBJECT:
            self._see(field, OBJECT)
        if field.is_open:
            self._learn_fields(field, value)
        elif not is_plain(value):
            self._is_plain = False

    def _see(self, field: Field, kind: int) -> None:
        self._forget_shapes()
        for bit in (1 << position for position in range(kind.bit_length())):
            if kind & bit:
                field.examples[bit] = self.document_id
        self._phrases_left += len(field.phrases)
        field.see(kind)
        self._phrases_left -= len(field.phrases)

    def _add_field(self, parent: Field, key: Any, value: Any) -> Field | None:
        """Return the field of a new key, or None if its object has too many and `value` is only checked."""
        if parent.depth >= MAX_DEPTH:
            raise InvalidValueError(f"{parent.path[:60]}...", f"has objects nested more than {MAX_DEPTH} deep")
        if self._fields >= MAX_FIELDS and parent.is_open:
            self._close_widest()
        if not parent.is_open:
            self._is_plain = self._is_plain and type(key) is str and is_plain(value)
            return None
        name = check_key(key, parent.path)
        field = Field(name, f"{parent.path}.{name}" if parent.path else name, parent.depth + 1)
        parent.children[name] = field
        self._fields += 1
        return field

    def _close_widest(self) -> None:
        objects = [field for field in (self.root, *_iterate(self.root)) if field.is_open and field.children]
        widest = max(objects, key=lambda field: len(field.children))
        keys = len(widest.children)
        if widest is self.root:
            self.notes.append(
                f"Documents have {keys} different keys and more; fields beyond these cannot be searched. Put ids into values, "
                "not into keys."
            )
        else:
            self.notes.append(
                f"Field {widest.path!r} has {keys} different keys and more, so what is in it cannot be searched. Make it a list "
                "of objects, with the ids as values."
            )
        self._close(widest)

    def _close(self, field: Field) -> None:
        self._forget_shapes()
        field.is_open = False
        if field is not self.root:
            self._fields -= sum(1 for _ in _iterate(field)) - 1
            field.children.clear()

    # Results (`describe` makes a mapping of them)

    def fields(self) -> Iterator[Field]:
        """Yield all fields that have a value somewhere, objects before what is in them; `_id` is left out."""
        self._forget_shapes()
        return (field for field in _iterate(self.root) if field.count)

    def dump(self) -> dict[str, Json]:
        """Return everything as JSON, for `absorb` in another process."""
        self._forget_shapes()
        return {"notes": self.notes, "root": _dump_field(self.root)}

    def absorb(self, dumped: dict[str, Json]) -> None:
        """Add what another Inference dumped."""
        self._forget_shapes()
        self.notes += [note for note in dumped["notes"] if note not in self.notes]
        self._absorb_field(self.root, dumped["root"])

    def _absorb_field(self, field: Field, dumped: dict[str, Json]) -> None:
        field.count += dumped["count"]
        before = len(field.phrases)
        field.phrases.update(dumped["phrases"])
        is_crowded = len(field.phrases) > MAX_PHRASES or len(field.phrases) - before > self._phrases_left
        field.see(dumped["seen"] | (TEXT if is_crowded else 0))
        self._phrases_left += before - len(field.phrases)
        for kind, example in dumped["examples"].items():
            field.examples.setdefault(int(kind), example)
        for key, child in dumped["children"].items():
            known = field.children.get(key) or self._add_field(field, key, None)
            if known is not None:
                self._absorb_field(known, child)
        if not dumped["is_open"] and field.is_open:
            self._close(field)


def _id_field() -> Field:
    field = Field("_id", "_id", 1)
    field.see(TEXT | LONG_STRING)  # so that nothing more is asked of it
    return field


def _learn_nothing(_field: Field, _value: None) -> None:
    """An empty value says nothing of a type."""


def _iterate(field: Field) -> Iterator[Field]:
    """Yield all fields below one, and itself unless it is the root; `_id` is left out."""
    if field.path == "_id":
        return
    if field.path:
        yield field
    for child in field.children.values():
        yield from _iterate(child)


def type_of(seen: int) -> str:
    """Return the one type that holds everything seen: text beats keyword, float beats integer, a mix is written as strings."""
    if seen & WORDS:
        return "text"
    groups = bool(seen & STRINGS) + bool(seen & NUMBERS) + bool(seen & BOOLEAN)
    if seen & KEYWORD or groups > 1:
        return "keyword"
    for kind, name in ((DATE, "date"), (BOOLEAN, "boolean"), (FLOAT, "float"), (LONG, "long")):
        if seen & kind:
            return name
    return "integer"


def _dump_field(field: Field) -> dict[str, Json]:
    return {
        "count": field.count,
        "seen": field.seen,
        "examples": {str(kind): example for kind, example in field.examples.items()},
        "is_open": field.is_open,
        "phrases": sorted(field.phrases),
        "children": {key: _dump_field(child) for key, child in field.children.items()},
    }
