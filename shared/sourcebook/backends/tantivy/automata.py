"""Regular expressions with complement and intersection, written as expressions that have neither.

An expression's derivative by a character is what may follow that character. All derivatives of an expression, and theirs, are the
states of its automaton: complement and intersection need nothing more. The automaton is written as an expression again by
taking away one state after the other. Both can explode, so each has a limit, beyond which the expression is refused.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sourcebook.backends.tantivy.patterns import ANY, escape

CharacterRange = tuple[int, int]
"""The first and the last code point."""

MAX_STATES = 200
MAX_STEPS = 15_000
MAX_WRITTEN = 20_000
_ALPHABET: tuple[CharacterRange, ...] = ((0, 0xD7FF), (0xE000, 0x10FFFF))  # surrogates are not characters
_TOO_COMPLEX = "it is too complex; write it without ~ and &"


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of some ranges, which are sorted and apart."""

    ranges: tuple[CharacterRange, ...]

    @classmethod
    def of(cls, ranges: Iterable[CharacterRange]) -> "Chars":
        """Return the characters of ranges in any order."""
        merged: list[CharacterRange] = []
        for low, high in sorted(_characters_of(ranges)):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    def negated(self) -> "Chars":
        """Return all other characters."""
        rest, at = [], 0
        for low, high in (*self.ranges, (_ALPHABET[-1][1] + 1,) * 2):
            if at < low:
                rest.append((at, low - 1))
            at = high + 1
        return Chars.of(rest)

    def has(self, code: int) -> bool:
        """Whether a code point is one of them."""
        position = bisect_right(self.ranges, (code, _ALPHABET[-1][1])) - 1
        return position >= 0 and self.ranges[position][1] >= code


def _characters_of(ranges: Iterable[CharacterRange]) -> Iterator[CharacterRange]:
    for low, high in ranges:
        for first, last in _ALPHABET:
            if max(low, first) <= min(high, last):
                yield max(low, first), min(high, last)


@dataclass(frozen=True, slots=True)
class Concatenation:
    """One part after the other; no part is the empty text."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Any of the parts."""

    parts: frozenset["Expression"]


@dataclass(frozen=True, slots=True)
class Intersection:
    """All of the parts at once."""

    parts: frozenset["Expression"]


