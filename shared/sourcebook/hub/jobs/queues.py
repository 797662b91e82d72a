"""How much work waits and runs, by queue: what scales workers, and what operators look at first."""

import asyncio
import contextlib

from pydantic import BaseModel

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable
from sourcebook.flow.stages import QUEUES, STAGES
from sourcebook.hub.jobs.model import Job, JobState

_BROKER_SECONDS = 2.0


class QueueLoad(BaseModel):
    """The load of one queue: `waiting` messages (None: the broker does not answer) and the jobs of the state."""

    waiting: int | None
    queued: int = 0
    running: int = 0
    active: int = 0


async def read_queues(context: Context) -> dict[str, QueueLoad]:
    """Return the load of every queue."""
    lengths = await _read_lengths(context)
    loads = {queue: QueueLoad(waiting=lengths.get(queue)) for queue in QUEUES}
    for stage in STAGES.values():
        load = loads[stage.queue]
        load.queued += await context.state.count(Job, {"state": JobState.QUEUED, "kind": stage.name})
        load.running += await context.state.count(Job, {"state": JobState.RUNNING, "kind": stage.name})
    for load in loads.values():
        load.active = load.queued + load.running
    return loads


async def _read_lengths(context: Context) -> dict[str, int]:
    # The jobs are known all the same.
    with contextlib.suppress(EngineUnavailable, TimeoutError):
        async with asyncio.timeout(_BROKER_SECONDS):
            return await context.bus.lengths()
    return {}
