"""Recognises documents that are like an earlier one: the same keys, and values of types that are known at these keys.

They teach nothing new, so they need not be walked through: msgspec compares them with a description of their shape in one
call, which takes half of the time of the walk in `infer`.
"""

import datetime as dt
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from sourcebook.hub.documents.record import Json
from sourcebook.language.iso_dates import DAY_LENGTH
from sourcebook_uploader.dates import KnownDates
from sourcebook_uploader.fields import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    KEYWORD,
    LONG,
    LONG_STRING,
    MAX_INTEGER,
    MIN_INTEGER,
    PHRASE,
    SHORT_CHARACTERS,
    STRINGS,
    SURE_TERM_CHARACTERS,
    TEXT,
    Field,
)

_TRIES = 64
_WANTED = 0.75  # of the documents with these keys; fewer, and trying costs more than it saves
_SMALL_INTEGER = Annotated[int, msgspec.Meta(ge=MIN_INTEGER, le=MAX_INTEGER)]
_MAX_FLOAT = 1.7976931348623157e308
_SHORT = Annotated[str, msgspec.Meta(max_length=SHORT_CHARACTERS)]
_TERM = Annotated[str, msgspec.Meta(max_length=SURE_TERM_CHARACTERS)]
# Not `float` alone, which would turn an integer into one; NaN is not in the range.
_FLOAT = Annotated[float, msgspec.Meta(ge=-_MAX_FLOAT, le=_MAX_FLOAT)] | int

_convert = msgspec.convert

_Get = Callable[[Any], Any]


class UnknownShapeError(Exception):
    """A document has values that can only be judged one by one."""


class Shape:
    """The shape of a document that was just learned.

    Args:
        root: what is known of all fields.
        document: a document, not empty.
        dates: the dates that were read before.

    Raises:
        UnknownShapeError: documents like this one cannot be recognised.
    """

    def __init__(self, root: Field, document: dict[str, Json], dates: KnownDates) -> None:
        self._dates = dates
        self._accepted = 0
        self._refused = 0
        self._fields: list[Field] = []  # each document has one value of each
        self._lists: list[tuple[Field, _Get]] = []
        # What the types do not say: strings in which there must be no space, dates, and numbers that must not be integers.
        self._words: list[str] = []
        self._get_word_lists: list[_Get] = []
        self._get_dates: list[_Get] = []
        self._phrases: list[tuple[Field, _Get]] = []
        self._get_floats: list[_Get] = []
        self._type = self._describe_object(root, document, "")
        # With one name alone, `attrgetter` would not return a tuple.
        self._get_words = attrgetter(*self._words, self._words[0]) if self._words else None

    def stays_useful(self) -> bool:
        """Note that a document with these keys was refused; return whether most of them still have this shape."""
        self._refused += 1
        tried = self._accepted + self._refused
        return tried < _TRIES or self._accepted > tried * _WANTED

    def accepts(self, document: dict[str, Json]) -> bool:  # noqa: C901 - one call a document
        """Count a document with the same root keys if it has this shape; return whether it does."""
        try:
            values = _convert(document, self._type)
        except msgspec.ValidationError:
            return False
        get_words, dates = self._get_words, self._dates
        if get_words is not None and " " in "".join(get_words(values)):
            return False
        for get in self._get_word_lists:
            if " " in "".join(get(values)):
                return False
        for get in self._get_dates:
            if (value := get(values)) not in dates and not dates.read(value):
                return False
        for field, get in self._phrases:
            if (value := get(values)) not in field.phrases and (" " in value or not field.seen & KEYWORD):
                return False
        for get in self._get_floats:
            if type(get(values)) is not float:
                return False
        for field, get in self._lists:
            field.count += len(get(values))
        self._accepted += 1
        return True

    def settle(self) -> None:
        """Add the documents that were counted to the fields."""
        for field in self._fields:
            field.count += self._accepted
        self._accepted = self._refused = 0

    def _describe_object(self, parent: Field, value: dict[str, Json], path: str) -> type[msgspec.Struct]:
        fields, names = [], {}
        for number, (key, item) in enumerate(value.items()):
            name = f"f{number}"
            fields.append((name, self._describe(parent.children.get(key), item, path + name)))
            names[name] = key
        try:
            return msgspec.defstruct("Shape", fields, rename=names, forbid_unknown_fields=True, gc=False)
        except ValueError as error:  # a key that msgspec would have to escape
            raise UnknownShapeError from error

    def _describe(self, field: Field | None, value: Json, path: str) -> Any:
        """Return the type of a value for msgspec, and note what that does not say."""
        if field is None or not field.is_open:
            raise UnknownShapeError
        if type(value) is list and _is_list_of_strings(field):
            self._lists.append((field, attrgetter(path)))
            if not field.seen & TEXT:
                self._get_word_lists.append(attrgetter(path))
            return list[_limit_length(field)]  # type: ignore[misc] # a type that is made here
        self._fields.append(field)
        if type(value) is dict and value:
            return self._describe_object(field, value, path + ".")
        if type(value) is str:
            return self._describe_string(field, value, path)
        if type(value) is float and field.seen & FLOAT:
            if not field.seen & INTEGER:
                self._get_floats.append(attrgetter(path))
            return _FLOAT
        return _describe_number(field, value)

    def _describe_string(self, field: Field, value: str, path: str) -> Any:
        if not field.seen & TEXT:
            if field.seen & PHRASE:
                self._phrases.append((field, attrgetter(path)))
            elif field.seen & KEYWORD:
                self._words.append(path)
            elif len(value) == DAY_LENGTH:
                return dt.date  # msgspec reads just what `dates` takes for a day; date objects are written as that, too
            else:
                self._get_dates.append(attrgetter(path))
        return _limit_length(field)


def _is_list_of_strings(field: Field) -> bool:
    """Whether every item is known to be a string, and is judged by nothing but its spaces and its length."""
    kinds = field.seen & ~LONG_STRING
    return kinds == KEYWORD or (bool(kinds & TEXT) and not kinds & ~STRINGS)


def _limit_length(field: Field) -> Any:
    """Return the type of strings that are not longer than those that the field is known to have."""
    if not field.seen & LONG_STRING:
        return _SHORT
    return str if field.seen & TEXT else _TERM


def _describe_number(field: Field, value: Json) -> Any:
    if type(value) is bool and field.seen & BOOLEAN:
        return bool
    if type(value) is int and field.seen & INTEGER:
        return int if field.seen & LONG else _SMALL_INTEGER
    raise UnknownShapeError
