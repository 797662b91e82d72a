"""Describes an inference as a mapping: its properties, how often each field is there, and what authors should look at."""

import re

from sourcebook.model.mapping import KEYWORD_NORMALIZER, Properties
from sourcebook_uploader.fields import BOOLEAN, NUMBERS, OBJECT, STRINGS, TYPE_NAMES, Field
from sourcebook_uploader.infer import Inference, type_of

_MAX_WARNINGS = 50
_GOOD_KEY = re.compile(r"[a-z0-9_.]+\Z")
_BAD_CHARACTER = re.compile(r"[^A-Za-z0-9_.\s]")


def describe_properties(inference: Inference) -> Properties:
    """Return the mapping inferred so far, as OpenSearch writes it; `_id` is not in it."""
    return _properties(inference.root)


def _properties(parent: Field) -> Properties:
    result: Properties = {}
    for key, field in parent.children.items():
        if field.path == "_id" or not field.count:
            continue
        if field.seen & OBJECT:
            inner = _properties(field)
            result[key] = {"properties": inner} if field.is_open else {"type": "object", "enabled": False}
        else:
            kind = type_of(field.seen)
            result[key] = {"type": kind, **({"normalizer": KEYWORD_NORMALIZER} if kind == "keyword" else {})}
    return result


def count_fields(inference: Inference) -> dict[str, int]:
    """Return, by path, how many documents or list items have the field."""
    return {field.path: field.count for field in inference.fields()}


def list_warnings(inference: Inference) -> list[str]:
    """Return what authors should look at: objects with too many keys, odd keys, several types."""
    found = [*inference.notes, *(warning for field in inference.fields() for warning in _field_warnings(field))]
    if len(found) > _MAX_WARNINGS:
        found = [*found[:_MAX_WARNINGS], f"... and {len(found) - _MAX_WARNINGS} more warnings of this kind."]
    return found


def _field_warnings(field: Field) -> list[str]:
    found = []
    key = field.key
    if not _GOOD_KEY.match(key):
        problems = (
            ("upper case", key != key.lower()),
            ("white space", bool(re.search(r"\s", key))),
            ("characters other than letters, digits, '_' and '.'", bool(_BAD_CHARACTER.search(key))),
        )
        named = " and ".join(name for name, is_there in problems if is_there)
        found.append(f"Field {field.path!r} has {named} in its key.")
    groups = [group for group in (STRINGS, NUMBERS, BOOLEAN) if field.seen & group]
    if len(groups) > 1:
        examples = ", ".join(f"{TYPE_NAMES[kind]} in {example!r}" for kind, example in field.examples.items())
        found.append(f"Field {field.path!r} has several types ({examples}); it is mapped as {type_of(field.seen)}.")
    return found
