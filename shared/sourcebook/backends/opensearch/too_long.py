"""Keywords that are too long for an index, of which OpenSearch says nothing: documents that have one say so themselves.

Such a document is stored with the paths of those fields in front, in a field of ours. One with a value that Lucene would refuse
(it counts bytes, `ignore_above` characters) is stored whole beside what is indexed of it, which goes without that value.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from sourcebook.backends.opensearch.mapping import (
    BODY_KEY,
    HEAD,
    ID_KEY,
    IGNORED_KEY,
    MAX_TERM_BYTES,
    STORED_HEAD,
    list_leaves,
)
from sourcebook.hub.mappings.model import Properties, iterate_fields

_MARKED_HEAD = f'{{"{IGNORED_KEY}":'.encode()
_AFTER_MARK = f',"{ID_KEY}":'.encode()
_BYTES_PER_CHARACTER = 3  # at most, of those that Java counts


class _Field(NamedTuple):
    path: str
    keys: tuple[str, ...]
    """Where its values are; a multi-field has those of the field that it belongs to."""
    limit: int
    """In characters, as Java counts them."""


class _Marked(msgspec.Struct):
    body: msgspec.Raw = msgspec.field(name=BODY_KEY, default=msgspec.Raw(b""))


class TooLongMarker:
    """Turns the body of a document into what is stored of it, for one mapping."""

    def __init__(self, properties: Properties) -> None:
        self._fields = list(_list_keywords(properties))
        self._longest = min((field.limit for field in self._fields), default=0)

    def store(self, body: bytes) -> bytes:
        """Return a document as OpenSearch stores it."""
        rest = body[len(HEAD) :]
        if len(body) <= self._longest or not self._fields:  # nearly all
            return STORED_HEAD + rest
        document = orjson.loads(body)
        ignored, refused = [], []
        for field in self._fields:
            values = [value for value in _find_texts(document, field.keys) if len(value) * 2 > field.limit]
            if any(_count_characters(value) > field.limit for value in values):
                ignored.append(field.path)
            if any(_is_refused(value, field.limit) for value in values):
                refused.append(field)
        if not ignored and not refused:
            return STORED_HEAD + rest
        marks = orjson.dumps(list(dict.fromkeys([*ignored, *(field.path for field in refused)])))
        if not refused:
            return _MARKED_HEAD + marks + _AFTER_MARK + rest
        for field in refused:
            _remove_refused(document, field.keys, field.limit)
        document[ID_KEY] = document.pop("_id")
        whole = orjson.Fragment(STORED_HEAD + rest)
        return orjson.dumps({IGNORED_KEY: orjson.Fragment(marks), BODY_KEY: whole, **document})


def read_stored(source: bytes) -> bytes:
    """Return the body of a document that is stored so."""
    if source.startswith(STORED_HEAD):
        return HEAD + source[len(STORED_HEAD) :]
    whole = bytes(msgspec.json.decode(source, type=_Marked).body)
    if whole:
        return HEAD + whole[len(STORED_HEAD) :]
    # Within a text the quotation marks would be escaped.
    return HEAD + source[source.index(_AFTER_MARK) + len(_AFTER_MARK) :]


def _list_keywords(properties: Properties) -> Iterator[_Field]:
    searched = list_leaves(properties)
    for entry in iterate_fields(properties):
        keys = tuple(entry.path.split("."))
        named = {entry.path: entry.spec}
        named |= {f"{entry.path}.{suffix}": spec for suffix, spec in entry.spec.get("fields", {}).items()}
        for path, spec in named.items():
            if searched.get(path) == "keyword":
                yield _Field(path, keys, int(spec.get("ignore_above", MAX_TERM_BYTES)))


def _find_texts(value: Any, keys: Sequence[str]) -> Iterator[str]:
    """Yield the texts at a path; keys with dots are read as objects."""
    if isinstance(value, list):
        for item in value:
            yield from _find_texts(item, keys)
    elif isinstance(value, str):
        if not keys:
            yield value
    elif isinstance(value, dict):
        for count in range(1, len(keys) + 1):
            yield from _find_texts(value.get(".".join(keys[:count])), keys[count:])


def _remove_refused(value: Any, keys: Sequence[str], limit: int) -> Any:
    """Take the texts at a path that are refused out of a document; return what is left of the value."""
    if isinstance(value, list):
        return [_remove_refused(item, keys, limit) for item in value]
    if isinstance(value, str):
        return None if not keys and _is_refused(value, limit) else value
    if isinstance(value, dict):
        for count in range(1, len(keys) + 1):
            key = ".".join(keys[:count])
            if key in value:
                value[key] = _remove_refused(value[key], keys[count:], limit)
    return value


def _count_characters(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "replace")) // 2


def _is_refused(text: str, limit: int) -> bool:
    """Whether Lucene would refuse the document for this text; small letters may have more bytes."""
    if text.isascii() or len(text) * 2 * _BYTES_PER_CHARACTER <= MAX_TERM_BYTES or _count_characters(text) > limit:
        return False
    return max(len(form.encode(errors="replace")) for form in (text, text.lower())) > MAX_TERM_BYTES
