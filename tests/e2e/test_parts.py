"""Two workers share the parts of one job, and `kill -9` of either, in the middle, loses, doubles and leaves nothing."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stack import SlowPlugin, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
PARTS = 4
TUPLES = 6
STARTED = re.compile(r"job_started.* job=(\S+)")
PARSER = """
import time
from pathlib import Path

HERE = Path(__file__).parent

def jobs(self):
    return [(number,) for number in range(TUPLES)]

def load_data(number):
    for n in range(500):
        while n == 100 and (HERE / "slow").exists():
            time.sleep(0.05)
        yield {"_id": f"{n:04}-{number}", "value": n, "from": number}
""".replace("TUPLES", str(TUPLES))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"))
    made.environment |= {"SOURCEBOOK_PARTS": str(PARTS), "SOURCEBOOK_PART_DOCUMENTS": "1000"}
    made.start()
    yield made
    made.stop()


class SecondWorker:
    """Another worker of a queue, as on another machine; the stack has one of its own."""

    def __init__(self, stack: Stack, queue: str) -> None:
        self._stack, self._queue = stack, queue
        self._log = stack.folder / f"second-{queue}-{time.monotonic_ns()}.log"
        ready = stack.home / "run" / f"{queue}.ready"
        ready.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "sourcebook.cli", "worker", queue]
            self.process = subprocess.Popen(
                command, env=stack.environment, stdout=log, stderr=log, start_new_session=True
            )
        stack.wait_for(ready.exists, 30, "the second worker")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def groups(self) -> dict[str, int]:
        """The process groups of both workers."""
        found = {os.getpgid(pid) for pid in self._stack.pids(self._queue)} - {self.process.pid}
        assert len(found) == 1, found
        return {"first": found.pop(), "second": self.process.pid}

    def started(self) -> dict[str, set[str]]:
        """The jobs that each worker has begun."""
        own = self._stack.home / "logs" / f"{self._queue}.log"
        logs = {"first": own, "second": self._log}
        return {name: set(STARTED.findall(log.read_text())) for name, log in logs.items()}

    def workers_of(self, job_id: str) -> set[str]:
        """Which workers have begun parts of a job."""
        return {name for name, jobs in self.started().items() if any(job.startswith(f"{job_id}.p") for job in jobs)}


def parts_of(stack: Stack, job_id: str) -> list[dict[str, Any]]:
    """The records of the parts of a job; the state's file is read directly, which is quicker than the gateway."""
    with contextlib.closing(sqlite3.connect(stack.home / "catalog.sqlite")) as state:
        rows = state.execute(
            "SELECT body FROM records WHERE kind='Job' AND json_extract(body, '$.parent')=? ORDER BY key", (job_id,)
        ).fetchall()
    return [json.loads(row[0]) for row in rows]


def running_parts(stack: Stack, job_id: str) -> list[dict[str, Any]]:
    return [part for part in parts_of(stack, job_id) if part["state"] == "running"]


def check_nothing_left(stack: Stack, job_id: str) -> None:
    stack.wait_for(lambda: not stack.job(job_id)["parts_open"], 30, "the parts to be removed")
    assert {part["state"] for part in parts_of(stack, job_id)} == {"succeeded"}
    documents, files = stack.home / "documents", stack.home / "files"
    assert list(documents.glob("part~*")) == []
    assert list((documents / ".new").iterdir()) == []
    assert [path for folder in (files / "parts", files / ".staging") for path in folder.rglob("run-*")] == []
    assert list((stack.home / "scratch").glob("*")) == []


def kill_one(second: SecondWorker, job_id: str, whom: str) -> None:
    """kill -9 of the worker that has the job itself, or of the other one."""
    (holder,) = [name for name, jobs in second.started().items() if job_id in jobs]
    victim = holder if whom == "job" else ({"first", "second"} - {holder}).pop()
    os.killpg(second.groups()[victim], signal.SIGKILL)


def check_attempts(stack: Stack, job_id: str, whom: str) -> None:
    job = stack.wait_for_job(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2 if whom == "job" else 1), job
    # What the killed worker had at hand was begun again, and what is done was not.
    attempts = sorted(part["attempt"] for part in parts_of(stack, job_id))
    assert attempts in ([1, 1, 1, 2], [1, 1, 2, 2]), attempts
    check_nothing_left(stack, job_id)


