"""Search engines: indices over collections, written once, and the engine-neutral search."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from pydantic import BaseModel

from sourcebook.errors import PayloadTooLarge
from sourcebook.hub.documents.record import Record
from sourcebook.hub.mappings.model import Properties
from sourcebook.language.requests import SearchRequest, SearchResult

MAX_EXAMPLES = 5


def hits_too_large(max_bytes: int | None) -> PayloadTooLarge:
    """Return the error for hits that have more bytes than a search may read."""
    return PayloadTooLarge(f"The documents found have more than {max_bytes} bytes. Ask for fewer at a time.")


class IndexWriter(Protocol):
    """Fills a new index. Nothing is visible before `commit`."""

    async def add(self, records: Sequence[Record]) -> None:
        """Index documents, in key order."""
        ...

    async def commit(self) -> int:
        """Make the index durable and visible in one step; return the number of documents in it."""
        ...


class IndexInfo(BaseModel):
    """What an index holds; `digest` is that of `model.document.Digest` over the indexed documents."""

    count: int
    digest: str
    properties: Properties


class FieldTrial(BaseModel):
    """How the values of documents fit into a field of a mapping."""

    field: str
    documents: int = 0
    """Documents that have a value of it."""
    misfits: int = 0
    """Documents of which a value would not be indexed, or not as it is."""
    examples: list[tuple[str, Any]] = []
    """The `_id` of the first few of those, and the value."""

    def plus(self, more: "FieldTrial") -> "FieldTrial":
        """Return the sum of two trials; `more` is of documents that follow."""
        return FieldTrial(
            field=self.field,
            documents=self.documents + more.documents,
            misfits=self.misfits + more.misfits,
            examples=(self.examples + more.examples)[:MAX_EXAMPLES],
        )


class IndexPatcher(Protocol):
    """Fills a new index that began as another. Nothing is visible before `commit`. An id is put or deleted once at most."""

    async def put(self, records: Sequence[Record]) -> None:
        """Add documents, or replace those that are there; in key order where possible.

        Raises:
            IndexDamaged: the base is not the index of its collection.
            CannotDerive: there is no room left for a document in the order of the index.
        """
        ...

    async def delete(self, ids: Sequence[str]) -> None:
        """Take documents out; nothing happens for an id that is not there.

        Raises:
            IndexDamaged: the base is not the index of its collection.
        """
        ...

    async def commit(self) -> int:
        """Make the index durable and visible in one step; return the number of documents in it.

        Raises:
            IndexDamaged: the index has another number of documents than it should have.
        """
        ...


class SearchEngine(Protocol):
    """Indices, each made over one collection and immutable once committed."""

    keeps_documents: bool
    """Whether hits have their documents from the index, so that it can stand in for a document store that is away."""

    searches_at_once: int
    """How many searches it runs side by side; more of them only wait for each other."""

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

    def derive(
        self, name: str, *, base: str, collection: str, properties: Properties
    ) -> AbstractAsyncContextManager[IndexPatcher]:
        """Open a patcher for a new index that begins as `base` is, which stays as it is and is served on.

        The cost follows what is put and deleted, as far as the engine can do so. Leaving the context without `commit` leaves
        nothing behind.

        Args:
            name: the new index.
            base: the index that it begins as; the collection of that one must still be there.
            collection: where the documents of the new index are.
            properties: the mapping of the new index. Fields that the base does not have are added; documents that have values in
                them must be put.

        Raises:
            NotFound: there is no index `base`, or its collection is gone.
            IndexDamaged: someone changed `base` since it was written.
            CannotDerive: the mapping indexes a field otherwise than the base, or the base was patched too often.
        """
        ...

    async def try_fields(
        self, properties: Properties, paths: Sequence[str], records: Sequence[Record]
    ) -> list[FieldTrial]:
        """Return how documents fit into fields of a mapping, in the order of `paths`; nothing is indexed.

        Raises:
            MappingError: the engine cannot index a field so.
        """
        ...

    async def info(self, name: str) -> IndexInfo | None:
        """Return what an index was written from, or None if there is no complete index of that name.

        Raises:
            IndexDamaged: someone changed it since it was written.
        """
        ...

    async def search(self, name: str, request: SearchRequest, *, max_bytes: int | None = None) -> SearchResult:
        """Find documents.

        The hits have `max_bytes` at most: a page of a walk ends early, at the earliest after its first document.

        Raises:
            QuerySyntaxError: a query string, sort field or page token cannot be understood.
            PayloadTooLarge: the hits of a search that is not a walk have more than `max_bytes`.
            NotFound: there is no such index.
            EngineUnavailable: the engine does not answer, or not within the request's time.
        """
        ...

    async def verify(self, name: str) -> list[str]:
        """Read everything of an index that is stored here; return what is damaged, in words, or nothing.

        Raises:
            NotFound: there is no such index.
        """
        ...

    async def count(self, name: str) -> int | None:
        """Return the number of documents of an index, or None if there is no complete index of that name."""
        ...

    async def is_outdated(self, name: str) -> bool:
        """Return whether an earlier version wrote the index in a format that is not read any more.

        Then all but `names` and `drop` raise `IndexOutdated`.
        """
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
