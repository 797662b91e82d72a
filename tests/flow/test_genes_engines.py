"""The gene example on the embedded engines and on production engines: the same documents, and the same answers but for scores.

Runs where an OpenSearch is given (SOURCEBOOK_TEST_OPENSEARCH_URL, or `make test-engines`); a MongoDB joins in if there is one.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.genes import build_genes, release_genes
from support.search_engines import REAL, SearchServers

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.errors import QuerySyntaxError
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.documents.record import read_document
from sourcebook.hub.mappings.model import iterate_fields
from sourcebook.hub.releases.model import Release
from sourcebook.language.requests import FacetRequest, MatchQuery, SearchRequest, SearchResult, SortKey
from sourcebook.settings import Settings

MONGODB = "SOURCEBOOK_TEST_MONGODB_URL"
SAMPLES = 8  # documents that are asked for by each of their values
PAGE = 1000

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get(REAL), reason=f"no real OpenSearch is given ({REAL})"),
    # What aiohttp says of a request of more than 1 MB, as those that index many documents are; Python shows it to nobody.
    pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"),
]

Released = tuple[Context, Release]


@asynccontextmanager
async def released(home: Path, **settings: Any) -> AsyncIterator[Released]:
    async with open_context(Settings(home=home, **settings), ANONYMOUS, bus=open_inline_bus()) as context:
        yield context, await release_genes(context, await build_genes(context))


def production_settings(search_url: str) -> dict[str, str]:
    chosen = {"search_url": search_url}
    mongodb = os.environ.get(MONGODB)
    if mongodb:
        head, mark, options = mongodb.partition("?")
        url = f"{head.rstrip('/')}/sourcebook_genes_{uuid.uuid4().hex[:8]}{mark}{options}"
        chosen |= {"documents_url": url, "state_url": url, "locks_url": "sqlite:"}
    return chosen


def test_embedded_and_production_engines_hold_the_same_and_answer_alike(
    tmp_path: Path, search_servers: SearchServers
) -> None:
    async def main(search_url: str) -> None:
        async with (
            released(tmp_path / "embedded") as embedded,
            released(tmp_path / "production", **production_settings(search_url)) as production,
        ):
            samples = await compare_documents(embedded, production)
            differences = [
                name
                for name, request in requests(embedded[1], samples)
                if await answer(embedded, request) != await answer(production, request)
            ]
            assert differences == []
            assert await walk(embedded, "kinase") == await walk(production, "kinase")

    with search_servers.url("opensearch") as url:
        asyncio.run(main(url))


async def compare_documents(embedded: Released, production: Released) -> list[dict[str, Any]]:
    """Compare every document's bytes; return some of them."""
    samples, count = [], 0
    other = production[0].documents.scan(production[1].collection, size=PAGE)
    async for batch in embedded[0].documents.scan(embedded[1].collection, size=PAGE):
        assert batch == await anext(other)
        count += len(batch)
        samples.append(read_document(batch[count % len(batch)]))
    assert [batch async for batch in other] == []
    assert count == embedded[1].count == production[1].count
    return samples[:: len(samples) // SAMPLES]


def requests(release: Release, samples: list[dict[str, Any]]) -> Iterator[tuple[str, SearchRequest]]:
    """Yield searches of every kind, on every field of the mapping and on values that there are."""
    for entry in iterate_fields(release.mapping):
        kind, path = entry.spec.get("type"), entry.path
        yield f"exists {path}", SearchRequest(query=f"_exists_:{path}", size=0)
        if entry.is_object or kind == "text":
            continue
        yield f"facet {path}", SearchRequest(size=0, facets=(FacetRequest(path),), facet_size=PAGE)
        for is_descending in (False, True):
            keys = (SortKey(path, descending=is_descending),)
            yield f"sort {path} {is_descending}", SearchRequest(query="kinase OR receptor", sort=keys, size=200)
    values = {path: value for document in samples for path, value in scalars(document, "")}
    for path, value in sorted(values.items()):
        yield from value_requests(path, value)
    nested = FacetRequest("ncbi_gene.type_of_gene", (FacetRequest("ncbi_gene.chromosome"),))
    yield "nested facets", SearchRequest(query="name:receptor", size=0, facets=(nested,), facet_size=50)
    yield "filters", SearchRequest(query="kinase", filter="ncbi_gene.chromosome:1", post_filter="cyclin", size=PAGE)


def value_requests(path: str, value: str) -> Iterator[tuple[str, SearchRequest]]:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    queries = [
        quoted,
        f"{path}:{quoted}",
        f"NOT {path}:{quoted}",
        f"{path}:[{quoted} TO *]",
        f"{path}:{{* TO {quoted}}}",
        value,
    ]
    word = value.split(maxsplit=1)[0]
    if word.isalnum():
        queries += [
            f"{path}:{word[:3]}*",
            f"{path}:*{word[1:]}",
            f"{path}:{word}~1",
            f"{path}:/{word[:2]}.*/",
            f"{word} OR kinase AND 2",
        ]
    for query in queries:
        yield query, SearchRequest(query=query, size=100)
    match = (MatchQuery(value, ("_id", "all", path)),)
    yield f"match {path} {value}", SearchRequest(query=match, size=100)


def scalars(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from scalars(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value[:2]:
            yield from scalars(item, path)
    elif value not in (None, ""):
        yield path, value if isinstance(value, str) else orjson.dumps(value).decode()


async def answer(where: Released, request: SearchRequest) -> Any:
    """Return what does not depend on scores: which hits (in their order, if sorted), how many, and the facets."""
    context, release = where
    try:
        result = await context.search.search(release.index, replace(request, timeout_seconds=120))
    except QuerySyntaxError as error:
        return error.message
    return (*read_hits(request, result), result.total, result.facets)


def read_hits(request: SearchRequest, result: SearchResult) -> tuple[Any, ...]:
    hits = [(hit.id, hit.body) for hit in result.hits]
    if request.sort:
        return (hits,)
    # Of more hits than fit on a page, which ones are on it depends on scores.
    return (sorted(hits),) if result.total <= request.size else ()


async def walk(where: Released, query: str) -> list[str]:
    context, release = where
    found, token = [], None
    while True:
        request = SearchRequest(query=query, in_id_order=True, size=300, after=token)
        result = await context.search.search(release.index, request)
        found += [hit.id for hit in result.hits]
        token = result.next_page
        if token is None:
            return found