@pytest.fixture(scope="module")
def tuples(stack: Stack) -> Path:
    """A registered plugin with a parallelizer, uploaded once."""
    folder = stack.folder / "tuples"
    folder.mkdir()
    (folder / "parser.py").write_text(PARSER)
    (folder / "data.txt").write_text("x")
    uploader = {"parser": "parser:load_data", "parallelizer": "parser:jobs"}
    (folder / "manifest.json").write_text(json.dumps({"dumper": {"data_url": "data.txt"}, "uploader": uploader}))
    assert stack.post("/hub/plugins", {"folder": str(folder)}).is_success
    dump = stack.wait_for_job(stack.post("/hub/sources/tuples/dump").json()["id"])
    (upload,) = dump["children"]
    assert stack.wait_for_job(upload)["state"] == "succeeded"
    check_nothing_left(stack, upload)
    return folder


def upload_of(stack: Stack) -> tuple[int, str]:
    upload = stack.get("/hub/sources/tuples").json()["uploads"]["tuples"]
    return upload["count"], upload["digest"]


@pytest.mark.parametrize("whom", ["part", "job"])
def test_two_workers_share_an_upload_and_one_is_killed(stack: Stack, tuples: Path, whom: str) -> None:
    before = upload_of(stack)
    assert before[0] == TUPLES * 500
    (tuples / "slow").touch()
    with contextlib.closing(SecondWorker(stack, "upload")) as second:
        job_id = stack.post("/hub/sources/tuples/upload", {"force": True}).json()["id"]
        stack.wait_for(lambda: len(running_parts(stack, job_id)) == 2, 30, "two parts to run")
        stack.wait_for(lambda: second.workers_of(job_id) == {"first", "second"}, 10, "both workers to have one")
        kill_one(second, job_id, whom)
        (tuples / "slow").unlink()
        check_attempts(stack, job_id, whom)
    assert upload_of(stack) == before


def build_of(stack: Stack) -> tuple[int, str]:
    build = stack.get("/hub/builds?config=things").json()[0]
    return build["count"], build["digest"]


def freeze_with_two_parts(stack: Stack, second: SecondWorker) -> str:
    """Start a build and stop both workers while each has a part at hand; return the job's id."""
    for _ in range(6):
        job_id = str(stack.post("/hub/builds", {"config": "things", "mode": "full"}).json()["id"])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and stack.job(job_id)["state"] == "queued":
            pass
        while time.monotonic() < deadline and len(running_parts(stack, job_id)) < 2:
            if parts_of(stack, job_id) and all(part["state"] == "succeeded" for part in parts_of(stack, job_id)):
                break
        stack.signal("build", signal.SIGSTOP)
        if len(running_parts(stack, job_id)) == 2 and second.workers_of(job_id) == {"first", "second"}:
            return job_id
        stack.signal("build", signal.SIGCONT)
        assert stack.wait_for_job(job_id)["state"] == "succeeded"
    pytest.fail("two workers were never caught with a part each")


@pytest.mark.parametrize("whom", ["part", "job"])
def test_two_workers_share_a_build_and_one_is_killed(stack: Stack, plugin: SlowPlugin, whom: str) -> None:
    before = build_of(stack)
    assert before[0] == plugin.documents
    with contextlib.closing(SecondWorker(stack, "build")) as second:
        job_id = freeze_with_two_parts(stack, second)
        kill_one(second, job_id, whom)
        stack.signal("build", signal.SIGCONT)
        check_attempts(stack, job_id, whom)
    assert build_of(stack) == before
    listed = stack.get(f"/hub/jobs?parent={job_id}").json()
    assert {(job["kind"], job["target"], job["parent"]) for job in listed} == {("merge", "things", job_id)}
    table = stack.command("jobs", "--parent", job_id).stdout
    assert len(listed) == PARTS == table.count("succeeded")


def test_a_build_is_cancelled_with_its_parts_on_both_workers(stack: Stack, plugin: SlowPlugin) -> None:
    before = build_of(stack)
    with contextlib.closing(SecondWorker(stack, "build")) as second:
        job_id = freeze_with_two_parts(stack, second)
        assert stack.post(f"/hub/jobs/{job_id}/cancel").is_success
        stack.signal("build", signal.SIGCONT)
        assert stack.wait_for_job(job_id)["state"] in {"cancelled", "succeeded"}
        stack.wait_for(lambda: not stack.job(job_id)["parts_open"], 30, "the parts to end")
        assert all(part["state"] in {"cancelled", "succeeded"} for part in parts_of(stack, job_id))
    assert list((stack.home / "documents").glob("part~*")) == []
    assert build_of(stack) == before == (plugin.documents, before[1])
