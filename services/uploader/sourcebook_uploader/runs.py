"""Runs: files of records sorted by key, written while parsing and merged into one ascending stream afterwards.

A run is a sequence of frames, each a 4-byte length and a msgpack list of records. Records with the same key stand side by
side, in the order in which they were parsed, and are never divided between two frames.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from sourcebook.hub.documents.record import Record
from sourcebook_uploader.validate import find_padded_id, find_repeated

FRAME_RECORDS = 2000
FRAME_BYTES = 512 * 1024  # a merge holds one frame of each run
_LENGTH_BYTES = 4

_key = itemgetter(0)
_decoder = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]])


class Run(NamedTuple):
    """A finished run: where it is, how many records it has (`total`), and its smallest and largest key."""

    path: Path
    total: int
    first: bytes
    last: bytes
    has_duplicates: bool
    padded_id: str = ""  # the first that begins or ends with white space


def write_run(path: Path, records: Sequence[Record]) -> Run:
    """Write sorted records to a new file; there must be at least one."""
    encode = msgspec.msgpack.Encoder().encode
    has_duplicates = False
    padded = ""
    with path.open("wb") as file:
        for start, stop in _cut_frames(records):
            frame = records[start:stop]
            # Frame by frame, because the records are far apart in memory: here they are read only once.
            keys = [key for key, _ in frame]
            has_duplicates = has_duplicates or find_repeated(keys) is not None
            padded = padded or find_padded_id(keys)
            encoded = encode(frame)
            file.write(len(encoded).to_bytes(_LENGTH_BYTES))
            file.write(encoded)
    return Run(path, len(records), records[0][0], records[-1][0], has_duplicates, padded)


def _cut_frames(records: Sequence[Record]) -> Iterator[tuple[int, int]]:
    start, total, usual = 0, len(records), FRAME_RECORDS
    while start < total:
        stop = min(start + usual, total)
        size = sum([len(value) for _, value in records[start:stop]])
        while stop - start > 1 and size > FRAME_BYTES:
            stop = start + max(1, (stop - start) * FRAME_BYTES // (size + 1))
            size = sum([len(value) for _, value in records[start:stop]])
        # Most documents are as long as those before; a few longer ones must not make the next frame too large at once.
        usual = min(FRAME_RECORDS, (stop - start) * FRAME_BYTES * 15 // (16 * size + 1) + 1)
        while stop < total and records[stop][0] == records[stop - 1][0]:
            stop += 1
        yield start, stop
        start = stop


class _RunReader:
    """Reads a run frame by frame; the file is open only while it is read, so that any number of runs can be merged."""

    def __init__(self, run: Run) -> None:
        self._path = run.path
        self._offset = 0
        self.records: list[Record] = []
        self.position = 0
        self.load_frame()

    def load_frame(self) -> bool:
        """Read the next frame; return False at the end of the run."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            length = int.from_bytes(file.read(_LENGTH_BYTES))
            frame = file.read(length)
            self._offset = file.tell()
        self.position = 0
        self.records = _decoder.decode(frame) if frame else []
        return bool(frame)

    def take_until(self, boundary: bytes) -> list[Record]:
        """Return the records of this frame up to and with key `boundary`."""
        start = self.position
        self.position = bisect_right(self.records, boundary, start, key=_key)
        if start == 0 and self.position == len(self.records):
            return self.records
        return self.records[start : self.position]


def merge_runs(runs: Sequence[Run]) -> Iterator[list[Record]]:
    """Yield the records of all runs in key order, in lists of uneven length; equal keys stay in the order of `runs`.

    All records with the same key are in the same list. Memory: one frame of each run whose keys overlap at a time.
    """
    waiting = sorted(enumerate(runs), key=lambda item: item[1].first, reverse=True)
    active: dict[int, _RunReader] = {}
    while active or waiting:
        boundary = min((reader.records[-1][0] for reader in active.values()), default=None)
        while waiting and (boundary is None or waiting[-1][1].first <= boundary):
            number, run = waiting.pop()
            reader = active[number] = _RunReader(run)
            last = reader.records[-1][0]
            boundary = last if boundary is None else min(boundary, last)
        if boundary is not None:
            yield _merge_step(active, boundary)


def _merge_step(active: dict[int, _RunReader], boundary: bytes) -> list[Record]:
    pieces = []
    for number in sorted(active):
        reader = active[number]
        piece = reader.take_until(boundary)
        if piece:
            pieces.append(piece)
        if reader.position == len(reader.records) and not reader.load_frame():
            del active[number]
    if len(pieces) == 1:
        return pieces[0]
    merged = [record for piece in pieces for record in piece]
    merged.sort(key=_key)  # stable, and it merges sorted stretches without comparing each with each
    return merged
