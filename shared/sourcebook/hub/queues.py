"""How much work waits and runs, by queue: what scales workers, and what operators look at first."""

import contextlib

from pydantic import BaseModel

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable
from sourcebook.flow.stages import QUEUES, STAGES
from sourcebook.model.job import Job, JobState


class QueueLoad(BaseModel):
    """The load of one queue: `waiting` messages (None: the broker does not answer) and the jobs of the catalogue."""

    waiting: int | None
    queued: int = 0
    running: int = 0
    active: int = 0


async def read_queues(context: Context) -> dict[str, QueueLoad]:
    """Return the load of every queue."""
    lengths: dict[str, int] = {}
    with contextlib.suppress(EngineUnavailable):  # the jobs are known all the same
        lengths = await context.bus.lengths()
    loads = {queue: QueueLoad(waiting=lengths.get(queue)) for queue in QUEUES}
    for stage in STAGES.values():
        load = loads[stage.queue]
        load.queued += await context.catalog.count(Job, {"state": JobState.QUEUED, "kind": stage.name})
        load.running += await context.catalog.count(Job, {"state": JobState.RUNNING, "kind": stage.name})
    for load in loads.values():
        load.active = load.queued + load.running
    return loads
