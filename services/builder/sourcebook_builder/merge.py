"""Merge sorted streams of records by key. Pure: bytes in, bytes out, memory of one block a source.

Most ids of most sources need no merging, so their bytes pass through as they are. Where sources share an id, only the root
level is decoded: the values below stay the bytes that they are.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import orjson

from sourcebook.model.document import HASH_BYTES, Record, canonical_json, content_hash
from sourcebook.model.merge import deep_merge

# To be raised when documents would be merged differently: builds carry over what code of the same version merged.
MERGE_RULES = 1
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder(order="sorted").encode
_ID_HEAD = b'{"_id":'
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
        fresh = _merge_into(merged, source, records)
        if not fresh:
            continue
        if source.is_root:
            is_sorted = False
            merged.update(fresh)
        else:
            source.drop(fresh)
    return list(merged.items()) if is_sorted else sorted(merged.items())


def _merge_into(merged: dict[bytes, bytes], source: MergeSource, records: list[Record]) -> list[Record]:
    """Merge the records whose key is in `merged`; return the others."""
    fresh = []
    merge_values = merge_deeply if source.merges_deeply else overwrite_root_keys
    for record in records:
        key, value = record
        known = merged.get(key)
        if known is None:
            fresh.append(record)
        else:
            merged[key] = merge_values(known, value)
    return fresh


def overwrite_root_keys(earlier: bytes, later: bytes) -> bytes:
    """Return the value (hash and canonical JSON) of two documents with one id; root keys of the later one win."""
    document = _decode(earlier[HASH_BYTES:])
    document |= _decode(later[HASH_BYTES:])
    body = _encode(document)
    if not body.startswith(_ID_HEAD):  # a key sorts before "_id"
        rest = _encode({key: value for key, value in document.items() if key != "_id"})
        body = _ID_HEAD + bytes(document["_id"]) + b"," + rest[1:]
    return content_hash(body) + body


def merge_deeply(earlier: bytes, later: bytes) -> bytes:
    """Return the value of two documents with one id, merged at every level."""
    document = deep_merge(orjson.loads(earlier[HASH_BYTES:]), orjson.loads(later[HASH_BYTES:]))
    body = canonical_json(document)
    return content_hash(body) + body
