"""Locks with an owner and an expiry, so that a dead owner's lock comes free by itself."""

from datetime import timedelta
from typing import Protocol


class Locks(Protocol):
    """Named locks shared by all processes."""

    async def acquire(self, name: str, owner: str, ttl: timedelta) -> bool:
        """Take the lock if it is free, expired or already this owner's; return whether it is ours now."""
        ...

    async def renew(self, name: str, owner: str, ttl: timedelta) -> bool:
        """Push the expiry back; return False if the lock is no longer this owner's."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """Give the lock back; nothing happens if it is not this owner's."""
        ...

    async def holder(self, name: str) -> str | None:
        """Return the owner of a lock that is held and not expired, or None."""
        ...

    async def close(self) -> None:
        """Give back what is open."""
        ...
