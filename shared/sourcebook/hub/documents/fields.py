"""What the values of one field are, counted over many documents."""

import json
from typing import Any

from pydantic import BaseModel, Field

_MAX_DISTINCT = 100_000
_MAX_DISTINCT_BYTES = 16 * 1024 * 1024
_EXAMPLES = 5
_TYPES = {str: "string", int: "integer", float: "float", bool: "boolean", dict: "object"}


class FieldStatistics(BaseModel):
    """What one field holds."""

    field: str
    documents: int = 0
    """Documents that were looked at."""
    count: int = 0
    """Documents that have a value in the field, however many values it has there."""
    values: int = 0
    """Values, those in lists one by one."""
    distinct: int = 0
    distinct_is_exact: bool = True
    """False if there are more different values than are remembered."""
    types: dict[str, int] = Field(default_factory=dict)
    min: Any = None
    max: Any = None
    """Smallest and largest number if there are numbers, else string."""
    examples: list[Any] = Field(default_factory=list)
    example_ids: list[str] = Field(default_factory=list)
    """The first documents that have the field."""


class FieldCounter:
    """Counts the values of a field; its memory does not grow with the number of documents."""

    def __init__(self, field: str) -> None:
        self._told = FieldStatistics(field=field)
        self._seen: set[str] = set()
        self._bytes = 0
        self._numbers: list[float] = []
        self._strings: list[str] = []

    def add(self, document: dict[str, Any]) -> None:
        """Look at a document."""
        told = self._told
        told.documents += 1
        values = list(iterate_values(document, told.field))
        if not values:
            return
        told.count += 1
        if len(told.example_ids) < _EXAMPLES:
            told.example_ids.append(document["_id"])
        for value in values:
            self._add_value(value)

    def _add_value(self, value: Any) -> None:
        told = self._told
        told.values += 1
        kind = _TYPES[type(value)]
        told.types[kind] = told.types.get(kind, 0) + 1
        if isinstance(value, str):
            self._strings = [min([*self._strings[:1], value]), max([*self._strings[1:], value])]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._numbers = [min([*self._numbers[:1], value]), max([*self._numbers[1:], value])]
        text = json.dumps(value, sort_keys=True)
        if text in self._seen:
            return
        if len(self._seen) >= _MAX_DISTINCT or self._bytes >= _MAX_DISTINCT_BYTES:
            told.distinct_is_exact = False
            return
        self._seen.add(text)
        self._bytes += len(text)
        if len(told.examples) < _EXAMPLES:
            told.examples.append(value)

    def statistics(self) -> FieldStatistics:
        """Return what was counted so far."""
        low, high = self._numbers or self._strings or (None, None)
        return self._told.model_copy(update={"distinct": len(self._seen), "min": low, "max": high})


def iterate_values(value: Any, path: str) -> Any:
    """Yield the values at a dotted path of a document, through lists; a dot may also stand in a key.

    >>> list(iterate_values({"a": [{"b": 1}, {"b": [2, 3]}], "a.b": 4}, "a.b"))
    [4, 1, 2, 3]
    """
    if isinstance(value, list):
        for item in value:
            yield from iterate_values(item, path)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, dict):
        parts = path.split(".")
        for count in range(len(parts), 0, -1):
            key = ".".join(parts[:count])
            if key in value:
                yield from iterate_values(value[key], ".".join(parts[count:]))
