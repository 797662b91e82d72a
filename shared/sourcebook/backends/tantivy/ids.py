"""The numbers of an index's documents, and their `_id`s.

A document's number gives its place in `_id` order: ties, walks and scrolls go by it. An index that was written at once numbers by
position, with room for a million numbers between two neighbours. One that was derived from it gives an added document a number
between its neighbours' and keeps all others, so that nothing else has to be written again.

ids.bin, ids.offsets   the `_id` of each position, as first written; a derived index shares these files with its base
ids.json               positions that are gone, and numbers and `_id`s that were added (derived indices only)
"""

import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import orjson

from sourcebook.errors import CannotDerive
from sourcebook.hub.documents.record import record_key

IDS_FILE = "ids.bin"
OFFSETS_FILE = "ids.offsets"
EDITS_FILE = "ids.json"
_SHIFT = 20
_LOW_BITS = (1 << _SHIFT) - 1


def build_number(position: int) -> int:
    """Return the number of the document at a position of an index that is written at once; there is room below the first."""
    return (position + 1) << _SHIFT


class _Edits(NamedTuple):
    removed: list[int]
    numbers: list[int]
    ids: list[str]


class IdTable:
    """The `_id` of each number; the files stay readable when the index is dropped."""

    def __init__(self, folder: Path) -> None:
        self._ids = _map_file(folder / IDS_FILE)
        self._offsets = memoryview(_map_file(folder / OFFSETS_FILE)).cast("Q")
        self._written = len(self._offsets) - 1
        self.edits = _read_edits(folder / EDITS_FILE)

    def get(self, number: int) -> str:
        """Return the `_id` of a number."""
        position = (number >> _SHIFT) - 1
        if number & _LOW_BITS or position >= self._written:
            return self.edits.ids[bisect_left(self.edits.numbers, number)]
        return self.key_at(position).decode()

    def key_at(self, position: int) -> bytes:
        """Return the UTF-8 `_id` at a position."""
        return self._ids[self._offsets[position] : self._offsets[position + 1]]

    def find_position(self, key: bytes) -> tuple[int, bool]:
        """Return the position of a record's key, and whether it is there; else the position of the first greater key."""
        low, high = 0, self._written
        while low < high:
            middle = (low + high) // 2
            if self._record_key(middle) < key:
                low = middle + 1
            else:
                high = middle
        return low, low < self._written and self._record_key(low) == key

    def _record_key(self, position: int) -> bytes:
        raw = self.key_at(position)
        return raw if len(raw) < _LONG else record_key(raw.decode())

    @property
    def end(self) -> int:
        """The position after the last."""
        return self._written

    @property
    def number_end(self) -> int:
        """A number that is greater than all."""
        return max(build_number(self._written - 1), *self.edits.numbers[-1:], 0) + 1

    def numbers_from(self, start: int, limit: int) -> list[int]:
        """Return the first numbers in order that are `start` or greater."""
        return list(islice(self._walk(start), limit))

    def numbers_at(self, offset: int, limit: int) -> list[int]:
        """Return the numbers in order without the first `offset`."""
        if not self.edits.removed and not self.edits.numbers:
            return [build_number(position) for position in range(self._written)[offset : offset + limit]]
        return list(islice(self._walk(0), offset, offset + limit))

    def count_from(self, start: int) -> int:
        """Return how many numbers are `start` or greater."""
        first = self._first_position(start)
        kept = self._written - first - len(self.edits.removed) + bisect_left(self.edits.removed, first)
        return kept + len(self.edits.numbers) - bisect_left(self.edits.numbers, start)

    def _first_position(self, start: int) -> int:
        return min(max(0, -(-start >> _SHIFT) - 1), self._written)

    def _walk(self, start: int) -> Iterator[int]:
        kept = map(build_number, self._kept_positions(self._first_position(start)))
        numbers = self.edits.numbers
        added = (numbers[place] for place in range(bisect_left(numbers, start), len(numbers)))
        return merge(kept, added)

    def _kept_positions(self, first: int) -> Iterator[int]:
        gone = self.edits.removed[bisect_left(self.edits.removed, first) :]
        for before, after in pairwise([first - 1, *gone, self._written]):
            yield from range(before + 1, after)


_LONG = 512  # from this length on, a key is not the `_id` itself


class IdEditor:
    """What becomes of the numbers of a base when documents come and go."""

    def __init__(self, table: IdTable) -> None:
        self._table = table
        self._removed = set(table.edits.removed)
        self._numbers = list(table.edits.numbers)
        self._ids = list(table.edits.ids)
        self._keys = [record_key(item) for item in self._ids]

    @property
    def edited(self) -> int:
        """How many numbers are not as first written."""
        return len(self._removed) + len(self._numbers)

    def find(self, key: bytes) -> int | None:
        """Return the number of a document that the index has."""
        place = bisect_left(self._keys, key)
        if place < len(self._keys) and self._keys[place] == key:
            return self._numbers[place]
        position, is_there = self._table.find_position(key)
        return build_number(position) if is_there and position not in self._removed else None

    def remove(self, key: bytes) -> None:
        """Forget a document that the index has."""
        place = bisect_left(self._keys, key)
        if place < len(self._keys) and self._keys[place] == key:
            del self._keys[place], self._numbers[place], self._ids[place]
        else:
            self._removed.add(self._table.find_position(key)[0])

    def restore(self, key: bytes) -> int | None:
        """Take a document back that was once removed; return its old number, or None if it never had one."""
        position, is_there = self._table.find_position(key)
        if not is_there:
            return None
        self._removed.discard(position)
        return build_number(position)

    def room(self, key: bytes) -> tuple[int, int | None]:
        """Return the numbers between which a new document must be; no upper one behind the last document."""
        position, _ = self._table.find_position(key)
        place = bisect_left(self._keys, key)
        low = build_number(position - 1)
        high = build_number(position) if position < self._table.end else None
        if place:
            low = max(low, self._numbers[place - 1])
        if place < len(self._numbers):
            high = self._numbers[place] if high is None else min(high, self._numbers[place])
        return low, high

    def insert(self, ids: Sequence[str], room: tuple[int, int | None], max_step: int) -> list[int]:
        """Number new documents, given in key order, evenly between two numbers, and return the numbers.

        Raises:
            CannotDerive: there is no room for so many.
        """
        low, high = room
        if high is None:
            first = (low >> _SHIFT) + 1
            chosen = [((first + place) << _SHIFT) | 1 for place in range(len(ids))]
        else:
            step = min((high - low) // (len(ids) + 1), max_step)
            if step == 0:
                raise CannotDerive(
                    f"Too many documents were added at one place of the order (at {ids[0]!r}): release the build in full.",
                    id=ids[0],
                )
            chosen = [low + step * (place + 1) for place in range(len(ids))]
        place = bisect_right(self._numbers, low)
        self._numbers[place:place] = chosen
        self._ids[place:place] = ids
        self._keys[place:place] = [record_key(item) for item in ids]
        return chosen

    def write(self) -> bytes:
        """Return the content of ids.json."""
        return orjson.dumps({"removed": sorted(self._removed), "numbers": self._numbers, "ids": self._ids})


def _read_edits(path: Path) -> _Edits:
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return _Edits([], [], [])
    return _Edits(found["removed"], found["numbers"], found["ids"])


def _map_file(path: Path) -> mmap.mmap | bytes:
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
