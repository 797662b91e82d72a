"""Who may work next: a few requests at once, a part of them for each client, the others in turn.

One client with many slow requests has to leave room for others, and requests of one client go round, so that a batch of a
thousand searches does not stand in front of a single one.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sourcebook_api.query.errors import QueryError

MAX_WAITING = 1024  # requests; each holds its body and its connection
MAX_WAITING_OF_CLIENT = 256
_RETRY_SECONDS = 2
_BUSY, _UNAVAILABLE = 429, 503

T = TypeVar("T")


class Turns:
    """Gives out turns. `at_once` is how many there are; one client has three quarters of them at most, but one in any case."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._share = max(at_once - max(at_once // 4, 1), 1)
        self._running: dict[str, int] = {}
        # By request, in the order in which they come to their next turn.
        self._waiting: OrderedDict[object, tuple[str, deque[asyncio.Future[None]]]] = OrderedDict()
        self._waiting_of: dict[str, int] = {}

    async def run(self, client: str, request: object, seconds: float, work: Callable[[], Awaitable[T]]) -> T:
        """Do work of a request of a client when it is its turn.

        Raises:
            QueryError: too many wait already (429), or its turn did not come within `seconds` (503).
        """
        if not self.try_begin(client, request):
            await self.wait(client, request, seconds)
        try:
            return await work()
        finally:
            self.end(client)

    def try_begin(self, client: str, request: object) -> bool:
        """Take a turn if it is free for this client; whoever gets it gives it back by `end`."""
        if self._free > 0 and self._running.get(client, 0) < self._share and request not in self._waiting:
            self._begin(client)
            return True
        return False

    def _begin(self, client: str) -> None:
        self._free -= 1
        self._running[client] = self._running.get(client, 0) + 1

    def end(self, client: str) -> None:
        """Give a turn back."""
        self._free += 1
        left = self._running.pop(client) - 1
        if left:
            self._running[client] = left
        if self._waiting:
            self._call_next()

    async def wait(self, client: str, request: object, seconds: float) -> None:
        """Wait for a turn; whoever gets it gives it back by `end`.

        Raises:
            QueryError: as `run`.
        """
        future = self._join_queue(client, request)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError as error:
            self._leave(client, request, future)
            reason = "Others were first, and the time of this request was over before its turn came."
            raise _refuse(_UNAVAILABLE, reason) from error
        except asyncio.CancelledError:
            self._leave(client, request, future)
            raise

    def _join_queue(self, client: str, request: object) -> asyncio.Future[None]:
        if request not in self._waiting:
            if len(self._waiting) >= MAX_WAITING or self._waiting_of.get(client, 0) >= MAX_WAITING_OF_CLIENT:
                raise _refuse(_BUSY, "Too many requests wait already.")
            self._waiting[request] = client, deque()
            self._waiting_of[client] = self._waiting_of.get(client, 0) + 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[request][1].append(future)
        return future

    def _leave(self, client: str, request: object, future: asyncio.Future[None]) -> None:
        if future.done() and not future.cancelled():  # it was called in the moment in which it gave up
            self.end(client)
            return
        if request not in self._waiting:
            return
        queue = self._waiting[request][1]
        if future in queue:
            queue.remove(future)
        if not queue:
            self._forget(client, request)

    def _forget(self, client: str, request: object) -> None:
        del self._waiting[request]
        left = self._waiting_of.pop(client) - 1
        if left:
            self._waiting_of[client] = left

    def _call_next(self) -> None:
        """Give the free turn to the first request whose client has not its share already; then it goes to the end."""
        found = next(
            (key for key, (client, _) in self._waiting.items() if self._running.get(client, 0) < self._share), None
        )
        if found is None:
            return
        client, queue = self._waiting[found]
        future = queue.popleft()
        if queue:
            self._waiting.move_to_end(found)
        else:
            self._forget(client, found)
        if future.done():  # it gave up, and did not come to say so yet
            self._call_next()
            return
        self._begin(client)
        future.set_result(None)


def _refuse(status: int, reason: str) -> QueryError:
    return QueryError(status, headers=[(b"retry-after", b"%d" % _RETRY_SECONDS)], details=f"{reason} Try again later.")
