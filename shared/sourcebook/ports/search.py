"""Search engines: indices over collections, written once, and the engine-neutral search."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sourcebook.model.document import Record
from sourcebook.model.mapping import Properties
from sourcebook.model.query import SearchRequest, SearchResult


class IndexWriter(Protocol):
    """Fills a new index. Nothing is visible before `commit`."""

    async def add(self, records: Sequence[Record]) -> None:
        """Index documents, in key order."""
        ...

    async def commit(self) -> int:
        """Make the index durable and visible in one step; return the number of documents in it."""
        ...


class SearchEngine(Protocol):
    """Indices, each made over one collection and immutable once committed."""

    def create(
        self, name: str, *, collection: str, properties: Properties, settings: dict[str, Any]
    ) -> AbstractAsyncContextManager[IndexWriter]:
        """Open a writer for a new index; leaving the context without `commit` leaves nothing behind.

        Args:
            name: the new index.
            collection: where the documents are; an engine that keeps no documents reads them there.
            properties: the mapping; only what it marks as indexed can be searched.
            settings: shards, replicas, extra.

        Raises:
            MappingError: the engine cannot index a field so.
        """
        ...

    async def search(self, name: str, request: SearchRequest) -> SearchResult:
        """Find documents.

        Raises:
            QuerySyntaxError: a query string, sort field or page token cannot be understood.
            NotFound: there is no such index.
            EngineUnavailable: the engine does not answer, or not within the request's time.
        """
        ...

    async def count(self, name: str) -> int | None:
        """Return the number of documents of an index, or None if there is no complete index of that name."""
        ...

    async def names(self) -> list[str]:
        """Return the names of all complete indices, sorted."""
        ...

    async def drop(self, name: str) -> None:
        """Remove an index; nothing happens if it is not there. Searches that run on it finish."""
        ...

    async def close(self) -> None:
        """Give back what is open."""
        ...
