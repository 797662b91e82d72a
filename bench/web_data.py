"""The documents of the web benchmark, and how both sides get them.

SOURCEBOOK_HOME=FOLDER python bench/web_data.py DOCUMENTS

stores and indexes that many documents of about 1 kB, and 100 of about 80 kB, and serves them as the API `things`. The
pipeline has benchmarks of its own (`run.py`), so the stores are filled directly here.
"""

import argparse
import asyncio
import json
import urllib.request
from collections.abc import Iterator
from itertools import islice
from typing import Any

import generate

from sourcebook.backends.inline.bus import InlineBus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.documents.record import Record, make_record
from sourcebook.hub.releases.model import Api, Release
from sourcebook.settings import load_settings

API = "things"
LARGE_DOCUMENTS = 100
_PARTS = 400  # of a large document
_BATCH = 5000
_KEYWORD = {"type": "keyword"}
_TYPES = {
    "keyword": ("symbol", "category", "tags", "accession", "status", "synonyms"),
    "text": ("title", "summary", "label", "note", "detail"),
    "integer": ("count", "rank"),
    "float": ("score", "weight"),
    "boolean": ("active", "reviewed"),
    "date": ("updated",),
}
# Types that both engines index alike.
PROPERTIES: dict[str, dict[str, Any]] = {
    **{field: {"type": kind} for kind, fields in _TYPES.items() for field in fields},
    "location": {"properties": {"chromosome": _KEYWORD, "start": {"type": "integer"}, "end": {"type": "integer"}}},
    "reference": {"properties": {"database": _KEYWORD, "number": {"type": "integer"}}},
    "parts": {"properties": {"name": _KEYWORD, "position": {"type": "integer"}, "text": {"type": "text"}}},
}


def thing_id(number: int) -> str:
    """Return the `_id` of a document; the order of ids is that of the numbers."""
    return f"GEN{number:07d}"


def large_id(number: int) -> str:
    """Return the `_id` of a large document; all of them come after the others."""
    return f"LARGE{number:04d}"


def make_thing(number: int) -> dict[str, Any]:
    """Return a document of about 1 kB: what both generated sources say, and one more text."""
    detail = " ".join(generate.words(generate.scramble(number + (place << 42)), 10) for place in range(1, 4))
    document = {**generate.make_alpha(number), **generate.make_beta(number), "detail": detail}
    return {**document, "_id": thing_id(number), "symbol": thing_id(number)}


def make_large(number: int) -> dict[str, Any]:
    """Return a document of about 80 kB: a list of many objects. Only its id finds it, so that other answers stay small."""
    parts = []
    for position in range(_PARTS):
        bits = generate.scramble(number * _PARTS + position)
        text = " ".join(generate.words(bits >> shift, 10) for shift in (0, 2))
        parts.append({"name": f"PART{bits % 10_000_000}", "position": position, "text": text})
    return {"_id": large_id(number), "symbol": large_id(number), "parts": parts}


def documents(count: int) -> Iterator[dict[str, Any]]:
    """Yield all documents in the order of their ids."""
    yield from map(make_thing, range(count))
    yield from map(make_large, range(LARGE_DOCUMENTS))


async def load_sourcebook(count: int) -> None:
    """Fill the stores under SOURCEBOOK_HOME and serve the documents as an API."""
    async with open_context(load_settings(), ANONYMOUS, bus=InlineBus()) as context:
        await _write(context, count)
        release = Release(
            name=API,
            build=API,
            config=API,
            doc_type="thing",
            collection=API,
            index=API,
            count=count + LARGE_DOCUMENTS,
            mapping=PROPERTIES,
            metadata={"biothing_type": "thing"},
        )
        config = BuildConfig.model_validate({"name": API, "doc_type": "thing", "sources": ["generated"]})
        await context.state.put(API, config)
        await context.state.put(API, release)
        await context.state.put(API, Api(name=API, config=API, release=API))


async def _write(context: Context, count: int) -> None:
    records = map(make_record, documents(count))
    async with (
        context.documents.create(API) as collection,
        context.search.create(API, collection=API, properties=PROPERTIES, settings={}) as index,
    ):
        while batch := list[Record](islice(records, _BATCH)):
            await collection.write(batch)
            await index.add(batch)
        await collection.commit()
        await index.commit()


def load_peer(url: str, count: int) -> None:
    """Fill the index of an OpenSearch-like server."""
    settings = {"mappings": {"_meta": {"biothing_type": "thing"}, "properties": PROPERTIES}}
    _send(f"{url}/{API}", "PUT", json.dumps(settings).encode())
    rest = documents(count)
    while batch := list(islice(rest, 500)):
        lines = []
        for document in batch:
            lines.append(json.dumps({"index": {"_index": API, "_id": document.pop("_id")}}))
            lines.append(json.dumps(document))
        answer = _send(f"{url}/_bulk", "POST", ("\n".join(lines) + "\n").encode(), "application/x-ndjson")
        if json.loads(answer)["errors"]:
            raise SystemExit(f"the peer's engine refused documents: {answer[:500]!r}")
    _send(f"{url}/{API}/_refresh", "POST", b"")


def _send(url: str, method: str, body: bytes, media: str = "application/json") -> bytes:
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": media})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
        return bytes(answer.read())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=int)
    asyncio.run(load_sourcebook(parser.parse_args().documents))
