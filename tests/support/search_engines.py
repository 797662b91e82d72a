"""The search engines that the contracts run on: the embedded one, a stand-in for OpenSearch, a real one whose URL is given."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx
import pytest
from osmem_server import OsmemServer

REAL = "SOURCEBOOK_TEST_OPENSEARCH_URL"
SEARCH_ENGINES = ["tantivy", "osmem", *(["opensearch"] if os.environ.get(REAL) else [])]

FIRST_WITHOUT_COMPLEMENT = 3

# osmem-server 0.1.6 is not OpenSearch: what it answers otherwise, by the query or the sort that shows it.
NO_COMPLEMENT = "osmem-server knows no complement in regular expressions"
NO_NORMALIZER = "osmem-server sorts and counts keywords without their normaliser"
OSMEM_DIFFERS = {
    "cdk2 - kinase": "osmem-server reads a lone hyphen as no word",
    'code:["A" TO "Z"]': "osmem-server keeps the quotes of a range's bounds",
    "symbol:/cdk~(2)/": NO_COMPLEMENT,
    "symbol:/cdk.&~(.*3)/": NO_COMPLEMENT,
    "alias:/~(p33)/": NO_COMPLEMENT,
    "symbol": NO_NORMALIZER,
    "-symbol": NO_NORMALIZER,
    "alias": NO_NORMALIZER,
}


def reads_differently(engine: str, what: str) -> str | None:
    """Return why an engine is known to answer a query or a sort otherwise than the contract says, or None."""
    reason = OSMEM_DIFFERS.get(what)
    if engine == "osmem":
        return reason
    if engine == "opensearch" and reason == NO_COMPLEMENT and real_version() >= FIRST_WITHOUT_COMPLEMENT:
        return "OpenSearch 3 took complements out of its regular expressions"
    return None


@cache
def real_version() -> int:
    """Return the major version of the OpenSearch that is given."""
    about = httpx.get(os.environ[REAL].removeprefix("opensearch+"), timeout=30).json()
    return int(about["version"]["number"].partition(".")[0])


def skip_difference(engine: str, what: str) -> None:
    """Skip a test of something that an engine is known to do otherwise."""
    reason = reads_differently(engine, what)
    if reason is not None:
        pytest.skip(reason)


def skip_on_osmem(engine: str, reason: str) -> None:
    """Skip a whole test that the stand-in cannot pass."""
    if engine == "osmem":
        pytest.skip(reason)


class SearchServers:
    """Starts the stand-in when it is first asked for."""

    def __init__(self) -> None:
        self._osmem: OsmemServer | None = None

    @contextmanager
    def url(self, engine: str) -> Iterator[str]:
        """Yield the setting for an engine, with a prefix for indices that nobody else has; remove these afterwards."""
        if engine == "tantivy":
            yield "tantivy:"
            return
        base = self._osmem_url() if engine == "osmem" else os.environ[REAL].removeprefix("opensearch+").rstrip("/")
        prefix = f"test-{uuid.uuid4().hex[:12]}"
        try:
            yield f"opensearch+{base}/{prefix}"
        finally:
            _remove_indices(base, prefix)

    def _osmem_url(self) -> str:
        if self._osmem is None:
            self._osmem = OsmemServer.start(japanese=False)
        return str(self._osmem.url)

    def close(self) -> None:
        """End the stand-in."""
        if self._osmem is not None:
            self._osmem.close()
            self._osmem.process.stdout.close()


def _remove_indices(base: str, prefix: str) -> None:
    with httpx.Client(base_url=base, timeout=30) as client:
        for name in client.get(f"/{prefix}~*/_mapping").json():
            client.delete(f"/{name}")
