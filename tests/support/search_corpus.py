"""A collection with an index over it, on any search engine."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sourcebook.backends import open_documents, open_search
from sourcebook.hub.documents.record import make_record
from sourcebook.language.requests import SearchRequest, SearchResult
from sourcebook.ports.documents import DocumentStore
from sourcebook.ports.search import SearchEngine
from sourcebook.settings import Settings


@dataclass
class Corpus:
    """An index and the collection that it was made over."""

    engine: SearchEngine
    documents: DocumentStore
    index: str
    collection: str = "collection"

    async def find(self, query: Any, **options: Any) -> SearchResult:
        """Search."""
        return await self.engine.search(self.index, SearchRequest(query=query, **options))

    async def ids(self, query: Any, **options: Any) -> list[str]:
        """Search, and return the ids of what was found."""
        return [hit.id for hit in (await self.find(query, **{"size": 1000, **options})).hits]


@asynccontextmanager
async def open_engines(home: Path, **given: Any) -> AsyncIterator[tuple[SearchEngine, DocumentStore]]:
    """Open the search engine that the environment names, and the embedded document store."""
    settings = Settings(home=home, **given)
    documents = await open_documents(settings)
    engine = await open_search(settings, documents)
    try:
        yield engine, documents
    finally:
        await engine.close()
        await documents.close()


async def fill(corpus: Corpus, contents: Sequence[dict[str, Any]], properties: dict[str, Any], batch: int = 2) -> int:
    """Store documents and index them, a few at a time; return how many were indexed."""
    records = sorted(make_record(document) for document in contents)
    async with corpus.documents.create(corpus.collection) as collection:
        await collection.write(records)
        await collection.commit()
    async with corpus.engine.create(
        corpus.index, collection=corpus.collection, properties=properties, settings={}
    ) as writer:
        for start in range(0, len(records), batch):
            await writer.add(records[start : start + batch])
        return await writer.commit()
