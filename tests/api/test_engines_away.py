"""An engine that is frozen, as a machine that swaps is, takes connections and says nothing. The gateway answers all the same."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.search_engines import SearchServers
from support.servers_mongo import start_secantus
from support.servers_redis import start_bundled

from sourcebook.backends import open_bus, open_documents, open_locks, open_state
from sourcebook.context import Context, open_context
from sourcebook.errors import EngineUnavailable
from sourcebook.hub.access.model import Caller
from sourcebook.probes import WorkerProbes
from sourcebook.settings import Settings
from sourcebook_api.app import create_app

Server = tuple[str, "subprocess.Popen[bytes]"]
# Far beyond the two seconds that are promised, which a busy machine may need for anything, and far below what sockets wait.
PATIENCE_SECONDS = 20


@contextmanager
def started(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server[1].send_signal(signal.SIGCONT)
        server[1].kill()
        server[1].wait(10)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    with started(start_bundled(tmp_path / "redis")) as server:
        yield server


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[Server]:
    with started(start_secantus(tmp_path / "mongo")) as server:
        yield server


class Gateway:
    """The gateway on engines that a test freezes; `ask` fails where an answer takes too long."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings, open_engines=self.open_engines)
        self.context: Context

    @asynccontextmanager
    async def open_engines(self, settings: Settings, caller: Caller) -> AsyncIterator[Context]:
        async with open_context(settings, caller) as context:
            self.context = context
            yield context

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        async with self.app.router.lifespan_context(self.app):
            yield

    async def ask(self, path: str, body: Any = None) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
        ):
            return await client.get(path) if body is None else await client.post(path, json=body)


def test_documents_are_served_from_the_index_while_mongodb_is_frozen(
    tmp_path: Path, mongo: Server, redis: Server, search_servers: SearchServers, add_genes: Any
) -> None:
    url, process = f"{mongo[0]}frozen", mongo[1]

    async def main(search_url: str) -> None:
        engines = {"documents_url": url, "state_url": url, "search_url": search_url, "broker_url": redis[0]}
        gateway = Gateway(Settings(home=tmp_path / "home", **engines))  # type: ignore[arg-type]
        async with gateway.serve():
            await add_genes(gateway.context)
            requests: list[tuple[str, Any]] = [
                ("/apis/genes/gene/1000", None),
                ("/apis/genes/gene/1000?fields=symbol", None),
                ("/apis/genes/gene", {"ids": "1000,nosuch,1001"}),
                ("/apis/genes/query", {"q": ["1001", "nosuch"], "scopes": "_id"}),
                ("/apis/genes/query?q=CDK2", None),
            ]
            before = [(await gateway.ask(path, body)).content for path, body in requests[:-1]]
            await gateway.ask(requests[-1][0])
            process.send_signal(signal.SIGSTOP)
            answers = [await gateway.ask(path, body) for path, body in requests]
            assert [answer.status_code for answer in answers] == [200] * len(requests)
            assert [answer.content for answer in answers[:-1]] == before
            assert (await gateway.ask("/apis/genes/gene/nosuch")).status_code == 404
            assert (await gateway.ask("/apis/genes/query?q=CDK2&userquery=human")).json()["details"] == (
                "MongoDB does not answer, or not in time. Try again later."
            )
            assert "MongoDB" in (await gateway.ask("/hub/jobs")).json()["message"]
            assert (await gateway.ask("/metrics")).status_code == 200
            assert (await gateway.ask("/health/ready")).json()["engines"] == {
                "state": False,
                "documents": False,
                "search": True,
                "broker": True,
            }
            process.send_signal(signal.SIGCONT)

    with search_servers.url("osmem") as search_url:
        asyncio.run(main(search_url))


def test_pages_metrics_and_probes_answer_while_redis_is_frozen(tmp_path: Path, redis: Server) -> None:
    url, process = redis
    settings = Settings(home=tmp_path / "home", broker_url=url, locks_url=url)

    async def main() -> None:
        gateway = Gateway(settings)
        async with gateway.serve():
            paths = ("/metrics", "/health/queues", "/", "/health/live", "/hub/sources")
            before = [await gateway.ask(path) for path in paths]
            process.send_signal(signal.SIGSTOP)
            # As many at once as there are probes and people: none of them may hold a thread that the others need.
            after = await asyncio.gather(*(gateway.ask(path) for path in paths * 8))
            assert {answer.status_code for answer in (*before, *after)} == {200}
            assert after[1].json()["dump"] == {"waiting": None, "queued": 0, "running": 0, "active": 0}
            assert "sourcebook_request_seconds_count" in after[0].text
            assert not (await gateway.ask("/health/ready")).json()["engines"]["broker"]
            process.send_signal(signal.SIGCONT)

    asyncio.run(main())


def test_a_workers_metrics_answer_while_redis_is_frozen(tmp_path: Path, redis: Server) -> None:
    redis[1].send_signal(signal.SIGSTOP)

    async def main() -> bytes:
        probes = WorkerProbes(Settings(home=tmp_path, broker_url=redis[0]), "dump", tmp_path)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return b"".join(
                await asyncio.to_thread(
                    lambda: list(probes({"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET"}, lambda *_: None))
                )
            )

    assert b"sourcebook_queue_length{" not in asyncio.run(main())


@pytest.mark.parametrize("port", ["locks", "bus", "state", "documents"])
def test_a_frozen_engine_is_given_up_after_the_patience_and_named(
    tmp_path: Path, port: str, request: pytest.FixtureRequest
) -> None:
    name = "redis" if port in {"locks", "bus"} else "mongo"
    url, process = request.getfixturevalue(name)
    url += "frozen" * (name == "mongo")
    settings = Settings(
        home=tmp_path,
        broker_url=url if name == "redis" else "",
        locks_url=url if name == "redis" else "sqlite:",
        state_url=url if name == "mongo" else "sqlite:",
        documents_url=url if name == "mongo" else "lmdb:",
        engine_patience=1.0,
    )

    async def main() -> None:
        openers: dict[str, Callable[[Settings], Awaitable[Any]]] = {
            "locks": open_locks,
            "bus": open_bus,
            "state": open_state,
            "documents": open_documents,
        }
        opened = await openers[port](settings)
        ask: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "locks": lambda locks: locks.holder("a"),
            "bus": lambda bus: bus.send("dump", "a"),
            "state": lambda state: state.position(Settings),
            "documents": lambda documents: documents.names(),
        }
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(EngineUnavailable) as caught:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await ask[port](opened)
        finally:
            process.send_signal(signal.SIGCONT)
            await opened.close()
        assert caught.value.details["engine"] == {"redis": "Redis", "mongo": "MongoDB"}[name]

    asyncio.run(main())
