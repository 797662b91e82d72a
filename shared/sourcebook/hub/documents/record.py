"""A document on its way through the stages: id rules, canonical JSON, hash, and the record that stores carry.

A **record** is `(key, value)`: `key` is the UTF-8 `_id` (see `record_key`), `value` is 16 bytes of hash followed by the
document as canonical JSON. Canonical JSON has `_id` first, then all keys sorted at every level, no white space, so that equal
documents are equal bytes and the `_id` can be cut off without decoding.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson
from xxhash import xxh3_128_digest

Json = Any
Record = tuple[bytes, bytes]

MAX_ID_BYTES = 512  # OpenSearch's limit for `_id`
HASH_BYTES = 16
_MASK = (1 << (8 * HASH_BYTES)) - 1
_CARRY_ROOM = bytes(8)
_LANE_BITS = 8 * (HASH_BYTES + len(_CARRY_ROOM))
_MAX_KEY_BYTES = 511  # LMDB's limit for a key
_KEY_PREFIX_BYTES = 440
_ID_HEAD = b'{"_id":'
_ID_HEAD_BYTES = len(_ID_HEAD)
_dumps, _SORTED = orjson.dumps, orjson.OPT_SORT_KEYS


def say_documents(count: int) -> str:
    """Return how many documents there are, for people: "1 document", "44,997 documents"."""
    return "1 document" if count == 1 else f"{count:,} documents"


def record_key(document_id: str) -> bytes:
    """Return the key that an `_id` is stored and sorted under: its UTF-8 bytes.

    The one length that LMDB cannot hold (512 bytes) is shortened to 440 bytes, `~` and a SHA-256, so that it stays unique.
    """
    key = document_id.encode()
    if len(key) <= _MAX_KEY_BYTES:
        return key
    return key[:_KEY_PREFIX_BYTES] + b"~" + hashlib.sha256(key).digest()


def canonical_json(document: dict[str, Json]) -> bytes:
    """Return the canonical JSON of a document that has an `_id`.

    Raises:
        TypeError: a value is not a JSON value (orjson's message says which).
    """
    body = _dumps(document, None, _SORTED)
    return body if body[:_ID_HEAD_BYTES] == _ID_HEAD else _put_id_first(document)


def _put_id_first(document: dict[str, Json]) -> bytes:
    """Return the canonical JSON of a document with keys that sort before `_id` (upper case, digits)."""
    rest = orjson.dumps({k: v for k, v in document.items() if k != "_id"}, option=orjson.OPT_SORT_KEYS)
    return _ID_HEAD + orjson.dumps(document["_id"]) + b"," + rest[1:]


def content_hash(body: bytes) -> bytes:
    """Return the hash of a document's canonical JSON: XXH3, 128 bits, which tells changes from accidents, not from attacks."""
    return xxh3_128_digest(body)


def make_value(document: dict[str, Json]) -> bytes:
    """Return the value of a record: the hash of a document's canonical JSON, and that JSON.

    Raises:
        TypeError: a value is not a JSON value (orjson's message says which).
    """
    body = _dumps(document, None, _SORTED)  # as `canonical_json`, without the call: one a document
    if body[:_ID_HEAD_BYTES] != _ID_HEAD:
        body = _put_id_first(document)
    return xxh3_128_digest(body) + body


def make_record(document: dict[str, Json]) -> Record:
    """Return the record of a document whose `_id` is already checked."""
    return record_key(document["_id"]), make_value(document)


def record_body(record: Record) -> bytes:
    """Return the canonical JSON of a record."""
    return record[1][HASH_BYTES:]


def record_hash(record: Record) -> bytes:
    """Return the hash of a record's canonical JSON."""
    return record[1][:HASH_BYTES]


def describe_damage(record: Record) -> str | None:
    """Return what is wrong with a record that was stored, or None: its document must be what its hash says."""
    key, value = record
    if content_hash(value[HASH_BYTES:]) == value[:HASH_BYTES]:
        return None
    return f"the document {key.decode(errors='replace')!r} is not what its hash says"


def read_document(record: Record) -> dict[str, Json]:
    """Return the document of a record."""
    document: dict[str, Json] = orjson.loads(record[1][HASH_BYTES:])
    return document


class Digest:
    """An order-independent digest of a collection: the sum of its documents' hashes modulo 2**128.

    The `_id` is part of what is hashed, so equal digests and counts mean equal collections. Adding and removing a document are
    inverse, so a release that changes few documents updates the digest without reading the others.
    """

    __slots__ = ("_sum", "count")

    def __init__(self, count: int = 0, hexadecimal: str = "0") -> None:
        self.count = count
        self._sum = int(hexadecimal, 16)

    def add(self, values: Iterable[bytes]) -> None:
        """Add the values (hash + body) of records."""
        total, count = _sum_hashes(values)
        self._sum = (self._sum + total) & _MASK
        self.count += count

    def remove(self, values: Iterable[bytes]) -> None:
        """Take the values (hash + body) of records out again; they must have been added."""
        total, count = _sum_hashes(values)
        self._sum = (self._sum - total) & _MASK
        self.count -= count

    def join(self, count: int, hexadecimal: str) -> None:
        """Add the records of another digest, which has so many and this sum."""
        self._sum = (self._sum + int(hexadecimal, 16)) & _MASK
        self.count += count

    def hex(self) -> str:
        """Return the digest as 32 hexadecimal digits."""
        return f"{self._sum:032x}"


def _sum_hashes(values: Iterable[bytes]) -> tuple[int, int]:
    """Return the sum of the hashes of records' values, and how many they are."""
    hashes = [value[:HASH_BYTES] for value in values]
    # One long number with room for a carry between the hashes; its halves are added until one hash is left. That is much faster
    # than adding them one by one.
    total, left = int.from_bytes(_CARRY_ROOM.join(hashes)), len(hashes)
    while left > 1:
        half = left // 2
        bits = half * _LANE_BITS
        total = (total >> bits) + (total & ((1 << bits) - 1))
        left -= half
    return total, len(hashes)
