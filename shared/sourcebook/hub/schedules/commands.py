"""What beat does every few seconds: it acts on the rows of `rules` for changes, for the clock and for what was lost.

A job that a schedule starts has an id made from the schedule and the time it was due: whoever dies between starting it and noting
that starts it once. What was due while nothing ran is started once, when beat is back.
"""

import hashlib
import time
from typing import NamedTuple

from pydantic import BaseModel

from sourcebook.context import Context
from sourcebook.errors import Busy, EngineUnavailable, SourcebookError
from sourcebook.hub.access.model import Caller
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.schedules.chain import Step, note_chain
from sourcebook.hub.schedules.cron import next_time
from sourcebook.hub.schedules.model import ChainState, ScheduleState
from sourcebook.hub.schedules.rules import AFTER_CHANGE, AFTER_LOSS, ON_TIME, OnTime
from sourcebook.logging import get_logger, hide_secrets

log = get_logger(__name__)

BUILT_IN = frozenset(rule.kind for rule in ON_TIME if rule.is_built_in)
"""Kinds that nobody asked for."""


class Schedule(NamedTuple):
    """Something that is to be done by itself: by which rule, what to, and when."""

    rule: OnTime
    target: str
    cron: str

    @property
    def kind(self) -> str:
        """The kind of its rule."""
        return self.rule.kind

    @property
    def key(self) -> str:
        """Its name in the state."""
        return f"{self.kind}:{self.target}"


class ScheduleView(BaseModel):
    """A schedule as people see it; times are seconds since 1970."""

    kind: str
    target: str
    cron: str
    due_at: float
    last_at: float | None = None
    last_job: str | None = None
    last_error: str | None = None


async def find_schedules(context: Context) -> list[Schedule]:
    """Return every schedule there is now; that of a manifest that cannot be read is left out."""
    return [Schedule(rule, target, cron) for rule in ON_TIME for target, cron in await rule.find(context)]


async def list_schedules(context: Context) -> list[ScheduleView]:
    """Return every schedule with when it is due and what it did last."""
    states = {state.key: state for state in await context.state.find(ScheduleState)}
    views = []
    for item in await find_schedules(context):
        state = states.get(item.key)
        if state is None or state.cron != item.cron:
            state = _first_state(item, time.time())
        known = state.model_dump(exclude={"key", "cron"})
        views.append(ScheduleView(kind=item.kind, target=item.target, cron=item.cron, **known))
    return views


async def run_schedules(context: Context, *, now: float | None = None) -> list[str]:
    """Start what is due at `now`, and what follows in the chains of build configurations; return the ids of the jobs."""
    moment = time.time() if now is None else now
    schedules = await find_schedules(context)
    states = {state.key: state for state in await context.state.find(ScheduleState)}
    started = []
    for item in schedules:
        state = states.pop(item.key, None)
        if state is None or state.cron != item.cron:
            await context.state.put(item.key, _first_state(item, moment))
        elif state.due_at <= moment and (job_id := await _run(context, item, state, moment)):
            started.append(job_id)
    for key in states:  # its schedule is gone
        await context.state.delete(ScheduleState, key)
    return started + await follow_chains(context)


def _first_state(item: Schedule, now: float) -> ScheduleState:
    return ScheduleState(key=item.key, cron=item.cron, due_at=next_time(item.cron, now))


async def _run(context: Context, item: Schedule, state: ScheduleState, now: float) -> str | None:
    job_id = f"{int(state.due_at * 1000):011x}{hashlib.sha256(item.key.encode()).hexdigest()[:8]}"
    asking = context.asked_by(Caller(kind="schedule", name=item.key))
    job, error = None, None
    try:
        job = await item.rule.start(asking, item.target, job_id)
    except Busy:
        pass  # somebody is at it
    except EngineUnavailable as problem:
        log.warning("schedule_waits", schedule=item.key, error=problem.message)
        return None
    except SourcebookError as problem:
        error = hide_secrets(problem.message)
        log.warning("schedule_failed", schedule=item.key, error=error)
    changes = {"due_at": next_time(item.cron, now), "last_at": now, "last_error": error}
    if job is not None:
        changes["last_job"] = job.id
    await context.state.update(ScheduleState, item.key, lambda known: known.model_copy(update=changes), default=state)
    return job.id if job else None


async def follow_chains(context: Context) -> list[str]:
    """Start the next jobs of every build configuration that has some; return their ids."""
    started: list[str] = []
    for config in await context.state.find(BuildConfig):
        state = await context.state.get(ChainState, config.name) or ChainState(config=config.name)
        asking = context.asked_by(Caller(kind="config", name=config.name))
        steps = [await rule.decided_by(asking, config, state) for rule in AFTER_CHANGE]
        for step in steps:
            if step is not None:
                started += await _take(context, config, step)
    return started


async def _take(context: Context, config: BuildConfig, step: Step) -> list[str]:
    jobs: list[Job] = []
    error = None
    try:
        jobs = await step.start()
    except Busy:
        return []  # the next look comes in a few seconds
    except EngineUnavailable as problem:
        log.warning("chain_waits", config=config.name, error=problem.message)
        return []
    except SourcebookError as problem:
        error = hide_secrets(problem.message)
        log.warning("chain_failed", config=config.name, error=error)
    await note_chain(context, config.name, **step.done, last_error=error)
    return [job.id for job in jobs]


async def recover_jobs(context: Context) -> list[str]:
    """Put right what was lost with a worker, the broker or an upgrade; return the ids of the jobs that were touched."""
    return [job_id for rule in AFTER_LOSS for job_id in await rule.decided_by(context)]
