"""What is renewed in a thread of its own stays, whatever its owner computes; the end of a renewal ends its owner."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from sourcebook.errors import EngineUnavailable
from sourcebook.renewal import Renew, endable, renewed

SECONDS = 0.01


def opener(renew: Renew, closed: list[str]) -> Callable[[], AbstractAsyncContextManager[Renew]]:
    @asynccontextmanager
    async def open_renew() -> AsyncIterator[Renew]:
        try:
            yield renew
        finally:
            closed.append(threading.current_thread().name)

    return open_renew


def test_it_goes_on_while_the_event_loop_stands_still_and_every_thread_is_busy() -> None:
    count, enough, closed = 0, threading.Event(), list[str]()

    async def renew() -> None:
        nonlocal count
        count += 1
        if count == 3:
            enough.set()

    async def main() -> None:
        executor = asyncio.get_running_loop()
        busy = threading.Event()
        waiting = [executor.run_in_executor(None, busy.wait) for _ in range(40)]
        async with renewed(opener(renew, closed), seconds=SECONDS):
            assert enough.wait(30)  # on the event loop
            busy.set()
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert count >= 3
    assert closed == ["renewal"]


def test_what_keeps_it_from_beginning_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "renewal":
            raise RuntimeError("can't start new thread")
        start(thread)

    async def body() -> None:
        async with renewed(opener(asyncio.sleep, []), seconds=SECONDS):  # type: ignore[arg-type] # never called
            pytest.fail("it began")

    with monkeypatch.context() as patch, asyncio.Runner() as runner:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            runner.run(body())


def test_nothing_is_renewed_after_the_body() -> None:
    times: list[float] = []

    async def renew() -> None:
        times.append(time.monotonic())

    async def main() -> None:
        async with renewed(opener(renew, []), seconds=SECONDS):
            while not times:
                await asyncio.sleep(SECONDS)
        ended = time.monotonic()
        await asyncio.sleep(5 * SECONDS)
        assert max(times) <= ended

    asyncio.run(main())


def test_an_engine_that_is_away_ends_nothing() -> None:
    tries: list[int] = []

    async def renew() -> None:
        tries.append(1)
        raise EngineUnavailable("away")

    async def main() -> None:
        async with renewed(opener(renew, []), seconds=SECONDS):
            while len(tries) < 3:
                await asyncio.sleep(SECONDS)

    asyncio.run(main())


@pytest.mark.parametrize("fails", ["renew", "open"])
def test_any_other_error_ends_the_body_with_it(fails: str) -> None:
    async def renew() -> None:
        raise RuntimeError(fails)

    @asynccontextmanager
    async def open_renew() -> AsyncIterator[Renew]:
        if fails == "open":
            raise RuntimeError(fails)
        yield renew

    async def main() -> None:
        with pytest.raises(RuntimeError, match=fails):
            async with renewed(open_renew, seconds=SECONDS):
                await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)  # no cancellation is left behind

    asyncio.run(main())


def test_the_first_reason_counts_and_not_what_the_body_meets_while_it_ends() -> None:
    async def body() -> None:
        async with endable() as end:
            end(ValueError("first"))
            end(ValueError("second"))
            try:
                await asyncio.sleep(60)
            finally:
                raise OSError("closing fails")

    async def main() -> None:
        with pytest.raises(ValueError, match="first"):
            await body()
        await asyncio.sleep(0)  # no cancellation is left behind

    asyncio.run(main())


def test_a_body_that_goes_on_all_the_same_ends_with_the_reason() -> None:
    async def body() -> None:
        async with endable() as end:
            end(ValueError("first"))
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    with pytest.raises(ValueError, match="first"):
        asyncio.run(body())


def test_a_body_that_has_ended_is_not_ended_again() -> None:
    async def main() -> None:
        async with endable() as end:
            pass
        end(ValueError("late"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())


def test_who_cancels_the_body_from_outside_cancels_it() -> None:
    async def body() -> None:
        async with endable() as end:
            end(ValueError("reason"))
            await asyncio.sleep(0)
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
