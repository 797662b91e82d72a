"""kill -9 of anything, at any stage: nothing is lost, doubled or half visible, and the API keeps its last release."""

import signal

import pytest
from support.stack import SlowPlugin, Stack, release

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


def served(stack: Stack) -> tuple[int, str]:
    """How many documents the API has, and of which release."""
    answer = stack.get("/apis/things/query?q=*&size=1")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["total"], found["hits"][0]["release"]


def start(stack: Stack, stage: str) -> str:
    """Start a job of a stage; return its id."""
    if stage in {"dump", "upload"}:
        job = stack.post(f"/hub/sources/things/{stage}", {"force": True}).json()
        return str(job[0]["id"] if isinstance(job, list) else job["id"])
    if stage == "build":
        return str(stack.post("/hub/builds", {"config": "things"}).json()["id"])
    newest = stack.get("/hub/builds?config=things").json()[0]["name"]
    return str(stack.post(f"/hub/builds/{newest}/release").json()["id"])


def kill_in_the_middle(stack: Stack, plugin: SlowPlugin, stage: str) -> str:
    """Start a job of a stage, and kill its worker while it runs; return the job's id."""
    if stage in {"dump", "upload"}:  # the plugin holds these up
        plugin.slow(stage, on=True)
        job_id = start(stack, stage)
        stack.wait_until_running(job_id)
        assert stack.job(job_id)["state"] == "running"
        stack.kill(stage)
        plugin.slow(stage, on=False)
        return job_id
    for _ in range(5):
        job_id = start(stack, stage)
        caught = stack.freeze_in_the_middle(stage, job_id)
        if caught:
            stack.kill(stage)
            return job_id
        stack.signal(stage, signal.SIGCONT)
        stack.wait_for_job(job_id)
    pytest.fail(f"{stage} was never caught in the middle")


@pytest.mark.parametrize("stage", ["dump", "upload", "build", "index"])
def test_a_killed_worker_loses_no_job(stack: Stack, plugin: SlowPlugin, stage: str) -> None:
    before = served(stack)
    builds = set((stack.home / "documents").glob("build~*"))
    job_id = kill_in_the_middle(stack, plugin, stage)
    assert served(stack) == before
    job = stack.wait_for_job(job_id)
    assert job["state"] == "succeeded", job
    assert job["attempt"] == 2
    assert builds <= set((stack.home / "documents").glob("build~*"))
    for child in job["children"]:
        assert stack.wait_for_job(child)["state"] == "succeeded"
    assert served(stack) == before
    upload = stack.get("/hub/sources/things").json()["uploads"]["things"]
    assert upload["count"] == plugin.documents


def test_a_killed_broker_loses_no_job(stack: Stack, plugin: SlowPlugin) -> None:
    plugin.slow("upload", on=True)
    job_id = start(stack, "upload")
    stack.wait_until_running(job_id)
    assert stack.job(job_id)["state"] == "running"
    stack.kill("broker")
    plugin.slow("upload", on=False)
    assert stack.wait_for_job(job_id)["state"] == "succeeded"
    stack.wait_for(
        lambda: stack.post("/hub/builds", {"config": "things"}).status_code == 202, 30, "the broker to answer"
    )
    newest = stack.get("/hub/jobs?kind=build&limit=1").json()[0]
    assert stack.wait_for_job(newest["id"])["state"] == "succeeded"


@pytest.mark.usefixtures("plugin")
def test_a_killed_gateway_comes_back(stack: Stack) -> None:
    before = served(stack)
    stack.kill("gateway")
    stack.wait_for(lambda: stack.get("/health/ready").status_code == 200, 30, "the gateway to come back")
    assert served(stack) == before


def test_power_off_in_the_middle_of_an_upload(stack: Stack, plugin: SlowPlugin) -> None:
    before = served(stack)
    plugin.slow("upload", on=True)
    job_id = start(stack, "upload")
    stack.wait_until_running(job_id)
    assert stack.job(job_id)["state"] == "running"
    stack.power_off()
    plugin.slow("upload", on=False)
    stack.start()
    assert served(stack) == before
    job = stack.wait_for_job(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert not list((stack.home / "scratch").glob("*"))
    plugin.publish("2")
    release(stack, plugin)
    assert served(stack) == (plugin.documents, "2")
    rolled = stack.post("/hub/apis/things/rollback")
    assert rolled.is_success, rolled.text
    stack.wait_for(lambda: served(stack) == before, 10, "the earlier release")
