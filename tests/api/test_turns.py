"""Turns: a fair share for each client, requests in turn, and a clear no when it is full. Pure asyncio, nothing timed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sourcebook_api.query import turns as turns_module
from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.turns import Turns

SECONDS = 60.0


class Scene:
    """Requests at work: each notes that it began, and ends when the test says so."""

    def __init__(self, at_once: int) -> None:
        self.turns = Turns(at_once)
        self.began: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, client: str, request: str, name: str, seconds: float = SECONDS) -> "asyncio.Task[None]":
        """Begin a piece of work, or queue it."""
        self._ends[name] = asyncio.Event()

        async def work() -> None:
            self.began.append(name)
            await self._ends[name].wait()

        self._tasks[name] = asyncio.create_task(self.turns.run(client, request, seconds, work))
        await settle()
        return self._tasks[name]

    async def end(self, *names: str) -> None:
        """End pieces of work, one after the other."""
        for name in names:
            self._ends[name].set()
            await self._tasks[name]
            await settle()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def play(scenario: Callable[[Scene], Coroutine[Any, Any, None]], at_once: int = 4) -> None:
    async def main() -> None:
        await scenario(Scene(at_once))

    asyncio.run(main())


def test_one_client_leaves_a_turn_for_others() -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(10):
            await scene.ask("loud", f"r{number}", f"loud {number}")
        assert scene.began == ["loud 0", "loud 1", "loud 2"]
        await scene.ask("quiet", "q", "quiet")
        assert scene.began[3:] == ["quiet"]

    play(scenario)


def test_a_single_request_does_not_wait_for_a_whole_batch_of_the_same_client() -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(8):
            await scene.ask("a", "batch", f"batch {number}")
        await scene.ask("a", "single", "single")
        await scene.end("batch 0", "batch 1")
        assert scene.began == ["batch 0", "batch 1", "batch 2", "batch 3", "single"]

    play(scenario)


def test_the_smallest_number_of_turns_serves_everyone() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.ask("a", "1", "first")
        await scene.ask("b", "2", "second")
        assert scene.began == ["first"]
        await scene.end("first", "second")
        assert scene.began == ["first", "second"]

    play(scenario, at_once=1)


def test_who_is_full_is_told_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "MAX_WAITING_OF_CLIENT", 2)

    async def scenario(scene: Scene) -> None:
        for number in range(5):
            await scene.ask("loud", f"r{number}", str(number))
        refused = await scene.ask("loud", "r5", "5")
        with pytest.raises(QueryError) as error:
            await refused
        assert (error.value.status, dict(error.value.headers)) == (429, {b"retry-after": b"2"})
        assert "wait" in error.value.extra["details"]
        await scene.ask("quiet", "q", "quiet")
        await scene.end("0", "1", "2", "3", "4", "quiet")
        await scene.ask("loud", "r6", "6")
        assert scene.began[-1] == "6"

    play(scenario)


def test_who_gives_up_leaves_nothing_behind() -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(3):
            await scene.ask("a", f"r{number}", str(number))
        late = await scene.ask("a", "late", "late", seconds=0.0)
        gone = await scene.ask("a", "gone", "gone")
        with pytest.raises(QueryError) as refused:
            await late
        assert (refused.value.status, dict(refused.value.headers)) == (503, {b"retry-after": b"2"})
        assert "the time of this request was over" in refused.value.extra["details"]  # not "within 0.0 seconds"
        gone.cancel()
        await scene.end("0", "1", "2")
        assert gone.cancelled()
        for number in range(3):
            await scene.ask("a", f"n{number}", f"new {number}")
        assert scene.began == ["0", "1", "2", "new 0", "new 1", "new 2"]

    play(scenario)


def test_a_turn_that_comes_as_its_request_is_cancelled_goes_on_to_the_next() -> None:
    async def scenario(scene: Scene) -> None:
        running = await scene.ask("a", "r", "running")
        first = await scene.ask("b", "1", "first")
        await scene.ask("c", "2", "second")
        scene._ends["running"].set()
        first.cancel()
        await running
        await settle()
        assert scene.began == ["running", "second"]

    play(scenario, at_once=1)


def test_work_that_fails_gives_its_turn_back() -> None:
    async def scenario(scene: Scene) -> None:
        async def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await scene.turns.run("a", "r", SECONDS, fail)
        await scene.ask("a", "r", "next")
        assert scene.began == ["next"]

    play(scenario, at_once=1)
