"""The embedded search engine: tantivy indices in folders under HOME/search.

The index answers with positions; `_id`s come from a file beside it and documents from the document store, in one call a search.
What is where: `lucene` parses, `tantivy_query` translates, `tantivy_search` runs, `tantivy_writer` builds, `tantivy_patch`
derives, `tantivy_fields` says which fields an index has, `tantivy_ids` numbers its documents.
"""

import asyncio
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sourcebook.backends.fitting import try_fields
from sourcebook.backends.tantivy.cost import is_heavy, is_quick
from sourcebook.backends.tantivy.hits import Found, run_search
from sourcebook.backends.tantivy.index import (
    MANIFEST_FILE,
    Deadline,
    OpenIndex,
    check_index,
    is_outdated,
    read_manifest,
    verify_index,
)
from sourcebook.backends.tantivy.patch import TantivyIndexPatcher, derive_manifest
from sourcebook.backends.tantivy.writer import DROPPED_PREFIX, TantivyIndexWriter, new_manifest
from sourcebook.errors import EngineUnavailable, InvalidName, NotFound
from sourcebook.hub.documents.record import Record, read_document, record_key
from sourcebook.hub.mappings.model import Properties
from sourcebook.language.field_hints import searched_in_vain
from sourcebook.language.requests import Hit, SearchRequest, SearchResult
from sourcebook.ports.documents import BATCH_BYTES, DocumentStore, get_within
from sourcebook.ports.search import FieldTrial, IndexInfo, hits_too_large
from sourcebook.settings import Settings

_MAX_OPEN = 64
_MAX_WORKERS = 8

T = TypeVar("T")


async def open_tantivy(settings: Settings, documents: DocumentStore) -> "TantivySearchEngine":
    """Open the engine under `settings.home`; hits are read from `documents`."""
    return TantivySearchEngine(settings.home / "search", documents)


