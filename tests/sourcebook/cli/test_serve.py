"""`serve` answers at the root of its own port, from one process or several, and ends at Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from .conftest import Sourcebook


@pytest.mark.parametrize("workers", [1, 2])
def test_an_api_is_served_by_itself(served: Sourcebook, home: Path, workers: int) -> None:
    del served  # it has made the API `fruit`
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sourcebook.cli", "serve", "fruit", "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(command, env={**os.environ, "SOURCEBOOK_HOME": str(home)}, stderr=subprocess.PIPE)
    try:
        total = ask(f"http://127.0.0.1:{port}/v1/query?q=*&size=0")["total"]
        assert total > 0
        assert ask(f"http://127.0.0.1:{port}/status") == {"status": "green", "success": True}
    finally:
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=30)
    assert log.count(b"Application startup complete") == workers
    assert log.count(b"Application shutdown complete") == workers


def ask(url: str) -> dict[str, int]:
    deadline = time.monotonic() + 30
    while True:
        try:
            answer: dict[str, int] = httpx.get(url, trust_env=False, timeout=5).json()
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return answer
