"""An answer and how it goes out: CORS, caching, conditional requests, compression (docs/contracts/query-api.md, section 1)."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import brotli  # type: ignore[import-untyped] # the package has no type hints
import orjson
import zstandard
from starlette.types import Scope, Send

from sourcebook import __version__
from sourcebook_api.query.errors import Headers, QueryError

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
CONTENT_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    # Anyone may read, so any header may be sent; `*` does not stand for Authorization.
    (b"access-control-allow-headers", b"*, Authorization"),
    (b"access-control-max-age", b"86400"),
    (b"access-control-expose-headers", b"ETag, Retry-After"),
    (b"x-content-type-options", b"nosniff"),
]
_MEDIA = {media: (b"content-type", media.encode()) for media in (JSON, HTML)}
_VARY = (b"vary", b"Accept, Accept-Encoding")
_COMPRESS_FROM = 1000  # bytes; below, headers outweigh what is saved
_THREAD_FROM = 256 * 1024  # bytes; from here compression would hold up other requests
_NO_BODY = frozenset({204, 304})
_NOT_MODIFIED = 304
_SERVER_ERROR = 500


@dataclass(slots=True)
class Answer:
    """What goes back. `etag` and `max_age` are set where an answer may be cached; `repeatable` says whether it may."""

    body: bytes
    status: int = 200
    media: str = JSON
    max_age: int | None = None
    etag: bytes | None = None
    repeatable: bool = True
    headers: Headers = field(default_factory=list)


def json_answer(data: Any, status: int = 200) -> Answer:
    """Return an answer with a JSON body."""
    return Answer(orjson.dumps(data), status)


def refusal(error: QueryError) -> Answer:
    """Return the answer that says no."""
    return Answer(orjson.dumps(error.body), error.status, headers=error.headers)


def make_etag(release: str, scope: Scope, format_name: str) -> bytes:
    """Return the ETag of a GET: another release, another request or another format gives another one.

    It is weak: compression changes the bytes, and `took` does too.
    """
    text = f"{__version__}\0{release}\0{format_name}\0{scope['path']}\0".encode("utf-8", "surrogateescape")
    return b'W/"%s"' % hashlib.blake2b(text + scope["query_string"], digest_size=12).hexdigest().encode()


def is_unchanged(known: bytes, etag: bytes) -> bool:
    """Whether the client has this answer already; `known` is its `If-None-Match`, in which proxies may leave out the `W/`."""
    return etag[2:] in known


async def send_answer(answer: Answer, scope: Scope, send: Send) -> None:
    """Send an answer with all its headers; a HEAD request gets the headers alone."""
    headers = CORS + answer.headers
    body = answer.body
    if answer.max_age is not None and answer.status < _SERVER_ERROR:
        headers.append((b"cache-control", b"public, max-age=%d" % answer.max_age))
    if answer.etag is not None:
        headers.append((b"etag", answer.etag))
    if answer.status not in _NO_BODY:
        headers += (_MEDIA.get(answer.media) or (b"content-type", answer.media.encode("latin-1")), _VARY)
        if answer.media == HTML:
            headers.append((b"content-security-policy", CONTENT_POLICY))
        if len(body) >= _COMPRESS_FROM:
            accepted = next((value for name, value in scope["headers"] if name == b"accept-encoding"), b"")
            name, body = await _compress(body, accepted)
            if name:
                headers.append((b"content-encoding", name))
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def not_modified(answer_etag: bytes, max_age: int) -> Answer:
    """Return the answer to a client that has the body already."""
    return Answer(b"", _NOT_MODIFIED, max_age=max_age, etag=answer_etag)


_COMPRESSORS: dict[bytes, Callable[[bytes], bytes]] = {
    b"zstd": lambda body: zstandard.ZstdCompressor(level=3).compress(body),
    b"br": lambda body: brotli.compress(body, quality=4),
    b"gzip": lambda body: gzip.compress(body, compresslevel=5, mtime=0),
}


def choose_encoding(accepted: bytes) -> bytes:
    """Return the cheapest encoding that a client accepts, or nothing."""
    wanted = {}
    for item in accepted.lower().split(b","):
        name, _, quality = item.partition(b";")
        wanted[name.strip()] = quality.strip() not in {b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"}
    return next((name for name in _COMPRESSORS if wanted.get(name, wanted.get(b"*", False))), b"")


async def _compress(body: bytes, accepted: bytes) -> tuple[bytes, bytes]:
    name = choose_encoding(accepted) if accepted else b""
    if not name:
        return b"", body
    if len(body) < _THREAD_FROM:
        return name, _COMPRESSORS[name](body)
    return name, await asyncio.to_thread(_COMPRESSORS[name], body)
