"""What the gateway tells Prometheus, and how it names the routes that it timed."""

import doctest
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sourcebook import errors
from sourcebook.flow.messages import BuildDocuments, DumpSource, UploadDump
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook_api import metrics
from sourcebook_api.metrics import name_api_route

Hub = Callable[..., Any]
Work = Callable[[Any], Awaitable[None]]
TIMED = re.compile(r'sourcebook_request_seconds_count\{method="(\w+)",route="([^"]+)",status="(\d+)"\} (\d+)')


async def read_counts(gateway: Any) -> dict[tuple[str, str, str], int]:
    text = (await gateway.ask("GET", "/metrics")).text
    return {
        (method, route, status): int(float(count))
        for method, route, status, count in TIMED.findall(text.replace(".0\n", "\n"))
    }


def test_requests_are_counted_by_route_never_by_name_or_id(genes: Hub) -> None:
    async def work(gateway: Any) -> None:
        before = await read_counts(gateway)
        for path in ("/gene/1000", "/gene/1001", "/query?q=CDK2", "/v1/gene/query?q=x", "/metadata", "/gene/nosuch"):
            await gateway.ask("GET", f"/apis/genes{path}")
        await gateway.ask("GET", "/apis/nosuch/query")
        await gateway.ask("GET", "/hub/jobs/nosuch")
        await gateway.ask("GET", "/nosuch/path")
        counts = await read_counts(gateway)
        new = {key: count - before.get(key, 0) for key, count in counts.items() if count > before.get(key, 0)}
        assert new == {
            ("GET", "/apis/{name}/{type}/{id}", "200"): 2,
            ("GET", "/apis/{name}/{type}/{id}", "404"): 1,
            ("GET", "/apis/{name}/query", "200"): 1,
            ("GET", "/apis/{name}/query", "404"): 1,
            ("GET", "/apis/{name}/{type}/query", "200"): 1,
            ("GET", "/apis/{name}/metadata", "200"): 1,
            ("GET", "/hub/jobs/{job_id}", "404"): 1,
            ("GET", "other", "404"): 1,
            ("GET", "/metrics", "200"): 1,
        }

    genes(work)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("", "/apis/{name}"),
        ("/", "/apis/{name}"),
        ("/v1/query", "/apis/{name}/query"),
        ("/gene", "/apis/{name}/{type}"),
        ("/gene/a/b/c", "/apis/{name}/{type}/{id}"),
        ("/docs/assets/x.js", "/apis/{name}/docs/assets"),
        ("/gene/metadata/fields", "/apis/{name}/{type}/metadata/fields"),
    ],
)
def test_paths_of_apis_have_a_few_routes(path: str, route: str) -> None:
    assert name_api_route(path) == route


def test_the_examples_hold() -> None:
    assert doctest.testmod(metrics).failed == 0


def test_queues_are_shown_to_people_probes_and_prometheus(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        running = await submit(gateway.context, DumpSource(source="a"))
        await submit(gateway.context, UploadDump(source="a", uploader="a"))
        await submit(gateway.context, BuildDocuments(config="b", build="b_1"))
        await gateway.context.bus.queue.get()
        await gateway.context.state.update(Job, running.id, lambda job: job.move_to(JobState.RUNNING))
        loads = (
            await gateway.ask("GET", "/health/queues", headers={"Host": "sourcebook-api.sourcebook.svc:8000"})
        ).json()
        assert loads["dump"] == {"waiting": 0, "queued": 0, "running": 1, "active": 1}
        assert loads["upload"] == {"waiting": 1, "queued": 1, "running": 0, "active": 1}
        text = (await gateway.ask("GET", "/metrics", headers={"Host": "10.1.2.3:8000"})).text
        assert 'sourcebook_queue_length{queue="upload"} 1.0' in text
        assert 'sourcebook_queue_length{queue="dump"} 0.0' in text
        assert 'sourcebook_jobs_active{queue="dump",state="running"} 1.0' in text
        assert 'sourcebook_jobs_active{queue="index",state="queued"} 0.0' in text

    hub(work)


def test_without_a_broker_the_jobs_are_still_known(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise errors.EngineUnavailable("away")

    async def work(gateway: Any) -> None:
        monkeypatch.setattr(gateway.context.bus, "lengths", away)
        answer = await gateway.ask("GET", "/metrics")
        assert answer.status_code == 200
        assert "sourcebook_jobs_active{" in answer.text
        assert "sourcebook_queue_length{" not in answer.text
        assert (await gateway.ask("GET", "/health/queues")).json()["dump"]["waiting"] is None

    hub(work)
