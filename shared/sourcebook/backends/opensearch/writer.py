"""Fills one OpenSearch index: bulk requests made of stored bytes, several on their way at once.

Adding a document twice leaves it there once, so a request whose answer was lost is sent again.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import orjson

from sourcebook.backends.opensearch.mapping import HEAD, IndexState, final_settings
from sourcebook.backends.opensearch.server import OpenSearchServer, RefusedRequest
from sourcebook.backends.opensearch.too_long import TooLongMarker
from sourcebook.errors import DocumentError, EngineUnavailable, VerificationFailed
from sourcebook.hub.documents.record import HASH_BYTES, Digest, Record, read_document

_BODY_BYTES = 8 * 1024 * 1024
_BODIES_AT_ONCE = 3
_BULK_SECONDS = 120.0
_COMMIT_SECONDS = 600.0
_FIELD = re.compile(r"field \[([^\]]*)\]|field=\"([^\"]*)\"|object mapping for \[([^\]]*)\]|^\[?([\w.]+)\]? failed to")
_TOO_MANY, _UNAVAILABLE, _NOT_FOUND = 429, 503, 404
_PASSING = {_TOO_MANY, _UNAVAILABLE}

Action = tuple[str, bytes]
"""The `_id` of a document, and its lines in a bulk request."""


class _Item(msgspec.Struct):
    id: str = msgspec.field(name="_id")
    status: int
    error: dict[str, Any] | None = None


class _BulkAnswer(msgspec.Struct):
    items: list[dict[str, _Item]] = []


class BulkLoader:
    """Sends actions to one index, a few requests at once."""

    def __init__(self, server: OpenSearchServer, engine_name: str) -> None:
        self._server = server
        self._path = f"/{engine_name}/_bulk"
        self._waiting: list[Action] = []
        self._size = 0
        self._sent: set[asyncio.Task[None]] = set()

    async def send(self, actions: Iterable[Action]) -> None:
        """Take actions; those that fill a request go out."""
        for action in actions:
            self._waiting.append(action)
            self._size += len(action[1])
            if self._size >= _BODY_BYTES:
                await self._start()

    async def finish(self) -> None:
        """Wait until everything is there."""
        if self._waiting:
            await self._start()
        while self._sent:
            await self._wait(asyncio.ALL_COMPLETED)

    async def cancel(self) -> None:
        """Let go of what is on its way."""
        for task in self._sent:
            task.cancel()
        await asyncio.gather(*self._sent, return_exceptions=True)

    async def _start(self) -> None:
        while len(self._sent) >= _BODIES_AT_ONCE:
            await self._wait(asyncio.FIRST_COMPLETED)
        actions, self._waiting, self._size = self._waiting, [], 0
        self._sent.add(asyncio.create_task(self._deliver(actions)))

    async def _wait(self, until: str) -> None:
        done, self._sent = await asyncio.wait(self._sent, return_when=until)
        for task in done:
            task.result()

    async def _deliver(self, actions: list[Action]) -> None:
        remaining = actions

        async def post() -> None:
            nonlocal remaining
            remaining = await self._post(remaining)
            if remaining:
                raise EngineUnavailable(
                    f"OpenSearch at {self._server.address.shown} is overloaded: it takes only some of the documents. Try again "
                    "later, or give it more memory or nodes.",
                    passing=True,
                )

        await self._server.insist(post)

    async def _post(self, actions: list[Action]) -> list[Action]:
        """Send one request; return the actions that have to be sent again."""
        body = b"".join(lines for _, lines in actions)
        try:
            text = await self._server.ask(
                "POST", self._path, body, seconds=_BULK_SECONDS, filter_path="items.*.error,items.*._id,items.*.status"
            )
            items = msgspec.json.decode(text, type=_BulkAnswer).items if text else []
        except RefusedRequest as error:
            raise EngineUnavailable(
                f"OpenSearch at {self._server.address.shown} does not take the documents ({error.reason})."
            ) from error
        except msgspec.DecodeError as error:
            raise EngineUnavailable(
                f"OpenSearch at {self._server.address.shown} sent an answer that cannot be read.", passing=True
            ) from error
        again = []
        for action, item in zip(actions, items, strict=True):
            (answer,) = item.values()
            if answer.error is None:
                continue
            self._judge(answer)
            again.append(action)
        return again

    def _judge(self, item: _Item) -> None:
        kind, reason = str(item.error.get("type", "")) if item.error else "", _reason(item.error or {})
        if kind == "cluster_block_exception":
            raise self._server.explain_block(reason)
        if item.status in _PASSING:
            return
        field = _find_field(item.error or {})
        where = f", field {field!r}" if field else ""
        raise DocumentError(
            f"OpenSearch refuses document {item.id!r}{where}: {reason}. Correct the parser, or change the field's mapping "
            "(`sourcebook mapping edit`; `ignore_malformed: true` leaves out values that do not fit).",
            id=item.id,
            field=field,
            reason=reason,
        )


def _reason(error: dict[str, Any]) -> str:
    reason, inner = str(error.get("reason", "")), error.get("caused_by")
    deepest = str(inner.get("reason", "")) if isinstance(inner, dict) else ""
    return f"{reason}: {deepest}" if deepest and deepest not in reason else reason


def _find_field(error: dict[str, Any]) -> str | None:
    part: Any = error
    while isinstance(part, dict):
        match = _FIELD.search(str(part.get("reason", "")))
        if match is not None:
            return next(group for group in match.groups() if group is not None)
        part = part.get("caused_by")
    return None


def index_actions(records: Sequence[Record], marker: TooLongMarker) -> Iterator[Action]:
    """Yield what adds records, or replaces them: an action line, and the stored bytes under another name for the `_id`."""
    for key, value in records:
        body = value[HASH_BYTES:]
        document_id = key.decode(errors="replace")
        name = orjson.dumps(document_id)
        if not body.startswith(name, len(HEAD)):  # the key of a very long id is not the id itself
            document_id = str(read_document((key, value))["_id"])
            name = orjson.dumps(document_id)
        yield document_id, b'{"index":{"_id":%b}}\n%b\n' % (name, marker.store(body))


class OpenSearchIndexWriter:
    """Implements ports.search.IndexWriter."""

    def __init__(self, server: OpenSearchServer, engine_name: str, state: IndexState) -> None:
        self._server = server
        self._engine_name = engine_name
        self._state = state
        self._loader = BulkLoader(server, engine_name)
        self._marker = TooLongMarker(state.properties)
        self._digest = Digest()
        self.is_committed = False

    async def add(self, records: Sequence[Record]) -> None:
        self._digest.add(value for _, value in records)
        await self._loader.send(index_actions(records, self._marker))

    async def commit(self) -> int:
        await self._loader.finish()
        await complete_index(self._server, self._engine_name, self._state.completed(self._digest))
        self.is_committed = True
        return self._digest.count

    async def discard(self) -> None:
        """Remove what was not committed."""
        await self._loader.cancel()
        if not self.is_committed:
            await remove_index(self._server, self._engine_name)


async def complete_index(server: OpenSearchServer, engine_name: str, state: IndexState) -> None:
    """Make what was loaded searchable and count it; the last request of all marks the index as complete.

    Raises:
        VerificationFailed: documents are missing.
    """

    async def complete() -> None:
        await server.ask("POST", f"/{engine_name}/_refresh", seconds=_COMMIT_SECONDS)
        found = orjson.loads(await server.ask("GET", f"/{engine_name}/_count"))["count"]
        if found != state.count:
            raise VerificationFailed(
                f"OpenSearch has {found} documents in {state.name}, {state.count} were sent. The API keeps its release; release "
                "the build again.",
                index=state.name,
                expected=state.count,
                found=found,
            )
        await server.ask("POST", f"/{engine_name}/_flush", seconds=_COMMIT_SECONDS)
        await server.ask("PUT", f"/{engine_name}/_settings", final_settings(state))
        await server.ask("PUT", f"/{engine_name}/_mapping", {"_meta": state.note()})

    try:
        await server.insist(complete)
    except RefusedRequest as error:
        raise EngineUnavailable(
            f"OpenSearch at {server.address.shown} cannot finish the index {state.name} ({error.reason}).",
            index=state.name,
        ) from error


async def remove_index(server: OpenSearchServer, engine_name: str) -> None:
    """Remove an index; nothing happens if it is not there."""
    try:
        await server.ask("DELETE", f"/{engine_name}")
    except RefusedRequest as error:
        if error.status != _NOT_FOUND:
            raise EngineUnavailable(
                f"OpenSearch at {server.address.shown} does not remove the index {engine_name} ({error.reason})."
            ) from error
