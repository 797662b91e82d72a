"""A bus without a broker: jobs wait in this process until it runs them."""

import asyncio
from collections import Counter

from sourcebook.flow.stages import QUEUES, STAGES


class InlineBus:
    """The bus port as a queue in memory; `sourcebook run` and tests take the jobs from it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def send(self, stage: str, job_id: str) -> None:
        await self.queue.put((stage, job_id))

    async def lengths(self) -> dict[str, int]:
        waiting = Counter(STAGES[stage].queue for stage, _ in list(self.queue._queue))  # type: ignore[attr-defined]  # noqa: SLF001 - a look without taking
        return {queue: waiting[queue] for queue in QUEUES}

    async def ping(self) -> None:
        """Memory always answers."""

    async def close(self) -> None:
        """There is nothing to give back: the state knows the jobs that were not run."""
