"""How much work waits and runs, by queue: what scales workers, and what operators look at first."""

import contextlib

from pydantic import BaseModel

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable
from sourcebook.flow.stages import QUEUES, find_queue
from sourcebook.model.job import ACTIVE_STATES, Job, JobState


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
    for job in await context.catalog.find(Job, {"state": tuple(ACTIVE_STATES)}):
        load = loads.get(find_queue(job.kind) or "")
        if load is None:  # a newer version of Sourcebook left it in the catalogue
            continue
        load.active += 1
        if job.state is JobState.RUNNING:
            load.running += 1
        else:
            load.queued += 1
    return loads
