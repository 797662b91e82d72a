"""Keeps what runs out (a lock, a lease) from running out while something works.

It is renewed in a thread with an event loop and connections of its own: whatever is computed on the event loop of the one who
works, and however many threads it has busy, cannot delay it.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from sourcebook.errors import EngineUnavailable
from sourcebook.logging import get_logger

log = get_logger(__name__)

Renew = Callable[[], Awaitable[None]]
End = Callable[[Exception], None]


class Renewal:
    """Calls `renew` every so many seconds until it is stopped.

    While the engine is away it goes on trying. Any other error ends it, and `end` is called with that error, in its thread.
    """

    def __init__(
        self, open_renew: Callable[[], AbstractAsyncContextManager[Renew]], *, seconds: float, end: End
    ) -> None:
        self._open_renew = open_renew
        self._seconds = seconds
        self._end = end
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._task: asyncio.Task[None]
        self._is_running = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="renewal")

    def start(self) -> None:
        """Begin; the connections are opened for the first renewal, so short work needs none."""
        with contextlib.ExitStack() as stack:
            # Made here: an error in the thread before it runs would leave the caller waiting.
            stack.callback(self._runner.get_loop().close)
            self._thread.start()
            stack.pop_all()
        self._is_running.wait()

    async def stop(self) -> None:
        """End, and wait for it: nothing is renewed when this returns."""
        with contextlib.suppress(RuntimeError):  # its loop has ended by itself
            self._runner.get_loop().call_soon_threadsafe(self._task.cancel)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        with self._runner as runner, contextlib.suppress(asyncio.CancelledError):
            runner.run(self._watch())

    async def _watch(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        self._task = task
        self._is_running.set()
        try:
            await self._renew_for_ever()
        # Whatever it is, those who rely on the renewal must hear of it.
        except Exception as error:
            log.warning("renewal_ended", error=str(error), exc_info=True)
            self._end(error)

    async def _renew_for_ever(self) -> None:
        renew: Renew | None = None
        async with AsyncExitStack() as stack:
            while True:
                await asyncio.sleep(self._seconds)
                try:
                    if renew is None:
                        renew = await stack.enter_async_context(self._open_renew())
                    await renew()
                except EngineUnavailable as error:
                    log.warning("not_renewed", error=error.message)


@asynccontextmanager
async def endable() -> AsyncIterator[End]:
    """Yield a function that ends the body with an error; it may be called from any thread, and the first error counts.

    Raises:
        Exception: the error that the function was called with.
    """
    loop, body = asyncio.get_running_loop(), asyncio.current_task()
    assert body is not None  # noqa: S101 - a coroutine that runs has a task
    reasons: list[Exception] = []
    is_open = True

    def end_here(reason: Exception) -> None:
        if is_open and not reasons:
            reasons.append(reason)
            body.cancel()

    def end(reason: Exception) -> None:
        loop.call_soon_threadsafe(end_here, reason)

    try:
        yield end
        if reasons:  # the body went on all the same
            raise reasons[0]  # noqa: TRY301 - `uncancel` is due here too
    # What the body meets while it is being ended is not why it ended.
    except (Exception, asyncio.CancelledError):
        if not reasons or body.uncancel():
            raise
        raise reasons[0] from None
    finally:
        is_open = False


@asynccontextmanager
async def renewed(
    open_renew: Callable[[], AbstractAsyncContextManager[Renew]], *, seconds: float
) -> AsyncIterator[End]:
    """Renew while the body runs; when that cannot go on, the body ends with the error that says why.

    The value ends the body for other reasons, as that of `endable` does.

    Raises:
        Exception: what ended the renewal.
    """
    async with endable() as end:
        renewal = Renewal(open_renew, seconds=seconds, end=end)
        renewal.start()
        try:
            yield end
        finally:
            await renewal.stop()
