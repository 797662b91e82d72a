"""The contract of locks, on every engine."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from sourcebook.backends import open_locks
from sourcebook.settings import Settings

TTL = timedelta(seconds=30)
pytestmark = pytest.mark.usefixtures("locks_engine")


def test_a_lock_has_one_owner_until_it_is_released_or_expires(tmp_path: Path) -> None:
    async def main() -> None:
        locks = await open_locks(Settings(home=tmp_path))
        assert await locks.acquire("x", "me", TTL)
        assert await locks.acquire("x", "me", TTL)
        assert not await locks.acquire("x", "you", TTL)
        assert await locks.acquire("y", "you", TTL)
        assert await locks.holder("x") == "me"
        assert await locks.renew("x", "me", TTL)
        assert not await locks.renew("x", "you", TTL)
        await locks.release("x", "you")
        assert await locks.holder("x") == "me"
        await locks.release("x", "me")
        assert await locks.holder("x") is None
        assert await locks.acquire("x", "you", timedelta(seconds=-1))
        assert await locks.holder("x") is None
        assert await locks.acquire("x", "me", TTL)
        assert not await locks.renew("x", "you", TTL)
        await locks.close()

    asyncio.run(main())
