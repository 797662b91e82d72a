"""Merge sorted streams of records by key. Pure: bytes in, bytes out, memory of one block a source.

A step merges what lies before the first end of a block, and touches only the sources that have something there: two heaps know
them. So the work follows the documents, however many sources there are.

Most ids of most sources need no merging, so their bytes pass through as they are. Where sources share an id, only the root
level is decoded: the values below stay the bytes that they are.
"""

import asyncio
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from operator import itemgetter
from typing import Any

import msgspec
import orjson

from sourcebook.hub.documents.merge import deep_merge
from sourcebook.hub.documents.record import HASH_BYTES, Record, canonical_json, content_hash

# To be raised when documents would be merged differently: builds carry over what code of the same version merged.
MERGE_RULES = 1
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_encode_in_order = msgspec.json.Encoder().encode
_ID_HEAD = b'{"_id":'
_ABSENT = msgspec.Raw()
_MAX_KEYS = 256  # a struct has a place for each key that it knows, also in documents without it
_must_be_escaped = re.compile(r'["\\\x00-\x1f]').search  # in JSON; a struct cannot have such keys
MAX_EXAMPLES = 10
_key = itemgetter(0)


@dataclass(slots=True)
class MergeSource:
    """One sorted stream. Documents of a source that is not a root are dropped where no root source has their id."""

    name: str
    batches: AsyncIterator[list[Record]]
    is_root: bool = True
    merges_deeply: bool = False
    read: int = 0
    dropped: int = 0
    dropped_examples: list[str] = field(default_factory=list)
    _block: list[Record] = field(default_factory=list)
    _position: int = 0
    _merge: Callable[[bytes, bytes], bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._merge = merge_deeply if self.merges_deeply else RootKeys().overwrite

    async def fill(self) -> bool:
        """Read the next block, after the one before was taken; return False at the end."""
        self._block, self._position = [], 0
        async for block in self.batches:
            if block:
                self._block = block
                self.read += len(block)
                return True
        return False

    @property
    def first_key(self) -> bytes | None:
        """The key of the next record of the block, or None if all was taken."""
        return self._block[self._position][0] if self._position < len(self._block) else None

    @property
    def last_key(self) -> bytes:
        """The key up to which this source is known."""
        return self._block[-1][0]

    def take_until(self, key: bytes) -> list[Record]:
        """Take the records with keys up to and including `key`."""
        start, self._position = self._position, bisect_right(self._block, key, self._position, key=_key)
        if start == 0 and self._position == len(self._block):
            return self._block
        return self._block[start : self._position]

    def merge_into(self, merged: dict[bytes, bytes], records: list[Record]) -> list[Record]:
        """Merge the records whose key is in `merged`; return the others."""
        fresh = []
        merge_values = self._merge
        for record in records:
            key, value = record
            known = merged.get(key)
            if known is None:
                fresh.append(record)
            else:
                merged[key] = merge_values(known, value)
        return fresh

    def drop(self, records: list[Record]) -> None:
        """Count records that have no root document, and keep a few ids for the report."""
        self.dropped += len(records)
        if len(self.dropped_examples) < MAX_EXAMPLES:
            more = records[: MAX_EXAMPLES - len(self.dropped_examples)]
            self.dropped_examples += [orjson.loads(value[HASH_BYTES:])["_id"] for _, value in more]


async def merge_sources(sources: list[MergeSource]) -> AsyncIterator[list[Record]]:
    """Yield the merged records in key order.

    Later sources overwrite the root keys of earlier ones, or are merged in deeply if they ask for it. Sources whose documents
    create ids (roots) must come before those whose documents do not.
    """
    known = _KnownBlocks(sources)
    empty = list(range(len(sources)))
    while True:
        for place in empty:
            if await sources[place].fill():
                known.add(place)
        if known.is_empty:
            return
        blocks, empty = known.take()
        # Where sources meet, documents are decoded: for some of them that takes long.
        merged = await asyncio.to_thread(_merge_blocks, blocks) if len(blocks) > 1 else _merge_blocks(blocks)
        if merged:
            yield merged


class _KnownBlocks:
    """The blocks that are read and not yet merged, by their first key and by their last."""

    def __init__(self, sources: list[MergeSource]) -> None:
        self._sources = sources
        self._firsts: list[tuple[bytes, int]] = []
        self._ends: list[tuple[bytes, int]] = []

    @property
    def is_empty(self) -> bool:
        """Whether all was merged."""
        return not self._ends

    def add(self, place: int) -> None:
        """Take up the new block of the source at a place."""
        source = self._sources[place]
        if source.first_key is not None:
            heappush(self._firsts, (source.first_key, place))
            heappush(self._ends, (source.last_key, place))

    def take(self) -> tuple[list[tuple[MergeSource, list[Record]]], list[int]]:
        """Take what lies up to the smallest of the blocks' last keys, up to which every source is known completely.

        Returns:
            The sources that have something there, in their order, with their records; and the places of blocks that are used up.
        """
        boundary = self._ends[0][0]
        empty = []
        while self._ends and self._ends[0][0] == boundary:
            empty.append(heappop(self._ends)[1])
        places = []
        while self._firsts and self._firsts[0][0] <= boundary:
            places.append(heappop(self._firsts)[1])
        blocks = [(self._sources[place], self._sources[place].take_until(boundary)) for place in sorted(places)]
        for place in places:
            first = self._sources[place].first_key
            if first is not None:
                heappush(self._firsts, (first, place))
        return blocks, empty


def _merge_blocks(blocks: list[tuple[MergeSource, list[Record]]]) -> list[Record]:
    merged: dict[bytes, bytes] = {}
    is_sorted = True
    for source, records in blocks:
        if not merged:
            if source.is_root:
                merged = dict(records)
            else:
                source.drop(records)
            continue
        fresh = source.merge_into(merged, records)
        if not fresh:
            continue
        if source.is_root:
            is_sorted = False
            merged.update(fresh)
        else:
            source.drop(fresh)
    return list(merged.items()) if is_sorted else sorted(merged.items())


class RootKeys:
    """The root keys that were seen in documents so far.

    Documents of few keys are read into a struct that has a place for each, in canonical order: that takes two thirds of the
    time that a dictionary takes, which must be sorted.
    """

    def __init__(self) -> None:
        self._known = {"_id"}
        self._decode = _decoder_of(self._known)

    def overwrite(self, earlier: bytes, later: bytes) -> bytes:
        """Return the value (hash and canonical JSON) of two documents with one id; root keys of the later one win."""
        # Where a key stands twice, decoders take the later value.
        both = earlier[HASH_BYTES:-1] + b"," + later[HASH_BYTES + 1 :]
        try:
            body = _encode_in_order(self._decode(both))
        except msgspec.ValidationError:  # a key that is not known yet
            body = self._learn(both)
        return content_hash(body) + body

    def _learn(self, both: bytes) -> bytes:
        document = _decode(both)
        known = self._known.union(key for key in document if not _must_be_escaped(key))
        if self._known < known and len(known) <= _MAX_KEYS:
            self._known = known
            self._decode = _decoder_of(known)
        body = _encode_sorted(document)
        if not body.startswith(_ID_HEAD):  # a key sorts before "_id"
            rest = _encode_sorted({key: value for key, value in document.items() if key != "_id"})
            body = _ID_HEAD + bytes(document["_id"]) + b"," + rest[1:]
        return body


def _decoder_of(keys: set[str]) -> Callable[[bytes], Any]:
    names = ["_id", *sorted(keys - {"_id"})]
    places = [f"key{number}" for number in range(len(names))]
    struct = msgspec.defstruct(
        "Document",
        [(place, msgspec.Raw, _ABSENT) for place in places],
        rename=dict(zip(places, names, strict=True)),
        omit_defaults=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(struct).decode


def merge_deeply(earlier: bytes, later: bytes) -> bytes:
    """Return the value of two documents with one id, merged at every level."""
    document = deep_merge(orjson.loads(earlier[HASH_BYTES:]), orjson.loads(later[HASH_BYTES:]))
    body = canonical_json(document)
    return content_hash(body) + body
