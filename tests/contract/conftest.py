"""Runs the contracts on every engine: the embedded ones, a stand-in for MongoDB, and the servers whose URL is given.

A test builds `Settings(home=...)`; the fixture says in the environment which engine that means. Each test has a database of its
own, which is removed afterwards.
"""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from support.engines import MONGO_ENGINES, REAL_MONGODB, REAL_REDIS, REDIS_ENGINES
from support.servers_mongo import running, start_secantus
from support.servers_redis import start_bundled
from support.servers_s3 import new_bucket, running_s3


@pytest.fixture(scope="session")
def secantus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a SecantusDB; starting it takes seconds, so there is one for all tests."""
    with running(start_secantus(tmp_path_factory.mktemp("secantus"))) as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 stand-in."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the Valkey that comes with Sourcebook."""
    with running(start_bundled(tmp_path_factory.mktemp("valkey"))) as url:
        yield url


@pytest.fixture
def mongo_url(engine: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new database on the server that `engine` names."""
    base = request.getfixturevalue("secantus_url") if engine == "secantus" else os.environ[REAL_MONGODB]
    head, mark, options = base.partition("?")
    scheme, _, rest = head.partition("://")
    name = f"sourcebook_test_{uuid.uuid4().hex[:12]}"
    url = f"{scheme}://{rest.partition('/')[0]}/{name}{mark}{options}"
    yield url
    with MongoClient[dict[str, Any]](url) as client:
        client.drop_database(name)


@pytest.fixture(params=["lmdb", *MONGO_ENGINES])
def documents_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have `open_documents` open each engine in turn."""
    return _use(request, monkeypatch, "SOURCEBOOK_DOCUMENTS_URL", embedded="lmdb")


@pytest.fixture(params=["sqlite", *MONGO_ENGINES])
def state_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have `open_state` open each engine in turn."""
    return _use(request, monkeypatch, "SOURCEBOOK_STATE_URL", embedded="sqlite")


@pytest.fixture(params=["sqlite", *REDIS_ENGINES])
def locks_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have `open_locks` open each engine in turn."""
    engine: str = request.param
    if engine != "sqlite":
        url = request.getfixturevalue("valkey_url") if engine == "valkey" else os.environ[REAL_REDIS]
        monkeypatch.setenv("SOURCEBOOK_LOCKS_URL", url)
    return engine


@pytest.fixture(params=["file", "s3"])
def files_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have `open_files` open each engine in turn."""
    engine: str = request.param
    if engine != "file":
        monkeypatch.setenv("SOURCEBOOK_FILES_URL", request.getfixturevalue("s3_url"))
    return engine


@pytest.fixture
def s3_url(s3_endpoint: str) -> str:
    """The URL of a prefix in a new bucket of an S3 stand-in."""
    return new_bucket(s3_endpoint)


def _use(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, variable: str, *, embedded: str) -> str:
    engine: str = request.param
    if engine != embedded:
        monkeypatch.setenv(variable, request.getfixturevalue("mongo_url"))
    return engine


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The engine that the test's parametrized fixture names."""
    names = [value for key, value in request.node.callspec.params.items() if key.endswith("_engine")]
    return str(names[0])
