"""`sourcebook up` as a person starts and ends it: at any moment, and nothing is left running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.stack import SlowPlugin, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
SERVICES = ("dump", "upload", "build", "index", "beat", "gateway", "broker")


def nothing_is_left(stack: Stack) -> bool:
    return not any(stack.pids(name) for name in SERVICES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "TERM"])
def test_up_can_be_stopped_while_it_starts(tmp_path: Path, number: signal.Signals) -> None:
    stack = Stack(tmp_path)
    command = [sys.executable, "-m", "sourcebook.cli", "up"]
    with subprocess.Popen(command, env=stack.environment, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        while "starting build" not in up.stderr.readline():
            assert up.poll() is None
        up.send_signal(number)
        _, rest = up.communicate(timeout=30)
    assert (up.returncode, "Sourcebook is up" in rest, "Traceback" in rest) == (0, False, False), rest
    assert nothing_is_left(stack)


def test_who_is_killed_while_the_stack_starts_is_started_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    command = [sys.executable, "-m", "sourcebook.cli", "up"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=stack.environment, stdout=pipe, stderr=pipe, text=True) as up:
        assert up.stderr is not None
        assert up.stdout is not None
        while "starting gateway" not in up.stderr.readline():
            assert up.poll() is None
        stack.kill("broker")
        stack.kill("index")
        assert "Sourcebook is up" in up.stdout.readline()
        assert stack.pids("broker")
        assert stack.get("/health/ready").status_code == 200
        up.terminate()
        up.communicate(timeout=60)
    stack.client.close()
    assert nothing_is_left(stack)


def test_one_stack_from_start_to_kill(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.start()
    try:
        plugin = SlowPlugin(tmp_path / "things", 2000)
        assert stack.command("plugin", "add", str(plugin.folder)).returncode == 0
        check_commands(stack, plugin)
        second = stack.command("up")
        assert (second.returncode, "A stack already runs on" in second.stderr) == (5, True)
        assert stack.process is not None
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait()
        stack.wait_for(lambda: nothing_is_left(stack), 20, "every process to be gone with its supervisor")
    finally:
        stack.stop()


def check_commands(stack: Stack, plugin: SlowPlugin) -> None:
    """From dump to release with commands that wait, one that is interrupted, and one that fails."""
    dumped = stack.command("dump", "things")
    assert dumped.returncode == 0, dumped.stderr
    assert "upload things/things: succeeded" in dumped.stdout
    assert "2,000 documents" in dumped.stderr
    check_what_happens_by_itself(stack, plugin)
    plugin.slow("upload", on=True)
    # What runs the tests in the background may ignore the signal, and a child inherits that.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "sourcebook.cli", "upload", "things", "--force"]
    with subprocess.Popen(command, env=stack.environment, stderr=subprocess.PIPE, text=True) as waiting:
        stack.wait_for(lambda: bool(stack.get("/hub/jobs?state=running&kind=upload").json()), 30, "the upload to run")
        waiting.send_signal(signal.SIGINT)
        _, message = waiting.communicate(timeout=20)
    assert (waiting.returncode, "The job goes on" in message, "Traceback" in message) == (130, True, False)
    (job,) = stack.get("/hub/jobs?state=running&kind=upload").json()
    plugin.slow("upload", on=False)
    assert stack.wait_for_job(job["id"])["state"] == "succeeded"
    (plugin.folder / "parser.py").write_text("def release(dumper): return '2'\ndef load_data(folder): 1 / 0\n")
    failed = stack.command("dump", "things")
    assert (failed.returncode, "ZeroDivisionError" in failed.stderr) == (6, True)


def check_what_happens_by_itself(stack: Stack, plugin: SlowPlugin) -> None:
    """A configuration that builds, releases and publishes what is new; a schedule that is written while beat runs."""
    config = {"doc_type": "thing", "sources": ["things"], "on_new_upload": True, "release": "auto"}
    config["publish"] = f"file://{stack.folder}/out"
    assert stack.client.put("/hub/build-configs/things", json=config).is_success
    latest = stack.folder / "out" / "things" / "latest.json"
    stack.wait_for(latest.exists, 60, "the first release to be published")
    assert stack.get("/apis/things/query?size=0").json()["total"] == plugin.documents
    installed = stack.command("release", "install", f"file://{stack.folder}/out/things", "--name", "copy")
    assert (installed.returncode, "apply copy_" in installed.stdout) == (0, True), installed.stderr
    assert stack.get("/apis/copy/query?size=0").json()["total"] == plugin.documents
    manifest = plugin.folder / "manifest.json"
    before = manifest.read_text()
    manifest.write_text(before.replace('"dumper": {', '"dumper": {"schedule": "* * * * * *", '))
    stack.wait_for(lambda: len(stack.get("/hub/jobs?kind=dump").json()) > 1, 30, "a download by schedule")
    manifest.write_text(before)
    stack.wait_for(
        lambda: [item["kind"] for item in stack.get("/hub/schedules").json()] == ["clean", "verify"],
        10,
        "the schedule to go",
    )
    busy = ("queued", "running")
    stack.wait_for(lambda: not any(stack.get(f"/hub/jobs?state={state}").json() for state in busy), 30, "all to end")
