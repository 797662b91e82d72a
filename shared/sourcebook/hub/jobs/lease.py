"""Locks that their owner keeps for as long as it works."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sourcebook.backends import open_locks
from sourcebook.context import Context
from sourcebook.errors import LeaseLost
from sourcebook.renewal import End, Renew, renewed

_LONGEST_SECONDS = 1.0


@asynccontextmanager
async def keep_lock(context: Context, name: str, owner: str) -> AsyncIterator[End]:
    """Keep a lock that `owner` has just acquired for as long as the body runs; the caller gives it back.

    The value ends the body with an error.

    Raises:
        LeaseLost: somebody else has the lock; `details["lock"]` is its name.
        Exception: the lock cannot be renewed any more, or what the value was called with.
    """
    ttl = context.settings.lock_ttl

    @asynccontextmanager
    async def open_renew() -> AsyncIterator[Renew]:
        locks = await open_locks(context.settings)
        keep = locks.acquire  # these connections have to learn that the lock is the owner's

        async def renew() -> None:
            nonlocal keep
            is_ours, keep = await keep(name, owner, ttl), locks.renew
            if not is_ours:
                raise LeaseLost(
                    f"The lock {name!r} is somebody else's: this process stood still for longer than SOURCEBOOK_LOCK_TTL "
                    f"({ttl.total_seconds():g} s), so another one took over.",
                    lock=name,
                )

        try:
            yield renew
        finally:
            await locks.close()

    async with renewed(open_renew, seconds=min(_LONGEST_SECONDS, ttl.total_seconds() / 3)) as end:
        yield end
