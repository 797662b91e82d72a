"""Patterns over terms: wildcards and ranges of strings, as the regular expressions that tantivy takes.

tantivy's expressions always match the whole term and know no anchors; ranges of strings are not in its python interface at all.
"""

from sourcebook.errors import QuerySyntaxError

ANY = "(?s:.)"
ANY_TEXT = "(?s:.)*"
_LAST_CHARACTER = 0x10FFFF
_FIRST_SURROGATE, _AFTER_SURROGATES = 0xD800, 0xE000
_MAX_STARS, _MAX_MARKS = 25, 50
_MAX_BOUNDS = 50  # tantivy refuses expressions with more than 1000 states
_SPECIAL = frozenset(r"\.+*?()|[]{}^$#&-~")


def escape(text: str) -> str:
    """Return an expression that matches the text itself."""
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in text)


def wildcard_regex(pattern: str) -> str:
    """Return the expression of a pattern with `*`, `?` and escapes.

    Raises:
        QuerySyntaxError: there are so many of them that its automaton would be too large.
    """
    parts, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            at += 1
            parts.append(escape(pattern[at]))
        elif character == "*":
            if parts[-1:] != [ANY_TEXT]:
                parts.append(ANY_TEXT)
        else:
            parts.append(ANY if character == "?" else escape(character))
        at += 1
    if parts.count(ANY_TEXT) > _MAX_STARS or parts.count(ANY) > _MAX_MARKS:
        raise QuerySyntaxError(f"A pattern may have {_MAX_STARS} asterisks and {_MAX_MARKS} question marks.")
    return "".join(parts)


def range_regex(low: str | None, high: str | None, *, include_low: bool, include_high: bool) -> str | None:
    """Return the expression of the strings between two bounds in the order of code points; None if there is no such string.

    Raises:
        QuerySyntaxError: the bounds are too long behind what they share.
    """
    if low is not None and high is not None and (low > high or (low == high and not (include_low and include_high))):
        return None
    if low == high and low is not None:
        return escape(low)
    if low is None and high == "" and not include_high:
        return None
    shared = _shared_length(low, high)
    if len(low or "") + len(high or "") - 2 * shared > _MAX_BOUNDS:
        raise QuerySyntaxError(
            f"The bounds of a range of strings may have {_MAX_BOUNDS} characters behind what they share."
        )
    prefix = escape((low or "")[:shared])
    low_rest = None if low is None else low[shared:]
    high_rest = None if high is None else high[shared:]
    return prefix + _between(low_rest, high_rest, include_low=include_low, include_high=include_high)


def _shared_length(low: str | None, high: str | None) -> int:
    if low is None or high is None:
        return 0
    length = 0
    while length < min(len(low), len(high)) and low[length] == high[length]:
        length += 1
    return length


def _between(low: str | None, high: str | None, *, include_low: bool, include_high: bool) -> str:
    """Return the expression for two bounds that have no first character in common."""
    if low is None or high is None:
        if low is not None:
            return _above(low, is_inclusive=include_low)
        return ANY_TEXT if high is None else _below(high, is_inclusive=include_high) or ""
    branches = []
    if low:
        branches.append(escape(low[0]) + _above(low[1:], is_inclusive=include_low))
    elif include_low:
        branches.append("")
    span = _span(ord(low[0]) + 1 if low else 0, ord(high[0]) - 1)
    if span:
        branches.append(span + ANY_TEXT)
    rest = _below(high[1:], is_inclusive=include_high)
    if rest is not None:
        branches.append(escape(high[0]) + rest)
    return f"(?:{'|'.join(branches)})"


def _above(low: str, *, is_inclusive: bool) -> str:
    expression = "" if is_inclusive else ANY
    for character in reversed(low):
        span = _span(ord(character) + 1, _LAST_CHARACTER)
        expression = f"(?:{span}|{escape(character)}{expression})" if span else escape(character) + expression
    return expression + ANY_TEXT


def _below(high: str, *, is_inclusive: bool) -> str | None:
    """Texts up to `high`: at each character either the end, a smaller character and anything, or the same character and on."""
    expression: str | None = "" if is_inclusive else None
    for character in reversed(high):
        branches = [""]
        span = _span(0, ord(character) - 1)
        if span:
            branches.append(span + ANY_TEXT)
        if expression is not None:
            branches.append(escape(character) + expression)
        expression = f"(?:{'|'.join(branches)})"
    return expression


def _span(first: int, last: int) -> str:
    # Surrogates are not characters: bounds that fall on them move to the next one that is.
    first = _AFTER_SURROGATES if first == _FIRST_SURROGATE else first
    last = _FIRST_SURROGATE - 1 if last == _AFTER_SURROGATES - 1 else last
    return f"[\\x{{{first:X}}}-\\x{{{last:X}}}]" if first <= last else ""
