"""Reports how far a download or an unpacking is, while it runs; and runs blocking work in a thread that can be stopped."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sourcebook.worker import JobRun

ResultT = TypeVar("ResultT")
_REPORT_SECONDS = 0.5


@dataclass(slots=True)
class Count:
    """Bytes of one file: what is done, and how many there are if that is known."""

    done: int = 0
    total: int | None = None


@dataclass(slots=True)
class Meter:
    """Bytes of all files together; the workers write their counts, `report_while` reads the sum."""

    counts: list[Count] = field(default_factory=list)

    def add(self, total: int | None = None) -> Count:
        """Return the count of one more file."""
        count = Count(total=total)
        self.counts.append(count)
        return count

    @property
    def done(self) -> int:
        """Bytes done so far."""
        return sum(count.done for count in self.counts)

    @property
    def total(self) -> int | None:
        """Bytes that there are, or None while that of some file is not known."""
        totals = [count.total for count in self.counts]
        return None if None in totals else sum(total for total in totals if total is not None)


async def report_while(run: JobRun, step: str, meter: Meter, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await `work` and report the meter meanwhile; when this is cancelled, `work` is cancelled and has ended by then."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await run.progress(step, meter.done, meter.total, "bytes")
            await asyncio.wait({task}, timeout=_REPORT_SECONDS)
        return await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def run_in_thread(work: Callable[[threading.Event], ResultT]) -> ResultT:
    """Run blocking `work` in a thread. When this is cancelled, the event is set and the thread's end is awaited."""
    stop = threading.Event()
    task = asyncio.create_task(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        raise
