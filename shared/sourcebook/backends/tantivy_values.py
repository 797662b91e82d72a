"""Values as tantivy holds them: what a JSON value of a document becomes, what a word of a query becomes, and back for facets.

Dates are milliseconds since 1970 and booleans 0 and 1, both in integer fields: one way for ranges, sorts and facets.
"""

import math
from collections.abc import Callable
from typing import Any

from sourcebook.backends.dates import format_date, read_date
from sourcebook.backends.tantivy_fields import MAX_LONG, MAX_TERM_BYTES, MIN_LONG, Kind, Leaf

Value = str | int | float


def plain_text(value: Any) -> str:
    """Return the text of a scalar: JSON's names for booleans, numbers as they are written."""
    if value.__class__ is str:
        return str(value)
    if value is True:
        return "true"
    return "false" if value is False else str(value)


def encode_keyword(leaf: Leaf, value: Any) -> str | None:
    """Return the term of a keyword, or None if it is too long to be searched."""
    text = plain_text(value)
    if len(text) > leaf.max_length or len(text) * 4 > MAX_TERM_BYTES < len(text.encode()):
        return None
    return text.lower() if leaf.has_lowercase else text


def encode_integer(_leaf: Leaf, value: Any) -> int | None:
    """Return a whole number; fractions are cut off, as OpenSearch does."""
    if value.__class__ is not int:
        number = _read_number(value)
        if number is None:
            return None
        value = int(number) if isinstance(number, float) else number
    return value if MIN_LONG <= value <= MAX_LONG else None


def encode_float(_leaf: Leaf, value: Any) -> float | None:
    """Return a number with a fraction."""
    number = _read_number(value)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return None


def encode_boolean(_leaf: Leaf, value: Any) -> int | None:
    """Return 0 or 1; an empty string is false, as in OpenSearch."""
    if value is True or value == "true":
        return 1
    return 0 if value is False or value in {"false", ""} else None


def encode_date(_leaf: Leaf, value: Any) -> int | None:
    """Return milliseconds since 1970."""
    if value.__class__ is int:
        return value if MIN_LONG <= value <= MAX_LONG else None
    span = read_date(value) if value.__class__ is str else None
    return None if span is None else span[0]


ENCODERS: dict[Kind, Callable[[Leaf, Any], Value | None]] = {
    Kind.KEYWORD: encode_keyword,
    Kind.INTEGER: encode_integer,
    Kind.FLOAT: encode_float,
    Kind.BOOLEAN: encode_boolean,
    Kind.DATE: encode_date,
}


def _read_number(value: Any) -> int | float | None:
    """Return the number that a value is or spells; None for booleans, infinities and everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    # Beyond 2**53 a float would change the digits of a whole number.
    return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() else number


def read_number(text: str) -> int | float | None:
    """Return the number that a word of a query spells, or None."""
    return _read_number(text)


def decode_value(kind: Kind, value: Any) -> Any:
    """Return a facet's term as JSON: dates as ISO 8601, booleans as booleans."""
    if kind is Kind.BOOLEAN:
        return bool(value)
    if kind is Kind.INTEGER:
        return int(value)
    if kind is Kind.DATE:
        return format_date(int(value))
    return value
