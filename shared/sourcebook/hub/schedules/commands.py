"""Start what is due by a schedule: downloads, builds, installations and the cleaning-up. Beat calls it every few seconds.

Schedules are read anew each time, from manifests and records, so that a change needs no restart. A job that a schedule starts
has an id made from the schedule and the time it was due: whoever dies between starting it and noting that starts it once.
What was due while nothing ran is started once, when beat is back.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from sourcebook.context import Context
from sourcebook.errors import Busy, EngineUnavailable, ManifestError, SourcebookError
from sourcebook.hub.builds.answers import list_build_configs
from sourcebook.hub.builds.commands import start_build
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.publishing.commands import start_subscribed_install
from sourcebook.hub.publishing.remotes import Subscription
from sourcebook.hub.schedules.chain import follow_chains
from sourcebook.hub.schedules.cron import next_time
from sourcebook.hub.schedules.model import ScheduleState
from sourcebook.hub.sources.answers import list_plugins
from sourcebook.hub.sources.commands import start_dump
from sourcebook.hub.sources.model import Plugin
from sourcebook.hub.upkeep.cleanup import start_clean_up_if_needed
from sourcebook.hub.upkeep.verify import find_stored, start_verify
from sourcebook.logging import get_logger, hide_secrets
from sourcebook.sdk.manifest import load_manifest
from sourcebook.sdk.plugins import find_manifest

log = get_logger(__name__)

_CLEAN_UP = "20 * * * *"
_VERIFY = "40 2 * * 0"  # all that is stored is read once a week
BUILT_IN = frozenset({"clean", "verify"})
"""Kinds that nobody asked for."""
Start = Callable[[Context, str, str], Awaitable[Job | None]]


class Schedule(NamedTuple):
    """Something that is to be done by itself: its kind, what to, and when."""

    kind: str
    target: str
    cron: str

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
    found = [Schedule("clean", "home", _CLEAN_UP), Schedule("verify", "home", _VERIFY)]
    for plugin in await list_plugins(context):
        cron = await asyncio.to_thread(_read_schedule, plugin)
        if cron:
            found.append(Schedule("dump", plugin.name, cron))
    found += [
        Schedule("build", config.name, config.schedule)
        for config in await list_build_configs(context)
        if config.schedule
    ]
    found += [Schedule("subscribe", item.name, item.cron) for item in await context.state.find(Subscription)]
    return found


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
    job, error = None, None
    try:
        job = await _STARTS[item.kind](context, item.target, job_id)
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


async def _dump(context: Context, target: str, job_id: str) -> Job:
    return await start_dump(context, target, job_id=job_id)


async def _build(context: Context, target: str, job_id: str) -> Job:
    return await start_build(context, target, job_id=job_id)


async def _install(context: Context, target: str, job_id: str) -> Job:
    return await start_subscribed_install(context, target, job_id=job_id)


async def _clean(context: Context, _target: str, job_id: str) -> Job | None:
    return await start_clean_up_if_needed(context, job_id=job_id)


async def _verify(context: Context, _target: str, job_id: str) -> Job | None:
    return await start_verify(context, job_id=job_id) if await find_stored(context) else None


_STARTS: dict[str, Start] = {"dump": _dump, "build": _build, "subscribe": _install, "clean": _clean, "verify": _verify}


def _read_schedule(plugin: Plugin) -> str | None:
    folder = Path(plugin.folder)
    path = find_manifest(folder)
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return _parse_schedule(folder, status.st_mtime_ns, status.st_size) if status else None


@lru_cache(maxsize=4096)
def _parse_schedule(folder: Path, _written_at: int, _size: int) -> str | None:
    """Return the schedule of a manifest; one that was not written since is not read again."""
    try:
        dumper = load_manifest(folder).manifest.dumper
    except ManifestError:
        return None
    return None if dumper.disabled else dumper.schedule
