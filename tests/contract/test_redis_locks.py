"""What Redis adds to the contract of locks: a server that restarts, without its data too, logins, URLs."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from support.servers_mongo import free_port
from support.servers_redis import start_bundled

from sourcebook.backends import open_locks
from sourcebook.backends.redis.locks import RedisLocks
from sourcebook.errors import EngineUnavailable, SettingsError
from sourcebook.settings import Settings

TTL = timedelta(seconds=30)


def open_behind(home: Path, url: str, patience: float = 20) -> Settings:
    return Settings(home=home, locks_url=url, engine_patience=timedelta(seconds=patience))


def test_a_lock_outlives_a_restart_even_of_a_server_that_forgets(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        url, process = start_bundled(tmp_path / "one", port=port)
        mine, yours = await open_locks(open_behind(tmp_path, url)), await open_locks(open_behind(tmp_path, url))
        assert await mine.acquire("x", "me", TTL)
        assert await mine.acquire("y", "me", TTL)
        process.kill()
        process.wait()
        renewal = asyncio.create_task(mine.renew("x", "me", TTL))  # waits until the server is back
        await asyncio.sleep(0.3)
        _, process = await asyncio.to_thread(start_bundled, tmp_path / "empty", port=port)
        assert await renewal
        assert not await yours.acquire("x", "you", TTL)
        assert await yours.acquire("y", "you", TTL)  # nobody had renewed it
        assert not await mine.renew("y", "me", TTL)
        await mine.release("x", "me")
        assert not await mine.renew("x", "me", TTL)
        await mine.close()
        await yours.close()
        process.kill()
        process.wait()

    asyncio.run(scenario())


def test_a_wrong_password_is_told_at_once_and_hidden(tmp_path: Path) -> None:
    async def scenario() -> None:
        url, process = start_bundled(tmp_path / "server", password="right%2Fone")
        try:
            for wrong in (url.replace("right%2Fone", "hunter2"), url.replace(":right%2Fone@", "")):
                locks = await open_locks(open_behind(tmp_path, wrong))
                with pytest.raises(SettingsError, match="refuses the login") as caught:
                    await locks.acquire("x", "me", TTL)
                assert "hunter2" not in f"{caught.value} {caught.value.details}"
                await locks.close()
        finally:
            process.kill()
            process.wait()

    asyncio.run(scenario())


def test_a_server_that_stays_away_is_named_without_the_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        for scheme in ("redis", "rediss"):
            locks = await open_locks(open_behind(tmp_path, f"{scheme}://:hunter2@127.0.0.1:1/0", patience=0.2))
            with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:1") as caught:
                await locks.holder("x")
            assert "hunter2" not in f"{caught.value} {caught.value.details}"
            await locks.close()

    asyncio.run(scenario())


def test_a_wrong_url_says_how_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="redis://:password@host") as caught:
        asyncio.run(open_locks(open_behind(tmp_path, "redis://:hun/ter2@host:port/0")))
    assert "ter2" not in str(caught.value)


def test_with_a_mongodb_state_store_the_locks_are_in_the_brokers_redis(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(home=tmp_path, state_url="mongodb://host/db", broker_url="redis://broker:6379/0")
        locks = await open_locks(settings)
        assert isinstance(locks, RedisLocks)
        assert locks._url == "redis://broker:6379/0"
        await locks.close()
        bundled = await open_locks(Settings(home=tmp_path, state_url="mongodb://host/db"))
        assert isinstance(bundled, RedisLocks)
        await bundled.close()

    asyncio.run(scenario())
