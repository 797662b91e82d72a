"""SIGTERM to a worker in the middle of a job, as a cluster does it when it scales in: another begins the job at once."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.stack import SlowPlugin, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
LOCK_SECONDS = 60  # far beyond what the test waits: a lock that were not given back would be noticed


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    made.environment |= {
        "SOURCEBOOK_LOCK_TTL": str(LOCK_SECONDS),
        "SOURCEBOOK_STOP_GRACE": "1",
        "SOURCEBOOK_METRICS_PORT": str(free_ports(5)),
    }
    made.start()
    yield made
    made.stop()


def free_ports(count: int) -> int:
    """The first of `count` ports side by side that nobody uses."""
    for first in range(20_000, 30_000, count):
        try:
            for port in range(first, first + count):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except OSError:
            continue
        return first
    pytest.fail("no free ports")


def ask_worker(stack: Stack, number: int, path: str) -> httpx.Response:
    port = int(stack.environment["SOURCEBOOK_METRICS_PORT"]) + number
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=20, trust_env=False)


def main_process(stack: Stack) -> int:
    """The main process of the upload worker; its children carry its command line too."""
    return int((stack.home / "run" / "upload.ready").read_text())


def test_beat_ends_and_begins_anew_when_its_clock_dies(stack: Stack) -> None:
    """Nothing would be scheduled or recovered any more, and nobody would know."""
    ready_file = stack.home / "run" / "beat.ready"
    stack.wait_for(lambda: ask_worker(stack, 4, "/health/ready").status_code == 200, 30, "beat to be ready")
    main = int(ready_file.read_text())
    assert re.search(r"sourcebook_beat_tick_seconds 1\.\d+e\+09", ask_worker(stack, 4, "/metrics").text)
    (clock,) = [pid for pid in stack.pids("beat") if pid != main]
    os.kill(clock, signal.SIGKILL)
    stack.wait_for(lambda: not Path(f"/proc/{main}").exists(), 30, "the worker to end")
    stack.wait_for(lambda: ready_file.exists() and ready_file.read_text() not in {"", str(main)}, 60, "another beat")
    stack.wait_for(lambda: ask_worker(stack, 4, "/health/ready").status_code == 200, 30, "beat to be ready again")


def test_a_stopped_worker_hands_its_job_to_the_next(stack: Stack, tmp_path: Path) -> None:
    plugin = SlowPlugin(tmp_path / "things", 3000)
    assert stack.post("/hub/plugins", {"folder": str(plugin.folder)}).is_success
    plugin.slow("upload", on=True)
    dump = stack.wait_for_job(stack.post("/hub/sources/things/dump").json()["id"])
    (upload,) = dump["children"]
    stack.wait_until_running(upload)
    stack.wait_for(lambda: ask_worker(stack, 1, "/health/ready").status_code == 200, 10, "the worker to be ready")
    os.kill(main_process(stack), signal.SIGTERM)
    stack.wait_for(lambda: bool(stack.job(upload)["warnings"]), 15, "the job to be handed back")
    plugin.slow("upload", on=False)
    job = stack.wait_for_job(upload, LOCK_SECONDS / 3)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job
    assert "stopped" in job["warnings"][0]
    assert stack.get("/hub/sources/things").json()["uploads"]["things"]["count"] == plugin.documents
    metrics = ask_worker(stack, 1, "/metrics").text
    assert 'sourcebook_job_seconds_count{kind="upload",state="succeeded"} 1.0' in metrics
    assert re.search(r'sourcebook_documents_total\{stage="upload",step="write"\} 3000\.0', metrics), metrics
    assert 'sourcebook_queue_length{queue="upload"} 0.0' in metrics
    assert ask_worker(stack, 4, "/health/ready").status_code == 200
