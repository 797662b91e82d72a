"""Lucene's regular expressions: read into a tree, and written as expressions that tantivy takes.

Both always match a whole term. tantivy knows neither complement (`~a`) nor intersection (`a&b`): a part with one of them is made
an automaton (`automata`), and that an expression again. Everything else is only spelled differently: `@` any text, `#` nothing,
`<1-5>` a number, `"..."` a literal.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from sourcebook.backends.tantivy import automata
from sourcebook.backends.tantivy.automata import ANY_CHARACTER, ANY_TEXT, EMPTY, NOTHING, Chars, Expression
from sourcebook.backends.tantivy.regex_cost import check_cost
from sourcebook.errors import QuerySyntaxError

MAX_CHARACTERS = 1000  # as in OpenSearch
MAX_DEPTH = 50
_MAX_REPEAT = 1000
_MAX_NUMBER_DIGITS = 10
_CLASSES: dict[str, list[automata.CharacterRange]] = {
    "d": [(48, 57)],
    "s": [(9, 10), (13, 13), (32, 32)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
}
_ATOM = re.compile(r"\\.|.", re.DOTALL)
_COUNT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_INTERVAL = re.compile(r"<([0-9]+)-([0-9]+)>")
_SYMBOLS: dict[str, Expression] = {".": ANY_CHARACTER, "@": ANY_TEXT, "#": NOTHING}
_REPEATS: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}


@lru_cache(maxsize=256)
def lucene_regex(pattern: str, *, has_lowercase: bool) -> str | None:
    """Return tantivy's expression for a Lucene regular expression; None if it matches nothing.

    Args:
        pattern: what stands between the slashes.
        has_lowercase: the terms are in lower case; the pattern is read so too.

    Raises:
        QuerySyntaxError: it cannot be read, or is too complex.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise _refuse(pattern, f"it has more than {MAX_CHARACTERS} characters")
    lowered = _ATOM.sub(_lower, pattern) if has_lowercase else pattern
    try:
        expression = _Parser(lowered).parse()
        written = automata.write_regex(expression)
        # A complement or an intersection was made an automaton already, with limits of its own.
        if {"~", "&"}.isdisjoint(lowered):
            check_cost(expression)
    except ValueError as error:
        raise _refuse(pattern, str(error)) from error
    return written


def _refuse(pattern: str, reason: str) -> QuerySyntaxError:
    return QuerySyntaxError(f"Failed to parse query [/{pattern}/]: {reason}", query=pattern)


def _lower(match: "re.Match[str]") -> str:
    return match[0] if match[0][1:].lower() in _CLASSES else match[0].lower()


