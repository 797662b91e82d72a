"""Describes an inference as a mapping: its properties, how often each field is there, and what authors should look at."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from sourcebook.hub.mappings.model import EXACT, KEYWORD_NORMALIZER, Properties
from sourcebook.language.requests import ALL_FIELD
from sourcebook_uploader.fields import (
    BOOLEAN,
    LONG_STRING,
    MAX_PHRASES,
    MAX_TERM_BYTES,
    NUMBERS,
    OBJECT,
    PHRASE,
    SCALARS,
    STRINGS,
    TEXT,
    TYPE_NAMES,
    UNSEARCHABLE,
    Field,
)
from sourcebook_uploader.infer import Inference, type_of

_MAX_NAMES = 20
_KEYWORD = {"type": "keyword", "normalizer": KEYWORD_NORMALIZER}
_GOOD_KEY = re.compile(r"[a-z0-9_.]+\Z")
_BAD_CHARACTER = re.compile(r"[^A-Za-z0-9_.\s]")


def describe_properties(inference: Inference) -> Properties:
    """Return the mapping inferred so far, as OpenSearch writes it; `_id` is not in it."""
    return _properties(_expand_dots(inference))


def _expand_dots(inference: Inference) -> Field:
    """Return the root of all fields, each path once: in queries and indices, `{"a.b": 1}` is `{"a": {"b": 1}}`."""
    fields = list(inference.fields())
    if not any("." in field.key for field in fields):
        return inference.root
    root = Field("", "", 0)
    for field in fields:
        _add_at_its_path(root, field)
    return root


def _add_at_its_path(root: Field, field: Field) -> None:
    node = root
    for key in field.path.split("."):
        path = f"{node.path}.{key}" if node.path else key
        node = node.children.setdefault(key, Field(key, path, node.depth + 1))
        if path == field.path:
            break
        node.count = max(node.count, field.count) if node.seen & OBJECT else node.count + field.count
        node.see(OBJECT)
        node.examples.setdefault(OBJECT, next(iter(field.examples.values()), ""))
    node.phrases |= field.phrases
    node.see(field.seen | (TEXT if len(node.phrases) > MAX_PHRASES else 0))
    # An object that dots made before may have been counted by what is in it.
    node.count = max(node.count, field.count) if field.seen & OBJECT else node.count + field.count
    node.examples = {**field.examples, **node.examples}
    node.is_open = node.is_open and field.is_open


def _iterate(parent: Field) -> Iterator[Field]:
    for field in parent.children.values():
        if field.path != "_id" and field.count:
            yield field
            yield from _iterate(field)


def _properties(parent: Field) -> Properties:
    result: Properties = {}
    for key, field in parent.children.items():
        if field.path == "_id" or not field.count:
            continue
        result[key] = _describe_field(field)
    return result


def _describe_field(field: Field) -> dict[str, Any]:
    if field.seen & OBJECT:
        # An index has one type for a field: what is an object here and a value there is only stored.
        is_indexed = field.is_open and not field.seen & SCALARS
        return {"properties": _properties(field)} if is_indexed else {"type": "object", "enabled": False}
    kind = type_of(field.seen)
    # A word without a field name is looked for wherever people may have seen it, but not in sequences and abstracts.
    is_searched = kind in {"keyword", "text"} and not field.seen & LONG_STRING
    copied = {"copy_to": ALL_FIELD} if is_searched else {}
    if kind == "keyword":
        return {**_KEYWORD, **copied}
    if field.seen & PHRASE and not field.seen & TEXT:
        return {"type": kind, "fields": {EXACT: dict(_KEYWORD)}, **copied}
    return {"type": kind, **copied}


def count_fields(inference: Inference) -> dict[str, int]:
    """Return, by path, how many documents or list items have the field."""
    return {field.path: field.count for field in _iterate(_expand_dots(inference))}


def list_warnings(inference: Inference, decided: Collection[str] = ()) -> list[str]:
    """Return what authors should look at: objects with too many keys, odd keys, several types.

    Args:
        inference: the types of the documents.
        decided: paths of fields that have another type in the mapping, so that what the types lead to is not said of them.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for field in _iterate(_expand_dots(inference)):
        warnings = _key_warnings(field) if field.path in decided else _field_warnings(field)
        for kind, text in warnings:
            kinds.setdefault(kind, []).append((field.path, text))
    return [*inference.notes, *(_join_warnings(found) for found in kinds.values())]


def _join_warnings(found: list[tuple[str, str]]) -> str:
    """Return one line for warnings of one kind, each of a field."""
    (_, text), *others = found
    if not others:
        return text
    names = ", ".join(repr(path) for path, _ in others[:_MAX_NAMES])
    more = f" and {len(others) - _MAX_NAMES} more" if len(others) > _MAX_NAMES else ""
    return f"{text} The same goes for {names}{more}."


def describe_kinds(field: Field) -> str:
    """Return what a field was seen to be, with the first document of each kind: "an integer in '1', a float in '7'"."""
    return ", ".join(f"{name} in {field.examples[kind]!r}" for kind, name in TYPE_NAMES.items() if field.seen & kind)


def _key_warnings(field: Field) -> Iterator[tuple[str, str]]:
    key = field.key
    if not _GOOD_KEY.match(key):
        problems = (
            ("upper case", key != key.lower()),
            ("white space", bool(re.search(r"\s", key))),
            ("characters other than letters, digits, '_' and '.'", bool(_BAD_CHARACTER.search(key))),
        )
        named = " and ".join(name for name, is_there in problems if is_there)
        yield named, f"Field {field.path!r} has {named} in its key."


def _field_warnings(field: Field) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each warning."""
    yield from _key_warnings(field)
    kinds = describe_kinds(field)
    if field.seen & OBJECT and field.seen & SCALARS:
        text = (
            f"Field {field.path!r} is an object in some documents and a value in others ({kinds}): it is stored, but cannot be "
            "searched. Give one of them another key in the parser."
        )
        yield "mixed", text
    elif sum(bool(field.seen & group) for group in (STRINGS, NUMBERS, BOOLEAN)) > 1:
        text = f"Field {field.path!r} has several types ({kinds}); it is mapped as {type_of(field.seen)}."
        yield f"several types: {type_of(field.seen)}", text
    if field.seen & UNSEARCHABLE and type_of(field.seen) == "keyword":
        first = field.examples[UNSEARCHABLE]
        text = (
            f"Field {field.path!r} has values of more than {MAX_TERM_BYTES:,} bytes (the first in {first!r}): they are stored, "
            f"but too long to be searched; the query `_ignored:{field.path}` finds their documents."
        )
        yield "long", text
