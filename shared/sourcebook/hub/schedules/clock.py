"""What is due by the clock: where schedules are found, and what each kind of them starts.

Schedules are read anew each time, from manifests and records, so that a change needs no restart.
"""

import asyncio
from functools import lru_cache
from pathlib import Path

from sourcebook.context import Context
from sourcebook.errors import ManifestError
from sourcebook.hub.builds.answers import list_build_configs
from sourcebook.hub.builds.commands import start_build
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.publishing.commands import start_subscribed_install
from sourcebook.hub.publishing.remotes import Subscription
from sourcebook.hub.sources.answers import list_plugins
from sourcebook.hub.sources.commands import start_dump
from sourcebook.hub.sources.model import Plugin
from sourcebook.hub.upkeep.cleanup import start_clean_up_if_needed
from sourcebook.hub.upkeep.verify import find_stored, start_verify
from sourcebook.sdk.manifest import load_manifest
from sourcebook.sdk.plugins import find_manifest


async def find_manifest_schedules(context: Context) -> list[tuple[str, str]]:
    """Return (source, cron) of every manifest with a schedule; one that cannot be read, or is disabled, is left out."""
    plugins = await list_plugins(context)
    found = [(plugin.name, await asyncio.to_thread(_read_schedule, plugin)) for plugin in plugins]
    return [(name, cron) for name, cron in found if cron]


async def find_config_schedules(context: Context) -> list[tuple[str, str]]:
    """Return (configuration, cron) of every build configuration with a schedule."""
    return [(config.name, config.schedule) for config in await list_build_configs(context) if config.schedule]


async def find_subscription_schedules(context: Context) -> list[tuple[str, str]]:
    """Return (subscription, cron) of every subscription."""
    return [(item.name, item.cron) for item in await context.state.find(Subscription)]


async def start_scheduled_dump(context: Context, target: str, job_id: str) -> Job:
    return await start_dump(context, target, job_id=job_id)


async def start_scheduled_build(context: Context, target: str, job_id: str) -> Job:
    return await start_build(context, target, job_id=job_id)


async def start_scheduled_install(context: Context, target: str, job_id: str) -> Job:
    return await start_subscribed_install(context, target, job_id=job_id)


async def start_scheduled_clean_up(context: Context, _target: str, job_id: str) -> Job | None:
    return await start_clean_up_if_needed(context, job_id=job_id)


async def start_scheduled_verify(context: Context, _target: str, job_id: str) -> Job | None:
    return await start_verify(context, job_id=job_id) if await find_stored(context) else None


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
