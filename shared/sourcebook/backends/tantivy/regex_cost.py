"""What a regular expression costs to compile, found out before tantivy compiles it.

tantivy makes an automaton of an expression, state by state and byte by byte, while nothing else in the process may run: nested
repeats such as `((y{1,50}){1,20}){1,10}` took it half a minute. Here the same automaton is made in Python, which gives way to
other threads, with characters that the expression does not tell apart taken together; beyond a budget the expression is refused,
as OpenSearch refuses what it cannot determinize.
"""

from collections.abc import Iterable
from itertools import pairwise

from sourcebook.backends.tantivy.automata import Chars, Concatenation, Expression, Repeat, Union

MAX_PARTS = 3000
"""Characters and choices, with each repeat written out."""
MAX_STATES = 1000  # tantivy's own limit
MAX_STEPS = 250_000
"""Parts that are looked at while the automaton is made, each as often as bytes lead on from it: less than a tenth of a second."""
_TOO_LARGE = (
    "it is too large once its repeats are written out, or matches in too many ways; use fewer and smaller repeats"
)
_ASCII_END = 0x80
_OTHER_BYTES = 64  # that may begin or go on a character beyond ASCII

_Target = int
_END: _Target = 0


class _Parts:
    """The parts of an expression, each with those that may follow: a character leads to one, a choice to several for nothing."""

    def __init__(self) -> None:
        self.chars: list[Chars | None] = [None]
        self.targets: list[tuple[_Target, ...]] = [()]

    def add(self, chars: Chars | None, targets: tuple[_Target, ...]) -> _Target:
        if len(self.targets) >= MAX_PARTS:
            raise ValueError(_TOO_LARGE)
        self.chars.append(chars)
        self.targets.append(targets)
        return len(self.targets) - 1

    def write(self, expression: Expression, then: _Target) -> _Target:
        """Add an expression that goes on at `then`; return where it begins."""
        match expression:
            case Chars():
                return self.add(expression, (then,))
            case Concatenation(parts):
                for part in reversed(parts):
                    then = self.write(part, then)
                return then
            case Union(parts):
                return self.add(None, tuple(self.write(part, then) for part in parts))
            case Repeat():
                return self._write_repeat(expression, then)
            case _:
                raise TypeError(f"{expression!r} is not a plain expression")

    def _write_repeat(self, repeat: Repeat, then: _Target) -> _Target:
        if repeat.most is None:
            start = self.add(None, (then,))
            self.targets[start] = (self.write(repeat.part, start), then)
        else:
            start = then
            for _ in range(repeat.most - repeat.least):
                start = self.add(None, (self.write(repeat.part, start), then))
        for _ in range(repeat.least):
            start = self.write(repeat.part, start)
        return start


def check_cost(expression: Expression) -> int:
    """Return how many steps it takes to make the automaton of an expression without complements and intersections.

    Raises:
        ValueError: too many; the message says so.
    """
    parts = _Parts()
    first = parts.write(expression, _END)
    start, steps = _follow(parts, [first])
    known, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        for width, targets in _group_by_letter(parts, state):
            following, looked_at = _follow(parts, targets)
            steps += width * looked_at
            if steps > MAX_STEPS:
                raise ValueError(_TOO_LARGE)
            if following not in known:
                if len(known) >= MAX_STATES:
                    raise ValueError(_TOO_LARGE)
                known.add(following)
                waiting.append(following)
    return steps


def _follow(parts: _Parts, targets: Iterable[_Target]) -> tuple[frozenset[_Target], int]:
    """Return the characters (and the end) that some parts lead to, and how many parts were looked at on the way."""
    seen: set[_Target] = set()
    waiting = list(targets)
    found = []
    while waiting:
        part = waiting.pop()
        if part in seen:
            continue
        seen.add(part)
        if part == _END or parts.chars[part] is not None:
            found.append(part)
        else:
            waiting += parts.targets[part]
    return frozenset(found), len(seen)


def _group_by_letter(parts: _Parts, state: frozenset[_Target]) -> Iterable[tuple[int, list[_Target]]]:
    """Yield, for characters that a state does not tell apart, how many bytes they begin with, and where they lead to."""
    chars = [(found, parts.targets[part][0]) for part in state if (found := parts.chars[part]) is not None]
    bounds = sorted({bound for found, _ in chars for low, high in found.ranges for bound in (low, high + 1)})
    for low, high in pairwise(bounds):
        targets = [target for found, target in chars if found.has(low)]
        if targets:
            width = max(min(high, _ASCII_END) - low, 0) + (_OTHER_BYTES if high > _ASCII_END else 0)
            yield width, targets
