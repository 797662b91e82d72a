"""A real stack (`sourcebook up`) in a folder of the test, and a plugin whose speed a file controls."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

LOCK_SECONDS = 3

PARSER = """
import json, time
from pathlib import Path

HERE = Path(__file__).parent

def release(dumper):
    pause(HERE / "slow_dump")
    return (HERE / "release.txt").read_text().strip()

def pause(flag):
    for _ in range(200):
        if not flag.exists():
            return
        time.sleep(0.05)

def load_data(folder):
    for number, line in enumerate(open(Path(folder) / "data.ndjson")):
        if number == 1000:
            pause(HERE / "slow_upload")
        yield json.loads(line)
"""


class Stack:
    """One `sourcebook up` and what a test does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "SOURCEBOOK_HOME": str(self.home),
            "SOURCEBOOK_PORT": str(self.port),
            "SOURCEBOOK_LOCK_TTL": str(LOCK_SECONDS),
            "SOURCEBOOK_BATCH_DOCUMENTS": "500",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def start(self) -> None:
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sourcebook.cli", "up"], env=self.environment, stdout=log, stderr=log
            )
        self.wait_for(lambda: self.get("/health/ready").status_code == httpx.codes.OK, 60, "the gateway to be ready")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        self.client.close()

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.client.post(path, json={} if body is None else body)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sourcebook.cli", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        log = (self.folder / "up.log").read_text()[-2000:]
        logs = "\n".join(f"== {p.name}\n{p.read_text()[-1500:]}" for p in sorted((self.home / "logs").glob("*.log")))
        pytest.fail(f"waited {seconds} s for {what}\n{log}\n{logs}")

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/hub/jobs/{job_id}").json()
        return found

    def wait_for_job(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        finished = {"succeeded", "failed", "cancelled"}
        self.wait_for(lambda: self.job(job_id)["state"] in finished, seconds, f"job {job_id} to end")
        return self.job(job_id)

    def wait_until_running(self, job_id: str) -> None:
        self.wait_for(lambda: self.job(job_id)["state"] in {"running", "succeeded"}, 30, f"job {job_id} to run")

    def pids(self, name: str) -> list[int]:
        """The main process of a service."""
        words = {"gateway": "api"}.get(name, f"worker {name}")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (folder / "environ").read_bytes()
                # A broker writes its title over its environment; it stands in the folder of its data.
                is_broker = (folder / "cwd").readlink() == self.home / "broker"
            except OSError:
                continue
            is_ours = str(self.home).encode() in environment and words in line
            if is_broker if name == "broker" else is_ours:
                found.append(int(folder.name))
        return found

    def kill(self, name: str) -> None:
        """kill -9 of a service: its main process and everything in its group."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signal the main process of a service and everything in its group."""
        for pid in self.pids(name):
            try:
                os.killpg(os.getpgid(pid), number)
            except ProcessLookupError:
                continue

    def freeze_in_the_middle(self, stage: str, job_id: str, step: str = "") -> bool:
        """Stop the processes of a stage while they work for a job, once progress (of a step) is seen; return whether in time.

        Asking the gateway would take longer than a small job: the state's file is read directly.
        """
        with contextlib.closing(sqlite3.connect(self.home / "catalog.sqlite", isolation_level=None)) as state:

            def look() -> dict[str, Any]:
                row = state.execute("SELECT body FROM records WHERE kind='Job' AND key=?", (job_id,)).fetchone()
                found: dict[str, Any] = json.loads(row[0])
                if step and found["progress"]["step"] != step:
                    found["progress"]["done"] = 0
                return found

            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and (job := look())["state"] in {"queued", "running"}:
                if job["state"] == "running" and job["progress"]["done"]:
                    break
                time.sleep(0.001)
            self.signal(stage, signal.SIGSTOP)
            job = look()
            return bool(job["state"] == "running" and 0 < job["progress"]["done"] < job["progress"]["total"])

    def power_off(self) -> None:
        """kill -9 of everything at once."""
        assert self.process is not None
        for name in ("dump", "upload", "build", "index", "beat", "gateway", "broker"):
            self.kill(name)
        self.process.kill()
        self.process.wait()
        self.wait_for(
            lambda: (
                not any(self.pids(name) for name in ("dump", "upload", "build", "index", "beat", "gateway", "broker"))
            ),
            20,
            "every process to be gone",
        )


class SlowPlugin:
    """A plugin of `documents` documents; its dump and its parser wait while a flag file is there."""

    def __init__(self, folder: Path, documents: int) -> None:
        self.folder = folder
        self.name = folder.name
        self.documents = documents
        folder.mkdir()
        (folder / "parser.py").write_text(PARSER)
        manifest = {
            "dumper": {"data_url": "data.ndjson", "release": "parser:release"},
            "uploader": {"parser": "parser:load_data"},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        self.publish("1")

    def publish(self, release: str) -> None:
        """Make a new release with other values."""
        lines = [
            {"_id": f"id{n:06}", "value": n, "release": release, "text": f"word {n}"} for n in range(self.documents)
        ]
        (self.folder / "data.ndjson").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
        (self.folder / "release.txt").write_text(release)

    def slow(self, stage: str, *, on: bool) -> None:
        flag = self.folder / f"slow_{stage}"
        flag.touch() if on else flag.unlink(missing_ok=True)


def release(stack: Stack, plugin: SlowPlugin) -> None:
    """Dump, upload, build and release, and check that every step succeeds."""
    dump = stack.wait_for_job(stack.post(f"/hub/sources/{plugin.name}/dump").json()["id"])
    assert dump["state"] == "succeeded", dump
    for child in dump["children"]:
        assert stack.wait_for_job(child)["state"] == "succeeded", stack.job(child)
    build = stack.wait_for_job(stack.post("/hub/builds", {"config": "things"}).json()["id"])
    assert build["state"] == "succeeded", build
    index = stack.wait_for_job(stack.post(f"/hub/builds/{build['result']['build']}/release").json()["id"])
    assert index["state"] == "succeeded", index