class _Parser:
    """Recursive descent over one expression. Raises ValueError with the reason."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def parse(self) -> Expression:
        if not self._pattern:
            return EMPTY
        expression = self._union()
        if self._at < len(self._pattern):
            raise ValueError(f"unexpected {self._pattern[self._at]!r} at {self._at}")
        return expression

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        if self._at >= len(self._pattern):
            raise ValueError("it ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _accept(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _accept_match(self, expression: "re.Pattern[str]") -> "re.Match[str] | None":
        match = expression.match(self._pattern, self._at)
        self._at = self._at if match is None else match.end()
        return match

    def _union(self) -> Expression:
        return automata.union(self._separated("|", self._intersection))

    def _intersection(self) -> Expression:
        return automata.intersection(self._separated("&", self._concatenation))

    def _separated(self, separator: str, parse: Callable[[], Expression]) -> list[Expression]:
        parts = [parse()]
        while self._accept(separator):
            parts.append(parse())
        return parts

    def _concatenation(self) -> Expression:
        parts = [self._repeat()]
        while self._peek() and self._peek() not in ")|&":
            parts.append(self._repeat())
        return automata.concatenation(parts)

    def _repeat(self) -> Expression:
        expression = self._complement()
        while self._peek() and self._peek() in "?*+{":
            least, most = self._count()
            expression = automata.repeat(expression, least, most)
        return expression

    def _count(self) -> tuple[int, int | None]:
        if self._peek() in _REPEATS:
            return _REPEATS[self._take()]
        match = self._accept_match(_COUNT)
        if match is None:
            raise ValueError("a number of times is written {2}, {2,} or {2,5}")
        least = _read_count(match[1])
        most = least if match[2] is None else _read_count(match[3]) if match[3] else None
        if most is not None and most < least:
            raise ValueError(f"{match[0]} begins above its end")
        return least, most

    def _complement(self) -> Expression:
        self._enter()
        expression = automata.complement(self._complement()) if self._accept("~") else self._simple()
        self._depth -= 1
        return expression

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")

    def _simple(self) -> Expression:
        if self._peek() in _SYMBOLS:
            return _SYMBOLS[self._take()]
        if self._accept("["):
            return self._class()
        if self._accept('"'):
            return self._literal()
        if self._accept("("):
            return self._group()
        if self._peek() == "<":
            return self._interval()
        return Chars.of(self._class_or_character())

    def _group(self) -> Expression:
        if self._accept(")"):
            return EMPTY
        expression = self._union()
        if not self._accept(")"):
            raise ValueError("a parenthesis is not closed")
        return expression

    def _literal(self) -> Expression:
        end = self._pattern.find('"', self._at)
        if end < 0:
            raise ValueError("a quote is not closed")
        text, self._at = self._pattern[self._at : end], end + 1
        return automata.concatenation([Chars.of([(ord(character), ord(character))]) for character in text])

    def _interval(self) -> Expression:
        match = self._accept_match(_INTERVAL)
        if match is None or max(len(match[1]), len(match[2])) > _MAX_NUMBER_DIGITS:
            raise ValueError("an interval is written <1-100>")
        return number_interval(match[1], match[2])

    def _class(self) -> Expression:
        is_negated = self._accept("^")
        ranges = self._class_part()
        while self._peek() and self._peek() != "]":
            ranges = ranges + self._class_part()
        if not self._accept("]"):
            raise ValueError("a bracket is not closed")
        chars = Chars.of(ranges)
        return chars.negated() if is_negated else chars

    def _class_part(self) -> list[automata.CharacterRange]:
        found = self._class_or_character()
        if len(found) > 1 or found[0][0] != found[0][1] or not self._accept("-"):
            return found
        low, high = found[0][0], self._character()
        if low > high:
            raise ValueError(f"the range {chr(low)}-{chr(high)} begins above its end")
        return [(low, high)]

    def _class_or_character(self) -> list[automata.CharacterRange]:
        name = self._pattern[self._at + 1 : self._at + 2] if self._peek() == "\\" else ""
        if name and name.lower() in _CLASSES:
            self._at += 2
            ranges = _CLASSES[name.lower()]
            return list(Chars.of(ranges).negated().ranges) if name.isupper() else ranges
        code = self._character()
        return [(code, code)]

    def _character(self) -> int:
        self._accept("\\")
        return ord(self._take())


def _read_count(digits: str) -> int:
    if len(digits) > len(str(_MAX_REPEAT)) or int(digits) > _MAX_REPEAT:
        raise ValueError(f"a part may be repeated {_MAX_REPEAT} times")
    return int(digits)


def number_interval(first: str, last: str) -> Expression:
    """Return the numbers from one to another: of as many digits as both have, else with any number of zeros in front."""
    low, high = sorted((int(first), int(last)))
    if len(first) == len(last):
        return _digits(str(low).zfill(len(first)), str(high).zfill(len(first)))
    widths = range(len(str(low)), len(str(high)) + 1)
    parts = [
        _digits(str(max(low, 10 ** (width - 1) if width > 1 else 0)), str(min(high, 10**width - 1))) for width in widths
    ]
    return automata.concatenation([automata.repeat(_digit("0", "0"), 0, None), automata.union(parts)])


def _digits(low: str, high: str) -> Expression:
    """Return the texts of digits between two that are as long."""
    if not low.strip("0") and not high.strip("9"):
        return automata.repeat(_digit("0", "9"), len(low), len(low))
    if low[0] == high[0]:
        return automata.concatenation([_digit(low[0], high[0]), _digits(low[1:], high[1:])])
    rest = len(low) - 1
    parts = [
        automata.concatenation([_digit(low[0], low[0]), _digits(low[1:], "9" * rest)]),
        automata.concatenation([_digit(high[0], high[0]), _digits("0" * rest, high[1:])]),
    ]
    if ord(high[0]) - ord(low[0]) > 1:
        between = _digit(chr(ord(low[0]) + 1), chr(ord(high[0]) - 1))
        parts.append(automata.concatenation([between, automata.repeat(_digit("0", "9"), rest, rest)]))
    return automata.union(parts)


def _digit(low: str, high: str) -> Expression:
    return Chars.of([(ord(low), ord(high))])