@dataclass(frozen=True, slots=True)
class Complement:
    """Every text that the part does not match."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class Repeat:
    """The part so many times; None is any number."""

    part: "Expression"
    least: int
    most: int | None


Expression = Chars | Concatenation | Union | Intersection | Complement | Repeat

NOTHING = Chars(())
EMPTY = Concatenation(())
ANY_CHARACTER = Chars(_ALPHABET)
ANY_TEXT = Repeat(ANY_CHARACTER, 0, None)
_EVERYTHING = frozenset({ANY_TEXT, Complement(NOTHING)})


def concatenation(parts: Iterable[Expression]) -> Expression:
    """Return the parts in a row."""
    flat: list[Expression] = []
    for part in parts:
        if part == NOTHING:
            return NOTHING
        flat += part.parts if isinstance(part, Concatenation) else (part,)
    return flat[0] if len(flat) == 1 else Concatenation(tuple(flat))


def union(parts: Iterable[Expression]) -> Expression:
    """Return what matches if one of the parts does."""
    flat: set[Expression] = set()
    for part in parts:
        flat |= part.parts if isinstance(part, Union) else {part}
    if not flat.isdisjoint(_EVERYTHING):
        return ANY_TEXT
    flat.discard(NOTHING)
    return _only(flat) if len(flat) == 1 else Union(frozenset(flat)) if flat else NOTHING


def intersection(parts: Iterable[Expression]) -> Expression:
    """Return what matches if all parts do."""
    flat: set[Expression] = set()
    for part in parts:
        flat |= part.parts if isinstance(part, Intersection) else {part}
    if NOTHING in flat:
        return NOTHING
    flat -= _EVERYTHING
    return _only(flat) if len(flat) == 1 else Intersection(frozenset(flat)) if flat else ANY_TEXT


def _only(parts: set[Expression]) -> Expression:
    (part,) = parts
    return part


def complement(part: Expression) -> Expression:
    """Return what matches whatever the part does not."""
    return part.part if isinstance(part, Complement) else Complement(part)


def repeat(part: Expression, least: int, most: int | None) -> Expression:
    """Return the part so many times."""
    if most == 0 or part == EMPTY:
        return EMPTY
    return part if (least, most) == (1, 1) else Repeat(part, least, most)


def write_regex(expression: Expression) -> str | None:
    """Return an expression for tantivy; None if it matches nothing.

    Raises:
        ValueError: complements and intersections make it too complex.
    """
    match expression:
        case Chars():
            return _write_chars(expression)
        case Concatenation():
            return _join([write_regex(part) for part in expression.parts])
        case Union():
            written = sorted(text for part in expression.parts if (text := write_regex(part)) is not None)
            return f"(?:{'|'.join(written)})" if written else None
        case Repeat():
            return _write_repeat(expression)
        case _:
            return _write_automaton(_Automaton(expression))


def _join(written: list[str | None]) -> str | None:
    texts = [text for text in written if text is not None]
    return "".join(texts) if len(texts) == len(written) else None


def _write_repeat(expression: Repeat) -> str | None:
    inner = write_regex(expression.part)
    if inner is None:
        return "" if expression.least == 0 else None
    most = "" if expression.most is None else expression.most
    times = "*" if (expression.least, expression.most) == (0, None) else f"{{{expression.least},{most}}}"
    return f"(?:{inner}){times}"


def _write_chars(chars: Chars) -> str | None:
    if not chars.ranges:
        return None
    if chars == ANY_CHARACTER:
        return ANY
    low, high = chars.ranges[0]
    if len(chars.ranges) == 1 and low == high:
        return escape(chr(low))
    spans = (rf"\x{{{low:X}}}-\x{{{high:X}}}" for low, high in chars.ranges)
    return f"[{''.join(spans)}]"


class _Automaton:
    """The states of an expression, the first one first: where each leads, and whether a text may end there."""

    def __init__(self, expression: Expression) -> None:
        self._steps = 0
        bounds = sorted({bound for low, high in _all_ranges(expression) for bound in (low, high + 1)} | {0, 0xE000})
        ends = [bound - 1 for bound in bounds[1:]] + [_ALPHABET[-1][1]]
        letters = [piece for pair in zip(bounds, ends, strict=True) if (piece := Chars.of([pair])).ranges]
        numbers: dict[Expression, int] = {expression: 0}
        states = [expression]
        self.targets: list[dict[int, list[CharacterRange]]] = []
        for state in states:  # grows
            leads: dict[int, list[CharacterRange]] = {}
            for letter in letters:
                following = self._derive(state, letter.ranges[0][0])
                if following not in numbers:
                    if len(states) == MAX_STATES:
                        raise ValueError(_TOO_COMPLEX)
                    numbers[following] = len(states)
                    states.append(following)
                leads.setdefault(numbers[following], []).extend(letter.ranges)
            self.targets.append(leads)
        self.ends = [_matches_empty(state) for state in states]

    def _derive(self, expression: Expression, code: int) -> Expression:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise ValueError(_TOO_COMPLEX)
        match expression:
            case Chars():
                return EMPTY if expression.has(code) else NOTHING
            case Union():
                return union([self._derive(part, code) for part in expression.parts])
            case Intersection():
                return intersection([self._derive(part, code) for part in expression.parts])
            case Complement():
                return complement(self._derive(expression.part, code))
            case Repeat(part, least, most):
                rest = repeat(part, max(least - 1, 0), None if most is None else most - 1)
                return concatenation([self._derive(part, code), rest])
            case _:
                return self._derive_concatenation(expression, code)

    def _derive_concatenation(self, expression: Concatenation, code: int) -> Expression:
        found: list[Expression] = []
        for position, part in enumerate(expression.parts):
            found.append(concatenation([self._derive(part, code), *expression.parts[position + 1 :]]))
            if not _matches_empty(part):
                break
        return union(found)


def _all_ranges(expression: Expression) -> Iterator[CharacterRange]:
    match expression:
        case Chars(ranges):
            yield from ranges
        case Complement(part) | Repeat(part):
            yield from _all_ranges(part)
        case Concatenation(parts) | Union(parts) | Intersection(parts):
            for part in parts:
                yield from _all_ranges(part)


def _matches_empty(expression: Expression) -> bool:
    match expression:
        case Chars():
            return False
        case Complement(part):
            return not _matches_empty(part)
        case Repeat(part, least):
            return least == 0 or _matches_empty(part)
        case Union(parts):
            return any(map(_matches_empty, parts))
        case Concatenation(parts) | Intersection(parts):
            return all(map(_matches_empty, parts))


_START, _END = -1, -2


def _write_automaton(automaton: _Automaton) -> str | None:
    """Take away one state after the other; what led through it becomes the label of what is left."""
    edges = _label_edges(automaton)
    while states := [state for state in edges if state != _START]:
        state = min(states, key=lambda state: _cost(edges, state))
        leads = edges.pop(state)
        loop = leads.pop(state, None)
        repeated = "" if loop is None else f"(?:{loop})*"
        for targets in edges.values():
            before = targets.pop(state, None)
            if before is None:
                continue
            for target, after in leads.items():
                written = f"{before}{repeated}{after}"
                known = targets.get(target)
                targets[target] = written if known is None else f"(?:{known}|{written})"
                if len(targets[target]) > MAX_WRITTEN:
                    raise ValueError(_TOO_COMPLEX)
    return edges[_START].get(_END)


def _label_edges(automaton: _Automaton) -> dict[int, dict[int, str]]:
    """Return the labels of all steps that lead to an end."""
    alive = _find_alive(automaton)
    edges: dict[int, dict[int, str]] = {_START: {0: ""} if 0 in alive else {}}
    for state in sorted(alive):
        leads = automaton.targets[state].items()
        edges[state] = {target: _write_chars(Chars.of(ranges)) or "" for target, ranges in leads if target in alive}
        if automaton.ends[state]:
            edges[state][_END] = ""
    return edges


def _find_alive(automaton: _Automaton) -> set[int]:
    alive = {state for state, is_end in enumerate(automaton.ends) if is_end}
    before = 0
    while len(alive) > before:
        before = len(alive)
        alive |= {state for state, leads in enumerate(automaton.targets) if not alive.isdisjoint(leads)}
    return alive


def _cost(edges: dict[int, dict[int, str]], state: int) -> int:
    return len(edges[state]) * sum(state in targets for targets in edges.values())
