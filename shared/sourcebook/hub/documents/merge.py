"""The deep merge of two documents with the same `_id`; uploads use it for duplicates, builds for sources that ask for it.

Two values are equal if their canonical JSON is: `1`, `1.0` and `true` are three values.
"""

from collections.abc import Hashable
from typing import Any

import orjson

from sourcebook.hub.documents.record import Json


def deep_merge(first: dict[str, Json], second: dict[str, Json]) -> dict[str, Json]:
    """Return `first` and `second` in one; neither is changed, but the result shares parts with both.

    Objects are merged by key. A list takes what the other side has and it has not; equal values stay one, different ones
    become a list of both.

    >>> deep_merge({"a": 1, "b": ["x"], "c": {"d": 1}}, {"a": 2, "b": ["x", "y"], "c": {"e": 2}})
    {'a': [1, 2], 'b': ['x', 'y'], 'c': {'d': 1, 'e': 2}}
    """
    merged = dict(first)
    for key, value in second.items():
        merged[key] = _merge_values(merged[key], value) if key in merged else value
    return merged


def _merge_values(first: Json, second: Json) -> Json:
    if type(first) is dict and type(second) is dict:
        return deep_merge(first, second)
    if type(first) is list:
        return _extend(first, second if type(second) is list else [second])
    if type(second) is list:
        return _extend([first], second)
    return first if _identity(first) == _identity(second) else [first, second]


def _extend(items: list[Json], more: list[Json]) -> list[Json]:
    known = {_identity(item) for item in items}
    return items + [item for item in more if _identity(item) not in known]


def _identity(value: Any) -> Hashable:
    """Return something hashable that is equal for equal JSON values only, so that long lists are not compared pair by pair."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is dict or kind is list:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return kind, value
