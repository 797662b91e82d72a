"""The formats of an answer: JSON as it is, YAML, MessagePack, and a page to read. Pure."""

import html
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
import orjson
import yaml

from sourcebook_api.query.errors import QueryError

MEDIA_TYPES = {
    "json": "application/json; charset=UTF-8",
    "yaml": "text/x-yaml; charset=UTF-8",
    "msgpack": "application/x-msgpack",
    "html": "text/html; charset=UTF-8",
}
_QUALITY = re.compile(r"[01](\.[0-9]{0,3})?\Z")
# The media types that an `Accept` header may name.
_FORMATS = {
    "application/json": "json",
    "*/*": "json",
    "application/*": "json",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/x-yaml": "yaml",
    "text/yaml": "yaml",
    "application/yaml": "yaml",
    "application/x-yaml": "yaml",
    "application/x-msgpack": "msgpack",
    "application/msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
}
_MIB = 1024 * 1024
_MAX_BYTES = {"yaml": 2 * _MIB, "msgpack": 8 * _MIB, "html": 8 * _MIB}  # of JSON; YAML takes seconds for a megabyte
_TOO_LARGE = 413
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1.5rem; color: #1d2733 }}
h1 {{ font-size: 1.25rem; overflow-wrap: anywhere }} a {{ color: #0b5cad }}
pre {{ background: #f7f9fb; border: 1px solid #d5dde5; border-radius: 6px; padding: 1rem; overflow-x: auto; font-size: 14px }}
</style></head><body>
<h1>{title}</h1>
<p><a href="{link}">This answer as JSON</a> · <a href="{docs}">Documentation of this API</a></p>
<pre>{text}</pre>
</body></html>
"""


@lru_cache(maxsize=256)
def choose_format(accept: bytes) -> str:
    """Return the format that an `Accept` header likes best; JSON where it names none that there is.

    >>> choose_format(b"text/html,application/xml;q=0.9,*/*;q=0.8"), choose_format(b"text/csv")
    ('html', 'json')
    """
    best, best_quality = "json", 0.0
    for item in accept.decode("latin-1").lower().split(","):
        media, *parameters = (part.strip() for part in item.split(";"))
        quality = next((_read_quality(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        if media in _FORMATS and quality > best_quality:
            best, best_quality = _FORMATS[media], quality
    return best


def _read_quality(text: str) -> float:
    return float(text) if _QUALITY.match(text) else 0.0


def max_bytes(format_name: str) -> int | None:
    """Return how many bytes of JSON may be turned into a format; None: any number."""
    return _MAX_BYTES.get(format_name)


def check_size(body: bytes, format_name: str) -> None:
    """Refuse what would take too long in another format than JSON.

    Raises:
        QueryError: 413; the message says what to do.
    """
    limit = _MAX_BYTES[format_name]
    if len(body) > limit:
        details = f"The answer has {len(body)} bytes, and format={format_name} is for at most {limit}: ask for json, or for less."
        raise QueryError(_TOO_LARGE, keyword="format", details=details)


def encode_body(body: bytes, format_name: str, check_time: Callable[[], None] = lambda: None) -> bytes:
    """Turn a JSON body into another format than HTML; the order of keys stays. `check_time` raises where it takes too long."""
    if format_name == "json":
        return body
    data = orjson.loads(body)
    if format_name == "msgpack":
        return msgspec.msgpack.encode(data)
    output = _YamlOutput(check_time)
    yaml.dump(data, output, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, encoding="utf-8")
    return b"".join(output.chunks)


class _YamlOutput:
    """Takes the text as it is written. Written in Python, so that other threads have a turn while the C library works."""

    def __init__(self, check_time: Callable[[], None]) -> None:
        self.chunks: list[bytes] = []
        self._check_time = check_time

    def write(self, chunk: bytes) -> None:
        """Take a piece."""
        self._check_time()
        self.chunks.append(chunk)


def render_page(body: bytes, *, title: str, link: str, docs: str) -> bytes:
    """Turn a JSON body into a page for people; `link` leads to the same answer as JSON."""
    text = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    page = _PAGE.format(
        title=html.escape(title),
        link=html.escape(link, quote=True),
        docs=html.escape(docs, quote=True),
        text=html.escape(text),
    )
    return page.encode()
