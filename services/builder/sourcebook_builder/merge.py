"""Merge sorted streams of records by key. Pure: bytes in, bytes out, memory of one block a source.

Most ids of most sources need no merging, so their bytes pass through as they are. Where sources share an id, only the root
level is decoded: the values below stay the bytes that they are.
"""

import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from sourcebook.model.document import HASH_BYTES, Record, canonical_json, content_hash
from sourcebook.model.merge import deep_merge

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


@dataclass(slots=True)
class MergeSource:
    """One sorted stream. Documents of a source that is no root are dropped where no root source has their id."""

    name: str
    batches: AsyncIterator[list[Record]]
    is_root: bool = True
    merges_deeply: bool = False
    read: int = 0
    dropped: int = 0
    dropped_examples: list[str] = field(default_factory=list)
    _block: list[Record] = field(default_factory=list)
    _is_finished: bool = False
    _merge: Callable[[bytes, bytes], bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._merge = merge_deeply if self.merges_deeply else RootKeys().overwrite

    async def fill(self) -> None:
        """Read the next block if there is none."""
        while not self._block and not self._is_finished:
            try:
                self._block = await anext(self.batches)
                self.read += len(self._block)
            except StopAsyncIteration:
                self._is_finished = True

    @property
    def last_key(self) -> bytes | None:
        """The key up to which this source is known, or None after its end."""
        return self._block[-1][0] if self._block else None

    def take_until(self, key: bytes) -> list[Record]:
        """Remove and return the records with keys up to and including `key`."""
        if self._block and self._block[-1][0] <= key:
            taken, self._block = self._block, []
            return taken
        cut = bisect_right(self._block, key, key=lambda record: record[0])
        taken, self._block = self._block[:cut], self._block[cut:]
        return taken

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
    while True:
        for source in sources:
            await source.fill()
        last_keys = [key for source in sources if (key := source.last_key) is not None]
        if not last_keys:
            return
        # Up to the smallest of the blocks' last keys every source is known completely.
        boundary = min(last_keys)
        merged = _merge_blocks([(source, source.take_until(boundary)) for source in sources])
        if merged:
            yield merged


def _merge_blocks(blocks: list[tuple[MergeSource, list[Record]]]) -> list[Record]:
    merged: dict[bytes, bytes] = {}
    is_sorted = True
    for source, records in blocks:
        if not records:
            continue
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
