"""Engines behind TLS: a certificate that nobody signed is refused with what to do, and trusted where the URL names it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.certificates import make_certificate, serve_with
from support.engines import MONGO_ENGINES, REDIS_ENGINES
from support.flaky_proxy import FlakyProxy
from support.search_engines import SEARCH_ENGINES, SearchServers

from sourcebook.backends import open_bus, open_documents, open_locks, open_search, open_state
from sourcebook.errors import EngineUnavailable, SettingsError
from sourcebook.hub.jobs.model import Job
from sourcebook.settings import Settings

NOT_TRUSTED = "certificate of .* is not trusted: add "


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@asynccontextmanager
async def behind_tls(url: str, certificate: Path) -> AsyncIterator[str]:
    """Yield host and port of a proxy that speaks TLS for the server of a URL."""
    proxy = FlakyProxy(urlsplit(url).port or 0, tls=serve_with(certificate))
    await proxy.up()
    try:
        yield f"127.0.0.1:{proxy.port}"
    finally:
        await proxy.down()


async def check_refused(opened: Any, ask: str, *arguments: Any, option: str) -> None:
    with pytest.raises((EngineUnavailable, SettingsError), match=f"{NOT_TRUSTED}.?{option}=/path"):
        await getattr(opened, ask)(*arguments)
    await opened.close()


@pytest.mark.parametrize("engine", MONGO_ENGINES)
def test_mongodb_with_tls_is_trusted_with_its_authority_alone(
    tmp_path: Path, certificate: Path, mongo_url: str
) -> None:
    async def main() -> None:
        async with behind_tls(mongo_url, certificate) as address:
            url = f"mongodb://{address}{urlsplit(mongo_url).path}?tls=true"
            settings = Settings(home=tmp_path, documents_url=url, state_url=url, engine_patience=timedelta(seconds=1))
            await check_refused(await open_documents(settings), "names", option="tlsCAFile")
            await check_refused(await open_state(settings), "get", Job, "a", option="tlsCAFile")
            documents = await open_documents(Settings(home=tmp_path, documents_url=f"{url}&tlsCAFile={certificate}"))
            assert await documents.names() == []
            await documents.close()

    asyncio.run(main())


@pytest.fixture
def redis_url(locks_engine: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the server that `locks_engine` names."""
    url = Settings().locks_url
    assert locks_engine != "sqlite"
    monkeypatch.delenv("SOURCEBOOK_LOCKS_URL")
    return url


@pytest.mark.parametrize("locks_engine", REDIS_ENGINES, indirect=True)
def test_redis_with_tls_is_trusted_with_its_authority_alone(tmp_path: Path, certificate: Path, redis_url: str) -> None:
    async def main() -> None:
        async with behind_tls(redis_url, certificate) as address:
            url = f"rediss://{address}/0"
            refused = Settings(home=tmp_path, locks_url=url, broker_url=url)
            await check_refused(await open_locks(refused), "holder", "x", option="ssl_ca_certs")
            await check_refused(await open_bus(refused), "ping", option="ssl_ca_certs")
            url += f"?ssl_ca_certs={certificate}"
            trusted = Settings(home=tmp_path, state_url="mongodb://host/db", broker_url=url)
            locks, bus = await open_locks(trusted), await open_bus(trusted)
            assert await locks.holder("nobody has it") is None
            await bus.ping()
            await locks.close()
            await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize("engine", [name for name in SEARCH_ENGINES if name != "tantivy"])
def test_opensearch_with_tls_is_trusted_with_its_authority_alone(
    tmp_path: Path, certificate: Path, search_servers: SearchServers, engine: str
) -> None:
    async def main(plain_url: str) -> None:
        async with behind_tls(plain_url, certificate) as address:
            url = f"opensearch+https://{address}{urlsplit(plain_url).path}"
            documents: Any = None
            refused = await open_search(Settings(home=tmp_path, search_url=url), documents)
            await check_refused(refused, "names", option="ca_certs")
            trusted = await open_search(Settings(home=tmp_path, search_url=f"{url}?ca_certs={certificate}"), documents)
            assert await trusted.names() == []
            await trusted.close()

    with search_servers.url(engine) as plain_url:
        asyncio.run(main(plain_url))
