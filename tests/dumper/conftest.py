"""Loopback servers, and a source that downloads from them."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.downloads import DumpBench, FtpServer, Site

from sourcebook_dumper.retry import Backoff


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


@pytest.fixture
def elsewhere() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


@pytest.fixture
def ftp() -> Iterator[FtpServer]:
    server = FtpServer()
    yield server
    server.close()


@pytest.fixture
def bench(tmp_path: Path) -> DumpBench:
    return DumpBench(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once, and stay on this machine whatever proxy its environment names."""
    monkeypatch.setattr("sourcebook_dumper.dump.Backoff", partial(Backoff, first_seconds=0.001))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
