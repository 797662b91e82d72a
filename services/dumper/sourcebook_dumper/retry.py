"""Tries again after transient errors, ever later, and not in step with others."""

import asyncio
import datetime as dt
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sourcebook.errors import DownloadPostponed, TerminalError, TransientError
from sourcebook.logging import get_logger

log = get_logger(__name__)

ResultT = TypeVar("ResultT")
_LONGEST_TOLD = 10 * 365 * 86_400  # seconds; what a server says is not always sensible
_LONGEST_RETRY_AFTER = 120.0  # seconds; for a server that asks for more, no worker waits


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


def most_telling(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that a person has to mend, if there is one, else the first."""
    return next((error for error in errors.exceptions if isinstance(error, TerminalError)), errors.exceptions[0])


async def retry(action: Callable[[], Awaitable[ResultT]], backoff: Backoff) -> ResultT:
    """Await `action` until it succeeds.

    Raises:
        TransientError: the last one, when all tries are used up.
        DownloadPostponed: the server asks for a longer pause than two minutes (`details["retry_after"]`, seconds).
        SourcebookError: any other error at once.
    """
    attempt = 0
    while True:
        try:
            return await action()
        except TransientError as error:
            asked = float(error.details.get("retry_after") or 0.0)
            if asked > _LONGEST_RETRY_AFTER:
                raise _postpone(error, asked) from error
            if attempt >= backoff.retries:
                raise
            pause = max(asked, backoff.delay(attempt))
            attempt += 1
            log.warning("download_retried", attempt=attempt, pause=round(pause, 1), problem=error.message)
        await asyncio.sleep(pause)


def _postpone(error: TransientError, seconds: float) -> DownloadPostponed:
    pause = dt.timedelta(seconds=min(round(seconds), _LONGEST_TOLD))
    until = (dt.datetime.now(dt.UTC) + pause).strftime("%Y-%m-%d %H:%M")
    return DownloadPostponed(
        f"{error.message} It asks to come back in {pause}: start the dump again after {until} UTC. What was downloaded so far is "
        "kept.",
        **{**error.details, "retry_after": seconds, "retry_at": f"{until} UTC"},
    )