class TantivySearchEngine:
    """Implements ports.search.SearchEngine."""

    keeps_documents = False

    def __init__(self, home: Path, documents: DocumentStore) -> None:
        self._home = home
        self._home_name = str(home)
        self._documents = documents
        self.searches_at_once = min(_MAX_WORKERS, (os.cpu_count() or 1) + 2)
        self._executor = ThreadPoolExecutor(self.searches_at_once, "search")
        # Patterns that take seconds keep others of their kind waiting, never a search that takes milliseconds.
        self._heavy_executor = ThreadPoolExecutor(max(self.searches_at_once // 2, 1), "heavy-search")
        self._open: OrderedDict[str, tuple[tuple[int, int], OpenIndex]] = OrderedDict()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def create(
        self,
        name: str,
        *,
        collection: str,
        properties: Properties,
        settings: dict[str, Any],  # noqa: ARG002 - shards and replicas mean nothing on one machine
    ) -> AsyncIterator["_AsyncWriter"]:
        self._folder(name)
        writer = TantivyIndexWriter(self._home, new_manifest(name, collection, properties))
        try:
            await _in_thread(writer.open)
            yield _AsyncWriter(writer)
        finally:
            # The thread goes on to the end even if this task is cancelled again.
            await asyncio.shield(asyncio.to_thread(writer.discard))

    @asynccontextmanager
    async def derive(
        self, name: str, *, base: str, collection: str, properties: Properties
    ) -> AsyncIterator["_AsyncPatcher"]:
        self._folder(name)
        manifest = await asyncio.to_thread(read_manifest, self._folder(base))
        if manifest is None:
            raise NotFound(f"There is no index {base}.", name=base)
        patcher = TantivyIndexPatcher(self._home, manifest, derive_manifest(manifest, name, collection, properties))
        try:
            await _in_thread(patcher.open)
            yield _AsyncPatcher(patcher, self._documents, manifest["collection"])
        finally:
            await asyncio.shield(asyncio.to_thread(patcher.discard))

    async def try_fields(
        self, properties: Properties, paths: Sequence[str], records: Sequence[Record]
    ) -> list[FieldTrial]:
        return await asyncio.to_thread(try_fields, properties, paths, records)

    async def info(self, name: str) -> IndexInfo | None:
        return await asyncio.to_thread(_read_info, self._folder(name))

    async def search(self, name: str, request: SearchRequest, *, max_bytes: int | None = None) -> SearchResult:
        known = self._open.get(name)
        if known is not None and is_quick(request, known[1].count):
            index, found = self._search(name, request, Deadline(request.timeout_seconds))
        else:
            index, found = await self._run(name, request)
        hits = await self._read_hits(index, found, max_bytes)
        searched = searched_in_vain(request, found.total, index.properties)
        following = found.next_page(len(hits)) if found.digest else None
        return SearchResult(found.total, hits, found.max_score, found.facets, following, searched)

    async def verify(self, name: str) -> list[str]:
        folder = self._folder(name)
        manifest = await asyncio.to_thread(read_manifest, folder)
        if manifest is None:
            raise NotFound(f"There is no index {name}.", name=name)
        return await asyncio.to_thread(verify_index, folder, manifest)

    async def count(self, name: str) -> int | None:
        manifest = await asyncio.to_thread(read_manifest, self._folder(name))
        return None if manifest is None else int(manifest["count"])

    async def is_outdated(self, name: str) -> bool:
        return await asyncio.to_thread(is_outdated, self._folder(name))

    async def names(self) -> list[str]:
        return await asyncio.to_thread(self._names)

    async def drop(self, name: str) -> None:
        await asyncio.to_thread(self._drop, self._folder(name))

    async def close(self) -> None:
        for executor in (self._executor, self._heavy_executor):
            executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._open.clear()

    async def _run(self, name: str, request: SearchRequest) -> tuple[OpenIndex, Found]:
        """Search in a thread; one that is given up stops at its next step, or before its first."""
        seconds = request.timeout_seconds
        deadline = Deadline(seconds)
        executor = self._heavy_executor if is_heavy(request) else self._executor
        try:
            future = asyncio.get_running_loop().run_in_executor(executor, self._search, name, request, deadline)
        except RuntimeError as error:
            raise EngineUnavailable("The search engine is closed.") from error
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError as error:
            raise EngineUnavailable(f"The search took longer than {seconds:g} seconds.") from error
        finally:
            deadline.cancel()

    def _search(self, name: str, request: SearchRequest, deadline: Deadline) -> tuple[OpenIndex, Found]:
        deadline.check()
        index = self._index(name)
        try:
            return index, run_search(index.until(deadline), request)
        except (ValueError, OSError) as error:
            raise EngineUnavailable(f"tantivy cannot search {name}: {error}") from error

    async def _read_hits(self, index: OpenIndex, found: Found, max_bytes: int | None) -> list[Hit]:
        """Return the documents found; of a walk only as many as have `max_bytes`."""
        if not found.numbers:
            return []
        ids = [index.ids.get(number) for number in found.numbers]
        bodies = await get_within(self._documents, index.collection, ids, max_bytes)
        if len(bodies) < len(ids) and not found.digest:
            raise hits_too_large(max_bytes)
        hits = []
        for position, (document_id, body) in enumerate(zip(ids, bodies, strict=False)):
            if body is None:
                raise EngineUnavailable(f"The collection {index.collection} has no document {document_id!r} any more.")
            score = None if found.scores is None else found.scores[position]
            explanation = None if found.explanations is None else found.explanations[position]
            hits.append(Hit(document_id, score, body, explanation))
        return hits

    def _folder(self, name: str) -> Path:
        _check_name(name)
        return self._home / name

    def _index(self, name: str) -> OpenIndex:
        """Return the open index of a name; another process may have replaced it since the last search."""
        _check_name(name)
        try:
            # Every search asks this, and putting paths together takes longer than the answer.
            status = os.stat(f"{self._home_name}/{name}/{MANIFEST_FILE}")  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            with self._lock:
                self._open.pop(name, None)
            raise NotFound(f"There is no index {name}.", name=name) from None
        stamp = (status.st_ino, status.st_mtime_ns)
        with self._lock:
            known = self._open.get(name)
            if known is not None and known[0] == stamp:
                self._open.move_to_end(name)
                return known[1]
        return self._open_index(name, self._folder(name), stamp)

    def _open_index(self, name: str, folder: Path, stamp: tuple[int, int]) -> OpenIndex:
        try:
            manifest = read_manifest(folder)
            if manifest is None:
                raise NotFound(f"There is no index {name}.", name=name)
            index = OpenIndex(folder, manifest)
        except (ValueError, OSError) as error:
            raise EngineUnavailable(f"The index {name} cannot be opened: {error}") from error
        with self._lock:
            self._open[name] = (stamp, index)
            while len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        return index

    def _names(self) -> list[str]:
        if not self._home.is_dir():
            return []
        folders = [folder for folder in self._home.iterdir() if not folder.name.startswith(".")]
        return sorted(folder.name for folder in folders if (folder / MANIFEST_FILE).is_file())

    def _drop(self, folder: Path) -> None:
        dropped = self._home / f"{DROPPED_PREFIX}{folder.name}-{uuid.uuid4().hex[:12]}"
        try:
            folder.rename(dropped)
        except FileNotFoundError:
            return
        with self._lock:
            self._open.pop(folder.name, None)
        shutil.rmtree(dropped, ignore_errors=True)


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise InvalidName(f"{name!r} cannot name an index.", name=name)


class _AsyncWriter:
    """Runs the writer in worker threads."""

    def __init__(self, writer: TantivyIndexWriter) -> None:
        self._writer = writer

    async def add(self, records: Sequence[Record]) -> None:
        await _in_thread(self._writer.add_records, records)

    async def commit(self) -> int:
        return await _in_thread(self._writer.publish)


class _AsyncPatcher:
    """Runs the patcher in worker threads, and tells it what the base has of each document."""

    def __init__(self, patcher: TantivyIndexPatcher, documents: DocumentStore, collection: str) -> None:
        self._patcher = patcher
        self._documents = documents
        self._collection = collection

    async def put(self, records: Sequence[Record]) -> None:
        rest = records
        while rest:
            ids = [read_document(record)["_id"] for record in rest]
            before = await self._documents.get_many(self._collection, ids, max_bytes=BATCH_BYTES)
            await _in_thread(self._patcher.put, rest[: len(before)], before)
            rest = rest[len(before) :]

    async def delete(self, ids: Sequence[str]) -> None:
        rest = ids
        while rest:
            before = await self._documents.get_many(self._collection, rest, max_bytes=BATCH_BYTES)
            gone, rest = rest[: len(before)], rest[len(before) :]
            await _in_thread(self._patcher.delete, gone, [record_key(item) for item in gone], before)

    async def commit(self) -> int:
        return await _in_thread(self._patcher.publish)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise EngineUnavailable(f"The index cannot be written: {error}. Is the disk full?") from error


def _read_info(folder: Path) -> IndexInfo | None:
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    check_index(folder, manifest)
    return IndexInfo(count=manifest["count"], digest=manifest["digest"], properties=manifest["properties"])
