"""A lock stays its owner's while the owner works, and its loss ends the work."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from support.context import run_in_context
from support.locks import ask_locks, block_until_renewed, expiry_of

from sourcebook.context import Context
from sourcebook.errors import LeaseLost
from sourcebook.hub.jobs.lease import keep_lock

TTL = timedelta(seconds=1)


def test_a_lock_is_renewed_though_nothing_else_gets_a_turn_on_the_event_loop(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await context.locks.acquire("l", "owner", TTL)
        async with keep_lock(context, "l", "owner"):
            block_until_renewed(tmp_path, "l", TTL)

    run_in_context(tmp_path, scenario, lock_ttl=TTL)


def test_who_loses_a_lock_is_ended_with_the_reason(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        async def work() -> None:
            async with keep_lock(context, "l", "owner"):
                ask_locks(tmp_path, "UPDATE locks SET owner = 'thief', expires = expires + 60")
                await asyncio.sleep(60)

        await context.locks.acquire("l", "owner", TTL)
        with pytest.raises(LeaseLost, match="SOURCEBOOK_LOCK_TTL") as lost:
            await work()
        assert lost.value.details == {"lock": "l"}
        assert await context.locks.holder("l") == "thief"

    run_in_context(tmp_path, scenario, lock_ttl=TTL)


def test_a_lock_that_another_had_meanwhile_is_not_taken_again(tmp_path: Path) -> None:
    """Somebody took it, did the work and gave it back while this machine slept."""

    async def scenario(context: Context) -> None:
        async def work() -> None:
            first = expiry_of(tmp_path, "l")
            async with keep_lock(context, "l", "owner"):
                while expiry_of(tmp_path, "l") == first:
                    await asyncio.sleep(0.05)
                await context.locks.release("l", "owner")
                await asyncio.sleep(60)

        await context.locks.acquire("l", "owner", TTL)
        with pytest.raises(LeaseLost):
            await work()
        assert await context.locks.holder("l") is None

    run_in_context(tmp_path, scenario, lock_ttl=TTL)
