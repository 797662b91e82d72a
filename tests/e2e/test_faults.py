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
        assert isinstance(job, list) or "id" in job, job
        return str(job[0]["id"] if isinstance(job, list) else job["id"])
    if stage == "build":
        return str(stack.post("/hub/builds", {"config": "things", "mode": "full"}).json()["id"])
    newest = stack.get("/hub/builds?config=things").json()[0]["name"]
    return str(stack.post(f"/hub/builds/{newest}/release").json()["id"])


STAGES = ("dump", "upload", "build", "index")


def stop_in_the_middle(stack: Stack, plugin: SlowPlugin, stage: str) -> str:
    """Start a job of a stage and hold it up in the middle; return its id."""
    if stage in {"dump", "upload"}:  # the plugin waits
        plugin.slow(stage, on=True)
        job_id = start(stack, stage)
        stack.wait_until_running(job_id)
        assert stack.job(job_id)["state"] == "running"
        return job_id
    for _ in range(5):
        job_id = start(stack, stage)
        if stack.freeze_in_the_middle(stage, job_id):
            return job_id
        stack.signal(stage, signal.SIGCONT)
        stack.wait_for_job(job_id)
    pytest.fail(f"{stage} was never caught in the middle")


def go_on(stack: Stack, plugin: SlowPlugin) -> None:
    for stage in STAGES:
        plugin.slow(stage, on=False)
        stack.signal(stage, signal.SIGCONT)


def check_success(stack: Stack, jobs: list[str], *, attempts: int = 1) -> None:
    """Check that jobs, and the jobs that they start, succeed; and that each was begun so often."""
    for job_id in jobs:
        job = stack.wait_for_job(job_id)
        assert (job["state"], job["attempt"]) == ("succeeded", attempts), job
        for child in job["children"]:
            assert stack.wait_for_job(child)["state"] == "succeeded", stack.job(child)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_worker_loses_no_job(stack: Stack, plugin: SlowPlugin, stage: str) -> None:
    before = served(stack)
    builds = set((stack.home / "documents").glob("build~*"))
    job_id = stop_in_the_middle(stack, plugin, stage)
    stack.kill(stage)
    plugin.slow(stage, on=False)
    assert served(stack) == before
    check_success(stack, [job_id], attempts=2)
    assert builds <= set((stack.home / "documents").glob("build~*"))
    assert served(stack) == before
    upload = stack.get("/hub/sources/things").json()["uploads"]["things"]
    assert upload["count"] == plugin.documents


@pytest.mark.parametrize("name", ["broker", "gateway"])
def test_broker_or_gateway_killed_in_the_middle_of_every_stage_lose_no_job(
    stack: Stack, plugin: SlowPlugin, name: str
) -> None:
    before = served(stack)
    jobs = [stop_in_the_middle(stack, plugin, stage) for stage in STAGES]
    killed = stack.pids(name)
    stack.kill(name)
    go_on(stack, plugin)
    stack.wait_for(lambda: stack.pids(name) not in ([], killed), 30, f"another {name} to start")
    stack.wait_for(lambda: stack.get("/health/ready").status_code == 200, 30, f"the {name} to come back")
    check_success(stack, jobs)
    assert served(stack) == before
    job = stack.post("/hub/builds", {"config": "things"}).json()
    assert stack.wait_for_job(job["id"])["state"] == "succeeded"


def test_power_off_in_the_middle_of_every_stage(stack: Stack, plugin: SlowPlugin) -> None:
    before = served(stack)
    jobs = [stop_in_the_middle(stack, plugin, stage) for stage in STAGES]
    stack.power_off()
    go_on(stack, plugin)
    stack.start()
    assert served(stack) == before
    check_success(stack, jobs, attempts=2)
    assert not list((stack.home / "scratch").glob("*"))


def test_a_worker_killed_while_it_applies_changes_leaves_the_api_and_is_followed_by_another(
    stack: Stack, plugin: SlowPlugin
) -> None:
    before = served(stack)
    for version in ("changed", "changed again", "once more"):
        plugin.publish(version)
        dump = stack.wait_for_job(stack.post("/hub/sources/things/dump").json()["id"])
        check_success(stack, dump["children"])
        build = stack.wait_for_job(stack.post("/hub/builds", {"config": "things"}).json()["id"])
        target = f"/hub/builds/{build['result']['build']}/release"
        job_id = stack.post(target, {"mode": "incremental"}).json()["id"]
        if stack.freeze_in_the_middle("index", job_id, "apply"):
            break
        stack.signal("index", signal.SIGCONT)
        check_success(stack, [job_id])
        before = served(stack)
    else:
        pytest.fail("apply was never caught in the middle")
    stack.kill("index")
    assert served(stack) == before
    check_success(stack, [job_id], attempts=2)
    assert stack.job(job_id)["result"]["kind"] == "incremental"
    stack.wait_for(lambda: served(stack) == (plugin.documents, version), 10, "the release by changes")
    assert not list((stack.home / "search").glob(".*"))
    assert stack.post("/hub/apis/things/rollback").is_success
    stack.wait_for(lambda: served(stack) == before, 10, "the earlier release")


def test_after_all_that_a_new_release_is_served_and_rolled_back(stack: Stack, plugin: SlowPlugin) -> None:
    before = served(stack)
    plugin.publish("2")
    release(stack, plugin)
    assert served(stack) == (plugin.documents, "2")
    rolled = stack.post("/hub/apis/things/rollback")
    assert rolled.is_success, rolled.text
    stack.wait_for(lambda: served(stack) == before, 10, "the earlier release")
