"""Tokens of a walk over all hits. They carry everything, so any process can answer the next page."""

import hashlib
import time
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from sourcebook_api.query.errors import QueryError, value_error

SCROLL_SECONDS = 600
_CHECK_BYTES = 6
_MAX_TOKEN = 32_000
_MAX_PLAIN = 200_000
# What decides which documents are hit; the rest may differ from page to page.
_QUERY_OPTIONS = ("q", "filter", "post_filter", "userquery")


class Token(msgspec.Struct, frozen=True, array_like=True):
    """Where a walk stands: the release it sees, its parameters, the engine's next page (None: after the end)."""

    kind: str
    release: str
    values: dict[str, Any]
    after: str | None
    issued_at: float


def write_token(token: Token) -> str:
    """Return a token as text for a URL."""
    packed = zlib.compress(msgspec.msgpack.encode(token), 6)
    return urlsafe_b64encode(_checksum(packed) + packed).decode().rstrip("=")


def read_token(text: str, kind: str) -> Token:
    """Return the token of a text.

    A token opens nothing that its holder could not ask for directly, so a checksum against damage is enough.

    Raises:
        QueryError: it is damaged, of another kind, or too old.
    """
    try:
        raw = urlsafe_b64decode(text[:_MAX_TOKEN] + "=" * (-len(text) % 4))
        check, packed = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        inflate = zlib.decompressobj()
        token = msgspec.msgpack.decode(inflate.decompress(packed, _MAX_PLAIN), type=Token)
    except (ValueError, zlib.error, msgspec.MsgspecError) as error:
        raise stale_token(kind) from error
    if check != _checksum(packed) or token.kind != kind or not 0 <= time.time() - token.issued_at <= SCROLL_SECONDS:
        raise stale_token(kind)
    return token


def stale_token(kind: str) -> QueryError:
    """Return the error for a token that cannot be used (any more)."""
    return value_error(f"Invalid or stale {kind}.")


def given_values(options: Mapping[str, Any], given: frozenset[str]) -> dict[str, Any]:
    """Return the parameters that a walk keeps from its first page to its last."""
    return {name: options[name] for name in sorted(given - {"scroll_id", "search_after", "fetch_all"})}


def query_fingerprint(options: Mapping[str, Any]) -> str:
    """Return a short text that is equal for equal queries."""
    wanted = {name: options[name] for name in _QUERY_OPTIONS}
    return hashlib.blake2b(orjson.dumps(wanted, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()


def _checksum(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=_CHECK_BYTES, person=b"sourcebook-page").digest()
