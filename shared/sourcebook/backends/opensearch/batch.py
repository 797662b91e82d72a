"""Look-ups that are asked for at the same moment go out in one request: a batch of a thousand terms is a hundred of them."""

import asyncio
from typing import Any, NamedTuple

import msgspec
import orjson

from sourcebook.backends.opensearch.server import AnswerTooLarge, OpenSearchServer
from sourcebook.errors import EngineUnavailable

_OK = 200


class _Waiting(NamedTuple):
    engine_name: str
    body: dict[str, Any]
    seconds: float
    max_bytes: int | None
    answer: "asyncio.Future[str]"


class _Many(msgspec.Struct):
    responses: list[msgspec.Raw]


class _Status(msgspec.Struct):
    status: int = _OK
    error: Any = None


class SearchBatcher:
    """Sends searches; those that come together travel together."""

    def __init__(self, server: OpenSearchServer) -> None:
        self._server = server
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def search(self, engine_name: str, body: dict[str, Any], seconds: float, max_bytes: int | None) -> str:
        """Return the JSON of the answer to one search.

        Raises:
            AnswerTooLarge: it has more than `max_bytes`.
            EngineUnavailable, RefusedRequest: as `OpenSearchServer.ask`.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(engine_name, body, seconds, max_bytes, loop.create_future())
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            loop.call_soon(self._start)
        return await waiting.answer

    def _start(self) -> None:
        group, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._send(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, group: list[_Waiting]) -> None:
        try:
            texts = await self._ask(group)
        except AnswerTooLarge as error:
            await self._send_each(group, error)
            return
        # Whoever waits for an answer gets what went wrong instead.
        except Exception as error:  # noqa: BLE001
            for waiting in group:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        for waiting, text in zip(group, texts, strict=True):
            self._give(waiting, text)

    async def _send_each(self, group: list[_Waiting], error: AnswerTooLarge) -> None:
        """Ask one by one: together the answers are larger than one may be, and nobody is refused for another's."""
        if len(group) == 1:
            if not group[0].answer.done():
                group[0].answer.set_exception(error)
            return
        for waiting in group:
            if not waiting.answer.done():  # whoever had too much already has given up the others
                await self._send([waiting])

    async def _ask(self, group: list[_Waiting]) -> list[str]:
        lines = []
        for waiting in group:
            lines.append(orjson.dumps({"index": waiting.engine_name, "allow_partial_search_results": False}))
            lines.append(orjson.dumps(waiting.body))
        seconds = max(waiting.seconds for waiting in group)
        limits = [waiting.max_bytes for waiting in group if waiting.max_bytes is not None]
        most = max(limits) if len(limits) == len(group) else None
        text = await self._server.ask("POST", "/_msearch", b"\n".join([*lines, b""]), seconds=seconds, max_bytes=most)
        try:
            answers = [bytes(answer).decode() for answer in msgspec.json.decode(text, type=_Many).responses]
        except ValueError as error:
            raise EngineUnavailable("OpenSearch sent an answer that is not a list of search results.") from error
        if len(answers) != len(group):
            raise EngineUnavailable("OpenSearch did not answer every one of several searches.")
        return answers

    def _give(self, waiting: _Waiting, text: str) -> None:
        if waiting.answer.done():  # nobody waits any longer
            return
        status = msgspec.json.decode(text, type=_Status)
        if status.error is None:
            waiting.answer.set_result(text)
        else:
            waiting.answer.set_exception(self._server.explain(status.status, {"error": status.error}))
