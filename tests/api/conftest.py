"""A small release on the embedded engines, and the gateway that serves it, through real ASGI calls."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Message

from sourcebook.backends.inline.bus import InlineBus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import Caller
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.releases.model import Api, Release
from sourcebook.settings import Settings
from sourcebook_api.app import create_app, create_query_app

ResultT = TypeVar("ResultT")
MAPPING: dict[str, dict[str, Any]] = {
    "symbol": {"type": "keyword", "normalizer": "keyword_lowercase_normalizer", "copy_to": "all"},
    "name": {"type": "text", "copy_to": "all"},
    "taxid": {"type": "integer"},
    "type_of_gene": {"type": "keyword"},
    "chromosome": {"type": "keyword"},
    "secret": {"type": "keyword", "index": False},
    "pathway": {"properties": {"id": {"type": "keyword"}, "name": {"type": "text"}}},
    "cpic": {"properties": {"level": {"type": "keyword"}}},
}
METADATA: dict[str, Any] = {
    "biothing_type": "gene",
    "build_version": "1",
    "build_date": "2024-01-02T10:00:00+00:00",
    "_inside": "hidden",
    "src": {
        "hgnc": {"version": "2024", "stats": {"hgnc": 30}},
        "cpic": {"version": "7", "stats": {"cpic": 1}, "license_url": "http://cpic.example/license"},
    },
    "stats": {"total": 30},
}


def make_genes(count: int = 30, marker: str = "one") -> list[dict[str, Any]]:
    """Genes 1000, 1001 ...; the first is CDK2 with all there is, every third is a pseudogene."""
    genes: list[dict[str, Any]] = [
        {
            "_id": str(1000 + number),
            "symbol": f"GENE{number}",
            "name": f"test gene number {number}",
            "taxid": 9606 if number % 2 else 10090,
            "type_of_gene": "pseudo" if number % 3 == 0 else "protein-coding",
            "chromosome": str(number % 4),
            "release": marker,
            "secret": "x",
        }
        for number in range(count)
    ]
    genes[0] |= {"symbol": "CDK2", "name": "cyclin dependent kinase 2", "taxid": 9606, "cpic": {"level": "A"}}
    genes[0]["pathway"] = [{"id": "a", "name": "cell cycle"}, {"id": "b", "name": "other thing"}]
    genes[1] |= {"symbol": "CDK7", "name": "cyclin dependent kinase 7"}
    del genes[2]["chromosome"]
    return genes


async def add_release(
    context: Context,
    name: str = "genes_1",
    genes: list[dict[str, Any]] | None = None,
    mapping: dict[str, dict[str, Any]] = MAPPING,
) -> None:
    """Store, index and release documents under the API `genes`."""
    records = sorted(make_record(gene) for gene in (genes if genes is not None else make_genes()))
    async with context.documents.create(f"build~{name}") as collection:
        await collection.write(records)
        await collection.commit()
    async with context.search.create(
        f"{name}_index", collection=f"build~{name}", properties=mapping, settings={}
    ) as index:
        await index.add(records)
        await index.commit()
    release = Release(
        name=name,
        build=name,
        config="genes",
        doc_type="gene",
        collection=f"build~{name}",
        index=f"{name}_index",
        count=len(records),
        mapping=mapping,
        metadata=METADATA,
    )
    await context.state.put(name, release)
    await context.state.put("genes", Api(name="genes", config="genes", release=name))


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """Start and stop an app as a server does."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()

    async def send(message: Message) -> None:
        await outbox.put(message)

    async def live() -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, inbox.get, send)

    task = asyncio.create_task(live())
    await inbox.put({"type": "lifespan.startup"})
    assert (await outbox.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await outbox.get()
        await task


class Gateway:
    """The gateway in this process: `ask` sends a request, `context` is what it works with."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.settings = Settings(home=home, **settings)
        self.app = create_app(self.settings, open_engines=self.open_engines)
        self.query_app = create_query_app(self.settings, "genes", open_engines=self.open_engines)
        self.context: Context

    @asynccontextmanager
    async def open_engines(self, settings: Settings, caller: Caller) -> AsyncIterator[Context]:
        async with open_context(settings, caller, bus=InlineBus()) as context:
            self.context = context
            yield context

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the gateway."""
        return await self._ask(self.app, method, path, **options)

    async def ask_served(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the API served alone."""
        return await self._ask(self.query_app, method, path, **options)

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """Get from the query API."""
        return await self.ask("GET", f"/apis/genes{path}", params=params)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Post JSON to the query API."""
        return await self.ask("POST", f"/apis/genes{path}", **({"json": body} if body is not None else {}), **options)

    async def _ask(self, app: ASGIApp, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **options)


Work = Callable[[Gateway], Awaitable[ResultT]]


@pytest.fixture
def hub(tmp_path: Path) -> Callable[[Work[ResultT]], ResultT]:
    """Run a test's work against an empty gateway."""

    def run(work: Work[ResultT], **settings: Any) -> ResultT:
        async def main() -> ResultT:
            gateway = Gateway(tmp_path / "home", **settings)
            async with running(gateway.app):
                return await work(gateway)

        return asyncio.run(main())

    return run


@pytest.fixture
def genes(tmp_path: Path) -> Callable[[Work[ResultT]], ResultT]:
    """Run a test's work against a gateway that serves the API `genes`."""

    def run(work: Work[ResultT], served: bool = False, **settings: Any) -> ResultT:
        async def main() -> ResultT:
            gateway = Gateway(tmp_path / "home", **settings)
            async with running(gateway.query_app if served else gateway.app):
                await add_release(gateway.context)
                config = {"name": "genes", "doc_type": "gene", "sources": ["hgnc"], "queries": {"human": "taxid:9606"}}
                await gateway.context.state.put("genes", BuildConfig.model_validate(config))
                return await work(gateway)

        return asyncio.run(main())

    return run


@pytest.fixture
def add_genes() -> Callable[[Context], Awaitable[None]]:
    """Have a test of engines of its own store and release the genes there."""

    async def add(context: Context) -> None:
        await add_release(context)
        config = {"name": "genes", "doc_type": "gene", "sources": ["hgnc"], "queries": {"human": "taxid:9606"}}
        await context.state.put("genes", BuildConfig.model_validate(config))

    return add


@pytest.fixture
def serve_while() -> Callable[[ASGIApp, Callable[[str], None]], Awaitable[None]]:
    """Serve an app on a free port while blocking `work(url)` runs in a thread."""

    async def serve(app: ASGIApp, work: Callable[[str], None]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await asyncio.to_thread(work, f"http://127.0.0.1:{listener.getsockname()[1]}")
            finally:
                server.should_exit = True
                with suppress(asyncio.CancelledError):
                    await task

    return serve


@pytest.fixture(scope="session")
def serve_documents() -> Callable[[Path, list[dict[str, Any]], dict[str, Any], Work[ResultT]], Awaitable[ResultT]]:
    """Serve documents of a test's own as the API `genes` while its work runs, in a new folder."""

    async def serve(
        home: Path, documents: list[dict[str, Any]], mapping: dict[str, Any], work: Work[ResultT], **settings: Any
    ) -> ResultT:
        gateway = Gateway(home, **settings)
        async with running(gateway.app):
            await add_release(gateway.context, genes=documents, mapping=mapping)
            return await work(gateway)

    return serve
