"""Derives one OpenSearch index from another: a copy, in which the documents that changed are replaced.

The copy is a clone, which shares the files of its base. Where the mapping lost a field, whose values a clone would find, the
cluster copies document by document instead. Indices are closed to writes once they are complete, as clones want it.
"""

import asyncio
from collections.abc import Iterator, Sequence

import msgspec
import orjson

from sourcebook.backends.opensearch.mapping import (
    IndexState,
    build_clone_body,
    build_index_body,
    build_mapping,
    translate_properties,
)
from sourcebook.backends.opensearch.server import OpenSearchServer, RefusedRequest
from sourcebook.backends.opensearch.too_long import TooLongMarker, read_stored
from sourcebook.backends.opensearch.writer import Action, BulkLoader, complete_index, index_actions, remove_index
from sourcebook.errors import CannotDerive, EngineUnavailable, IndexDamaged, MappingError, VerificationFailed
from sourcebook.hub.documents.record import Digest, Record, content_hash
from sourcebook.hub.mappings.model import Properties

_COPY_SECONDS = 600.0
_POLL_SECONDS = 0.5
_IDS_AT_ONCE = 1000


class _Found(msgspec.Struct):
    id: str = msgspec.field(name="_id")
    source: msgspec.Raw = msgspec.field(name="_source", default=msgspec.Raw())  # empty if it is not there


class _FoundAnswer(msgspec.Struct):
    docs: list[_Found]


class OpenSearchIndexPatcher:
    """Implements ports.search.IndexPatcher."""

    def __init__(self, server: OpenSearchServer, *, base_name: str, engine_name: str, state: IndexState) -> None:
        self._server = server
        self._base_name = base_name
        self._engine_name = engine_name
        self._state = state
        self._marker = TooLongMarker(state.properties)
        self._loader = BulkLoader(server, engine_name)
        self._digest = Digest()
        self._is_committed = False

    async def begin(self, base: IndexState) -> None:
        """Make the copy.

        Raises:
            CannotDerive: the mapping indexes a field otherwise than the base.
            IndexDamaged: someone changed the base.
        """
        check_alike(base.properties, self._state.properties)
        await check_untouched(self._server, self._base_name, base)
        self._digest = Digest(base.count or 0, base.digest)
        if base.types.keys() <= self._state.types.keys():
            await self._server.insist(self._clone)
        else:
            await self._copy()

    async def put(self, records: Sequence[Record]) -> None:
        actions = list(index_actions(records, self._marker))
        await self._forget([document_id for document_id, _ in actions])
        self._digest.add(value for _, value in records)
        await self._loader.send(actions)

    async def delete(self, ids: Sequence[str]) -> None:
        await self._loader.send(_delete_actions(await self._forget(ids)))

    async def commit(self) -> int:
        await self._loader.finish()
        state = self._state.completed(self._digest)
        try:
            await complete_index(self._server, self._engine_name, state)
        except VerificationFailed as error:
            raise IndexDamaged(
                f"The index that {state.name} was derived from is not what it was: {error.message}", **error.details
            ) from error
        self._is_committed = True
        return self._digest.count

    async def discard(self) -> None:
        """Remove what was not committed."""
        await self._loader.cancel()
        if not self._is_committed:
            await remove_index(self._server, self._engine_name)

    async def _forget(self, ids: Sequence[str]) -> list[str]:
        """Take the base's documents of these ids out of the digest; return the ids that it has."""
        known = []
        for start in range(0, len(ids), _IDS_AT_ONCE):
            part = list(ids[start : start + _IDS_AT_ONCE])
            text = await self._server.insist(
                lambda part=part: self._server.ask("POST", f"/{self._base_name}/_mget", {"ids": part})  # type: ignore[misc]
            )
            for found in msgspec.json.decode(text, type=_FoundAnswer).docs:
                source = bytes(found.source)
                if source:
                    body = read_stored(source)
                    self._digest.remove([content_hash(body)])
                    known.append(found.id)
        return known

    async def _clone(self) -> None:
        path = f"/{self._base_name}/_clone/{self._engine_name}"
        try:
            await self._server.ask("PUT", path, build_clone_body(self._state), seconds=_COPY_SECONDS)
            mapping = build_mapping(self._state)
            del mapping["dynamic"]
            await self._server.ask("PUT", f"/{self._engine_name}/_mapping", mapping)
        except RefusedRequest as error:
            if error.kind != "resource_already_exists_exception":
                raise self._refused(error) from error
            # Our own request, the answer to which was lost; or that of a writer that died.
            await remove_index(self._server, self._engine_name)
            raise EngineUnavailable(f"The index {self._state.name} was there already.", passing=True) from error

    async def _copy(self) -> None:
        try:
            await self._server.ask("PUT", f"/{self._engine_name}", build_index_body(self._state))
            body = {"source": {"index": self._base_name}, "dest": {"index": self._engine_name}}
            started = await self._server.ask("POST", "/_reindex", body, wait_for_completion="false")
            path = f"/_tasks/{orjson.loads(started)['task']}"
            while True:
                task = orjson.loads(await self._server.insist(lambda: self._server.ask("GET", path)))
                if task["completed"]:
                    break
                await asyncio.sleep(_POLL_SECONDS)
        except RefusedRequest as error:
            raise self._refused(error) from error
        if task.get("error") or task.get("response", {}).get("failures"):
            raise CannotDerive(
                f"OpenSearch cannot copy the index that {self._state.name} is derived from: release the build in full.",
                index=self._state.name,
            )

    def _refused(self, error: RefusedRequest) -> MappingError:
        return MappingError(
            f"OpenSearch cannot derive the index {self._state.name}: {error.reason}. Release the build in full.",
            index=self._state.name,
            reason=error.reason,
        )


def _delete_actions(ids: Sequence[str]) -> Iterator[Action]:
    for document_id in ids:
        yield document_id, b'{"delete":{"_id":%b}}\n' % orjson.dumps(document_id)


async def check_untouched(server: OpenSearchServer, engine_name: str, state: IndexState) -> None:
    """Compare the number of documents with what was written.

    Raises:
        IndexDamaged: they differ.
    """
    found = orjson.loads(await server.ask("GET", f"/{engine_name}/_count"))["count"]
    if found != state.count:
        raise IndexDamaged(
            f"The index {state.name} has {found} documents, {state.count} were written: someone changed it. Release the build "
            "in full.",
            index=state.name,
            expected=state.count,
            found=found,
        )


def check_alike(base: Properties, properties: Properties) -> None:
    """Compare how the fields of two mappings are indexed, as far as both have them.

    Raises:
        CannotDerive: a field is indexed otherwise.
    """
    _check_alike(translate_properties(base), translate_properties(properties), "")


def _check_alike(base: Properties, properties: Properties, prefix: str) -> None:
    for key in base.keys() & properties.keys():
        before, after = ({k: v for k, v in part[key].items() if k != "properties"} for part in (base, properties))
        if before != after:
            raise CannotDerive(
                f"Field {prefix + key!r} is indexed differently than before: release the build in full.",
                field=prefix + key,
            )
        inner = [part[key].get("properties", {}) for part in (base, properties)]
        _check_alike(inner[0], inner[1], f"{prefix}{key}.")
