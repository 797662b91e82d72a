"""The contract of buses: what is sent arrives at the queue of its stage."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sourcebook.backends import open_bus, open_inline_bus
from sourcebook.errors import EngineUnavailable
from sourcebook.settings import Settings
from sourcebook.supervisor import _broker_command


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(home=tmp_path_factory.mktemp("broker"))
    process = subprocess.Popen(_broker_command(settings), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not settings.broker_socket.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    yield settings
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def test_the_celery_bus_puts_a_job_on_the_queue_of_its_stage(broker: Settings) -> None:
    async def scenario() -> None:
        bus = await open_bus(broker)
        await bus.ping()
        for stage in ("dump", "inspect", "upload"):
            await bus.send(stage, "job1")
        assert await bus.lengths() == {"dump": 1, "upload": 2, "build": 0, "index": 0}
        await bus.close()

    asyncio.run(scenario())
    with redis.Redis(unix_socket_path=str(broker.broker_socket)) as client:
        assert (client.llen("dump"), client.llen("upload"), client.llen("build")) == (1, 2, 0)
        assert b"job1" not in (client.lindex("dump", 0) or b"")[:20]
        assert b"sourcebook.dump" in (client.lindex("dump", 0) or b"")


def test_the_broker_keeps_its_data_and_is_private(broker: Settings) -> None:
    with redis.Redis(unix_socket_path=str(broker.broker_socket)) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}
    assert broker.broker_socket.stat().st_mode & 0o077 == 0


def test_a_broker_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        away = await open_bus(Settings(home=tmp_path))
        with pytest.raises(EngineUnavailable, match="sourcebook up"):
            await away.ping()
        with pytest.raises(EngineUnavailable, match="sourcebook up"):
            await away.lengths()
        await away.close()
        secret = await open_bus(Settings(home=tmp_path, broker_url="redis://:hunter2@127.0.0.1:1/0"))
        with pytest.raises(EngineUnavailable) as caught:
            await secret.ping()
        assert "hunter2" not in str(caught.value)
        await secret.close()

    asyncio.run(scenario())


def test_the_inline_bus_keeps_jobs_in_order() -> None:
    async def scenario() -> None:
        bus = open_inline_bus()
        await bus.ping()
        await bus.send("dump", "1")
        await bus.send("build", "2")
        assert await bus.lengths() == {"dump": 1, "upload": 0, "build": 1, "index": 0}
        assert [bus.queue.get_nowait() for _ in range(2)] == [("dump", "1"), ("build", "2")]
        await bus.close()

    asyncio.run(scenario())
