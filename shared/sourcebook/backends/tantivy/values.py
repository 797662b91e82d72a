"""Values as tantivy holds them: what a JSON value of a document becomes, what a word of a query becomes, and back for facets.

Every number is a whole one: dates are milliseconds since 1970, booleans 0 and 1, and a fraction is the place of its bits in the
order of all fractions. So ranges, sorts and facets have one way, and none of them rounds: tantivy reads a fraction in JSON
inexactly (one in six with 17 digits becomes its neighbour), a whole number as it is.
"""

import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sourcebook.backends.tantivy.fields import MAX_LONG, MAX_TERM_BYTES, MIN_LONG, Kind, Leaf
from sourcebook.language.dates import format_date, read_date

Value = str | int

_DOUBLE, _LONG = struct.Struct("<d"), struct.Struct("<q")
_MAGNITUDE = 2**63 - 1
_EXACT = 2.0**53  # from here on a float has no room for the digits of every whole number
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")


def order_float(number: float) -> int:
    """Return the place of a fraction among all fractions, from which it can be told exactly; zero has no sign.

    >>> order_float(-1.5) < order_float(0.0) < order_float(5e-324) < order_float(1e308)
    True
    """
    (bits,) = _LONG.unpack(_DOUBLE.pack(number + 0.0))
    return int(bits) if bits >= 0 else int(bits) ^ _MAGNITUDE


def float_at(place: int) -> float:
    """Return the fraction that has a place in the order."""
    (number,) = _DOUBLE.unpack(_LONG.pack(place if place >= 0 else place ^ _MAGNITUDE))
    return float(number)


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
        value = int(number)
    return value if MIN_LONG <= value <= MAX_LONG else None


def encode_float(_leaf: Leaf, value: Any) -> int | None:
    """Return the place of a number with a fraction."""
    number = _read_number(value)
    try:
        return None if number is None else order_float(float(number))
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


def _read_number(value: Any) -> int | float | Decimal | None:
    """Return the number that a value is or spells; None for booleans, infinities and everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return read_number(value)
    return value if isinstance(value, float) and math.isfinite(value) else None


def read_number(text: str) -> int | float | Decimal | None:
    """Return the number that a text spells with all of its digits, or None; what no float can hold is none."""
    # Python reads `1_000`, `infinity` and the digits of all scripts too, OpenSearch does not.
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    if not math.isfinite(number):
        return None
    if abs(number) < _EXACT:
        return number
    exact = Decimal(text)
    return int(exact) if exact == exact.to_integral_value() else exact


def decode_value(kind: Kind, value: Any) -> Any:
    """Return a facet's term as JSON: dates as ISO 8601, booleans as booleans."""
    if kind is Kind.BOOLEAN:
        return bool(value)
    if kind is Kind.INTEGER:
        return int(value)
    if kind is Kind.FLOAT:
        return float_at(int(value))
    if kind is Kind.DATE:
        return format_date(int(value))
    return value
