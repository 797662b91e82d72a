"""The production search engine: OpenSearch, one index for each of ours.

An index is complete once the `_meta` of its mapping has a count, which is written last; one without is a leftover of a writer
that died. What is where: `opensearch_server` connects and explains errors, `opensearch_mapping` says what an index is made of,
`opensearch_writer` fills it, `opensearch_query` asks and `opensearch_answer` reads.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson

from sourcebook.backends.fitting import try_fields
from sourcebook.backends.opensearch.answer import Answer, is_exact, read_answer, read_page, read_result
from sourcebook.backends.opensearch.batch import SearchBatcher
from sourcebook.backends.opensearch.mapping import META, IndexState, build_engine_name, build_index_body, read_note
from sourcebook.backends.opensearch.patcher import OpenSearchIndexPatcher, check_untouched
from sourcebook.backends.opensearch.query import (
    Walked,
    build_search,
    build_walk,
    guess_page_size,
    read_token,
    token_digest,
    write_token,
)
from sourcebook.backends.opensearch.server import AnswerTooLarge, OpenSearchServer, RefusedRequest
from sourcebook.backends.opensearch.writer import OpenSearchIndexWriter, remove_index
from sourcebook.errors import Conflict, EngineUnavailable, MappingError, NotFound, QuerySyntaxError
from sourcebook.hub.documents.record import Record
from sourcebook.hub.mappings.model import Properties
from sourcebook.language.field_hints import searched_in_vain
from sourcebook.language.requests import SearchRequest, SearchResult
from sourcebook.ports.documents import DocumentStore
from sourcebook.ports.search import FieldTrial, IndexInfo, IndexPatcher, IndexWriter, hits_too_large
from sourcebook.settings import Settings

_NOT_FOUND = 404
_KNOWN_SECONDS = 5.0
_FIRST_SHARD_SIZE = 1000
_SHARD_SIZE_GROWTH = 20
_LARGEST_SHARD_SIZE = 1_000_000
_HIT_BYTES = 2048  # of an answer, for a hit besides its document: ids are up to 512 bytes, and stand there three times
_OVERHEAD_BYTES = 16 * 1024 * 1024  # of an answer, besides documents: facets, explanations
_SHRINK = 4  # a page that is too large is asked for again with a part of its documents


async def open_opensearch(settings: Settings, documents: DocumentStore) -> "OpenSearchEngine":  # noqa: ARG001 - hits carry their documents
    """Open the engine that `settings.search_url` names; it connects at the first call.

    Raises:
        SettingsError: the URL cannot be read.
    """
    server = OpenSearchServer(settings.search_url, settings.engine_patience)
    return OpenSearchEngine(server, leftover_age=settings.job_time_limit)


class OpenSearchEngine:
    """Implements ports.search.SearchEngine."""

    searches_at_once = 32

    keeps_documents = True

    def __init__(self, server: OpenSearchServer, *, leftover_age: timedelta) -> None:
        self._server = server
        self._batcher = SearchBatcher(server)
        self._leftover_age = leftover_age
        self._known: dict[str, tuple[float, IndexState]] = {}

    @asynccontextmanager
    async def create(
        self, name: str, *, collection: str, properties: Properties, settings: dict[str, Any]
    ) -> AsyncIterator[IndexWriter]:
        engine_name = self._engine_name(name)
        state = IndexState(name, collection, uuid.uuid4().hex, properties, settings)
        await self._remove_leftovers(name)
        await self._server.insist(lambda: self._create(engine_name, state))
        writer = OpenSearchIndexWriter(self._server, engine_name, state)
        try:
            yield writer
        finally:
            # Goes on to the end even if this task is cancelled again.
            await asyncio.shield(asyncio.create_task(writer.discard()))

    @asynccontextmanager
    async def derive(
        self, name: str, *, base: str, collection: str, properties: Properties
    ) -> AsyncIterator[IndexPatcher]:
        before = await self._server.insist(lambda: self._read_state(base))
        if before is None:
            raise _not_found(base)
        if await self.count(name) is not None:
            raise Conflict(f"There is an index {name} already.", index=name)
        engine_name = self._engine_name(name)
        state = IndexState(name, collection, uuid.uuid4().hex, properties, before.settings, id_field=before.id_field)
        await self._remove_leftovers(name)
        patcher = OpenSearchIndexPatcher(
            self._server, base_name=self._engine_name(base), engine_name=engine_name, state=state
        )
        try:
            await patcher.begin(before)
            yield patcher
        finally:
            await asyncio.shield(asyncio.create_task(patcher.discard()))

    async def try_fields(
        self, properties: Properties, paths: Sequence[str], records: Sequence[Record]
    ) -> list[FieldTrial]:
        return await asyncio.to_thread(try_fields, properties, paths, records)

    async def info(self, name: str) -> IndexInfo | None:
        state = await self._read_state(name)
        if state is None:
            return None
        await check_untouched(self._server, self._engine_name(name), state)
        return IndexInfo(count=state.count or 0, digest=state.digest, properties=state.properties)

    async def search(self, name: str, request: SearchRequest, *, max_bytes: int | None = None) -> SearchResult:
        try:
            async with asyncio.timeout(request.timeout_seconds):
                state = await self._state(name)
                if request.in_id_order or request.after is not None:
                    return await self._walk(state, request, max_bytes)
                return await self._search(state, request, max_bytes)
        except TimeoutError as error:
            raise _too_slow(request) from error

    async def verify(self, name: str) -> list[str]:
        # OpenSearch checks its own files; what we can see is whether someone wrote to the index.
        if await self.info(name) is None:
            raise NotFound(f"There is no index {name}.", name=name)
        return []

    async def count(self, name: str) -> int | None:
        state = await self._read_state(name)
        return None if state is None else state.count

    async def is_outdated(self, name: str) -> bool:  # noqa: ARG002 - all versions wrote the format that this one reads
        return False

    async def names(self) -> list[str]:
        found = await self._mappings(f"{self._server.address.prefix}~*")
        return sorted(state.name for state in found.values() if state is not None)

    async def drop(self, name: str) -> None:
        self._known.pop(name, None)
        await remove_index(self._server, self._engine_name(name))

    async def close(self) -> None:
        await self._server.close()

    # Searching

    async def _search(self, state: IndexState, request: SearchRequest, max_bytes: int | None) -> SearchResult:
        shard_size = _FIRST_SHARD_SIZE
        most = None if max_bytes is None else max_bytes + _OVERHEAD_BYTES
        while True:
            try:
                answer = await self._ask(state, request, build_search(state, request, shard_size=shard_size), most)
            except AnswerTooLarge as error:
                raise hits_too_large(max_bytes) from error
            if is_exact(answer) or shard_size >= _LARGEST_SHARD_SIZE:
                break
            shard_size *= _SHARD_SIZE_GROWTH
        result = read_result(state, request, answer)
        if max_bytes is not None and sum([len(hit.body) for hit in result.hits]) > max_bytes:
            raise hits_too_large(max_bytes)
        return result

    async def _walk(self, state: IndexState, request: SearchRequest, max_bytes: int | None) -> SearchResult:
        digest = token_digest(state, request)
        before = read_token(request.after, digest) if request.after else Walked()
        size = min(request.size, before.page_size)
        answer = None
        while answer is None:
            # One hit more than the page: is there another one? What is larger alone comes alone.
            body = build_walk(state, request, before.last_id, size + 1)
            most = None if max_bytes is None or size == 1 else max_bytes + size * _HIT_BYTES
            try:
                answer = await self._ask(state, request, body, most)
            except AnswerTooLarge:
                size = max(size // _SHRINK, 1)
        total = before.total if answer.hits.total is None else answer.hits.total.value
        hits = read_page(answer, size, max_bytes)
        following = None
        if len(answer.hits.hits) > len(hits):
            page_size = guess_page_size(hits, max_bytes)
            following = write_token(digest, Walked(hits[-1].id, total, page_size))
        searched = searched_in_vain(request, total, state.properties)
        return SearchResult(total, hits, next_page=following, searched=searched)

    async def _ask(
        self, state: IndexState, request: SearchRequest, body: dict[str, Any], max_bytes: int | None
    ) -> Answer:
        body["timeout"] = f"{max(int(request.timeout_seconds * 1000), 1)}ms"
        try:
            answer = read_answer(await self._send(state, request, body, max_bytes))
        except RefusedRequest as error:
            if error.status == _NOT_FOUND:
                self._known.pop(state.name, None)
                raise _not_found(state.name) from error
            raise QuerySyntaxError(error.reason) from error
        except ValueError as error:
            raise EngineUnavailable("OpenSearch sent an answer that is not a search result.") from error
        if answer.timed_out:
            raise _too_slow(request)
        return answer

    async def _send(
        self, state: IndexState, request: SearchRequest, body: dict[str, Any], max_bytes: int | None
    ) -> str:
        engine_name, seconds = self._engine_name(state.name), request.timeout_seconds
        if isinstance(request.query, tuple) and not request.facets:
            # Terms are looked up in batches of up to thousands; none of them takes long.
            return await self._batcher.search(engine_name, body, seconds, max_bytes)
        path = f"/{engine_name}/_search"
        return await self._server.ask(
            "POST", path, body, seconds=seconds, max_bytes=max_bytes, allow_partial_search_results="false"
        )

    # What is there

    async def _state(self, name: str) -> IndexState:
        """Return what a complete index says of itself; another process may have replaced it some seconds ago."""
        known = self._known.get(name)
        if known is not None and time.monotonic() - known[0] < _KNOWN_SECONDS:
            return known[1]
        state = await self._read_state(name)
        if state is None:
            self._known.pop(name, None)
            raise _not_found(name)
        self._known[name] = (time.monotonic(), state)
        return state

    async def _read_state(self, name: str) -> IndexState | None:
        """Return what an index says of itself, or None if there is no complete one of that name."""
        engine_name = self._engine_name(name)
        return (await self._mappings(engine_name)).get(engine_name)

    async def _mappings(self, pattern: str) -> dict[str, IndexState | None]:
        """Return what indices say of themselves, by their names in the cluster; None for those that are not complete."""
        try:
            text = await self._server.ask(
                "GET", f"/{pattern}/_mapping", filter_path=f"*.mappings._meta.{META},*.mappings.dynamic"
            )
        except RefusedRequest as error:
            if error.status == _NOT_FOUND:
                return {}
            raise EngineUnavailable(f"OpenSearch does not tell what indices it has ({error.reason}).") from error
        answer = orjson.loads(text) if text else {}
        return {name: self._read_complete(name, found["mappings"]) for name, found in answer.items()}

    def _read_complete(self, engine_name: str, mapping: dict[str, Any]) -> IndexState | None:
        state = read_note(mapping.get("_meta"))
        # A clone says of itself what its base does, until it is complete.
        is_own = state is not None and state.count is not None and self._engine_name(state.name) == engine_name
        return state if is_own else None

    # Making

    async def _create(self, engine_name: str, state: IndexState) -> None:
        try:
            await self._server.ask("PUT", f"/{engine_name}", build_index_body(state))
        except RefusedRequest as error:
            if error.kind == "resource_already_exists_exception":
                if await self._is_ours(engine_name, state):
                    return  # the answer to our own request was lost
                raise Conflict(f"There is an index {state.name} already.", index=state.name) from error
            raise MappingError(
                f"OpenSearch cannot make the index {state.name}: {error.reason}. Change the mapping of that field "
                "(`sourcebook mapping edit`) or the build's index settings.",
                index=state.name,
                reason=error.reason,
            ) from error

    async def _is_ours(self, engine_name: str, state: IndexState) -> bool:
        text = await self._server.ask(
            "GET", f"/{engine_name}/_mapping", filter_path=f"*.mappings._meta.{META}.generation"
        )
        return state.generation.encode() in text.encode()

    async def _remove_leftovers(self, name: str) -> None:
        """Remove the incomplete index of this name, and those that are older than a job may run."""
        found = await self._server.insist(lambda: self._mappings(f"{self._server.address.prefix}~*"))
        for engine_name, state in found.items():
            if state is None and (engine_name == self._engine_name(name) or await self._is_old(engine_name)):
                await remove_index(self._server, engine_name)

    async def _is_old(self, engine_name: str) -> bool:
        try:
            text = await self._server.ask(
                "GET", f"/{engine_name}/_settings", filter_path="*.settings.index.creation_date"
            )
        except RefusedRequest:
            return False
        dates = [int(found["settings"]["index"]["creation_date"]) for found in orjson.loads(text or "{}").values()]
        return any(time.time() - date / 1000 > self._leftover_age.total_seconds() for date in dates)

    def _engine_name(self, name: str) -> str:
        return build_engine_name(self._server.address.prefix, name)


def _not_found(name: str) -> NotFound:
    return NotFound(f"There is no index {name}.", name=name)


def _too_slow(request: SearchRequest) -> EngineUnavailable:
    return EngineUnavailable(f"The search took longer than {request.timeout_seconds:g} seconds.")
