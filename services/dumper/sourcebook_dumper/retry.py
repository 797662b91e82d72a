"""Tries again after transient errors, ever later, and not in step with others."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sourcebook.errors import TransientError
from sourcebook.logging import get_logger

log = get_logger(__name__)

ResultT = TypeVar("ResultT")
_LONGEST_RETRY_AFTER = 120.0  # a server that asks for more is left to the job's next attempt


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how late a transient error is tried again; the delay doubles each time."""

    retries: int
    first_seconds: float = 0.5
    longest_seconds: float = 30.0

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failure number `attempt` (from 0): between half and all of the doubled delay."""
        longest: float = min(self.longest_seconds, self.first_seconds * 2**attempt)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing


async def retry(action: Callable[[], Awaitable[ResultT]], backoff: Backoff) -> ResultT:
    """Await `action` until it succeeds.

    Raises:
        TransientError: the last one, when all tries are used up or the server asks for a longer pause than two minutes
            (`details["retry_after"]`, seconds).
        SourcebookError: any other error at once.
    """
    for attempt in range(backoff.retries):
        try:
            return await action()
        except TransientError as error:
            asked = float(error.details.get("retry_after") or 0.0)
            if asked > _LONGEST_RETRY_AFTER:
                raise
            pause = max(asked, backoff.delay(attempt))
            log.warning("download_retried", attempt=attempt + 1, pause=round(pause, 1), problem=error.message)
        await asyncio.sleep(pause)
    return await action()
