"""For every test: no network beyond this machine, no setting from the developer's environment."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import structlog
from support.search_engines import SEARCH_ENGINES, SearchServers

# A loaded machine is not a failure of a property.
hypothesis.settings.register_profile(
    "no_deadline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(autouse=True)
def _stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def connect_on_loopback(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_loopback(str(address[0])):
            pytest.fail(f"a test must not connect to {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_on_loopback)


@pytest.fixture(autouse=True)
def _use_default_logging() -> Iterator[None]:
    # A command that ran in this process has raised the level for all that come after it.
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _use_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SOURCEBOOK_") and not name.startswith("SOURCEBOOK_TEST_"):
            monkeypatch.delenv(name)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def search_servers() -> Iterator[SearchServers]:
    """The servers behind the search engines that are not embedded."""
    servers = SearchServers()
    yield servers
    servers.close()


@pytest.fixture(params=SEARCH_ENGINES)
def search_engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, search_servers: SearchServers
) -> Iterator[str]:
    """Have `open_search` open each engine in turn."""
    engine: str = request.param
    with search_servers.url(engine) as url:
        monkeypatch.setenv("SOURCEBOOK_SEARCH_URL", url)
        yield engine
