"""What a worker answers to probes and to Prometheus, over a real port."""

import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import values

from sourcebook import probes
from sourcebook.errors import PortBusy
from sourcebook.metrics import JOB_SECONDS
from sourcebook.probes import serve_probes
from sourcebook.settings import Settings


@pytest.fixture(autouse=True)
def _keep_metrics_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker process shares its values from its start to its end; this process goes on without.
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "unset")
    monkeypatch.setattr(JOB_SECONDS, "_metrics", {})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Settings(home=tmp_path, metrics_port=port, broker_url="redis://127.0.0.1:1/0")


def ask(settings: Settings, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{settings.metrics_port}{path}", timeout=20, trust_env=False)


def test_a_worker_is_ready_while_its_loop_turns(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_probes(settings, "upload") as (worker, start):
        start()
        assert ask(settings, "/health/live").status_code == 200
        assert ask(settings, "/health/ready").status_code == 503
        worker.beat()
        assert ask(settings, "/health/ready").json() == {"status": "ready"}
        monkeypatch.setattr(probes, "_SILENT_SECONDS", 0.0)
        assert ask(settings, "/health/ready").status_code == 503
        assert ask(settings, "/elsewhere").status_code == 404
        assert httpx.head(f"http://127.0.0.1:{settings.metrics_port}/health/live", trust_env=False).content == b""


def test_beat_is_ready_while_what_happens_by_itself_happens(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_probes(settings, "beat") as (worker, start):
        start()
        worker.beat()
        assert ask(settings, "/health/ready").status_code == 503
        assert "\nsourcebook_beat_tick_seconds" not in ask(settings, "/metrics").text
        worker.tick()
        assert ask(settings, "/health/ready").status_code == 200
        (line,) = [text for text in ask(settings, "/metrics").text.splitlines() if text.startswith("sourcebook_beat")]
        assert float(line.partition(" ")[2]) == worker._ticked
        monkeypatch.setattr(probes, "_LATE_SECONDS", 0.0)
        assert ask(settings, "/health/ready").status_code == 503


def test_the_jobs_of_all_processes_are_added_up_though_one_is_dead(settings: Settings) -> None:
    with serve_probes(settings, "upload") as (_, start):
        for _ in range(2):
            child = os.fork()
            if child == 0:
                JOB_SECONDS.labels("upload", "succeeded").observe(2.0)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        start()
        text = ask(settings, "/metrics").text
        assert 'sourcebook_job_seconds_count{kind="upload",state="succeeded"} 2.0' in text
        assert "sourcebook_queue_length{" not in text  # the broker is away, which hides nothing else


def test_the_queue_of_a_worker_is_measured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lengths(_: Any) -> dict[str, int]:
        return {"dump": 0, "upload": 7, "build": 1, "index": 0}

    monkeypatch.setattr(probes, "_read_lengths", lengths)
    for queue, shown in (("upload", {"upload"}), ("beat", {"dump", "upload", "build", "index"})):
        with serve_probes(settings, queue) as (_, start):
            start()
            lines = [
                line for line in ask(settings, "/metrics").text.splitlines() if line.startswith("sourcebook_queue")
            ]
            assert {line.split('"')[1] for line in lines} == shown
            assert 'sourcebook_queue_length{queue="upload"} 7.0' in lines


def test_a_port_in_use_is_named_with_what_to_do(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.metrics_port)):
        with pytest.raises(PortBusy, match="SOURCEBOOK_METRICS_PORT") as caught, serve_probes(settings, "upload"):
            pass
        assert str(settings.metrics_port) in str(caught.value)


def test_nothing_is_left_in_the_temporary_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serve_probes(settings, "upload"):
        assert list(tmp_path.glob("sourcebook-metrics-*"))
    assert not list(tmp_path.glob("sourcebook-metrics-*"))
