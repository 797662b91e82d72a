"""Server-sent events of jobs."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sourcebook.hub.jobs.model import Job, JobState
from sourcebook_api import events

Hub = Callable[..., Any]


def assert_refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert {*body} == {"code", "message", "details", "request_id"}
    assert answer.headers["x-request-id"] == body["request_id"]
    assert "Traceback" not in answer.text
    return body


def read_events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_events_of_a_job_end_with_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.02)

    async def work(gateway: Any) -> None:
        state = gateway.context.state
        job = Job(id="j1", kind="dump", target="s", lock="x")
        await state.put("j1", job)

        async def change() -> None:
            await asyncio.sleep(0.1)
            running = job.move_to(JobState.RUNNING)
            await state.put("j1", running)
            await state.put("j2", Job(id="j2", kind="dump", target="s", lock="y"))
            await asyncio.sleep(0.1)
            await state.put("j1", running.move_to(JobState.SUCCEEDED))

        answer, _ = await asyncio.gather(gateway.ask("GET", "/hub/jobs/j1/events"), change())
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert [job["state"] for job in read_events(answer.text)] == ["queued", "running", "succeeded"]
        assert {job["id"] for job in read_events(answer.text)} == {"j1"}
        assert ": still here" in answer.text
        last = next(line for line in answer.text.splitlines() if line.startswith("id: ")).removeprefix("id: ")
        again = await gateway.ask("GET", "/hub/jobs/j1/events", headers={"Last-Event-ID": last})
        assert read_events(again.text)[-1]["state"] == "succeeded"

    hub(work)


async def _read_stream(
    gateway: Any, wanted: int, headers: dict[str, str] | None = None, started: asyncio.Event | None = None
) -> str:
    """Read the stream of all jobs, which has no end, until it has sent `wanted` events."""
    path, text, enough = "/hub/events", "", asyncio.Event()

    async def receive() -> dict[str, Any]:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal text
        text += message.get("body", b"").decode()
        if text and started is not None:
            started.set()
        if len(read_events(text)) >= wanted:
            enough.set()

    raw = [
        (b"host", b"localhost"),
        *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
    ]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": raw,
    }
    scope |= {"asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "", "client": None}
    await asyncio.wait_for(gateway.app({**scope, "server": ("localhost", 8000)}, receive, send), 10)
    return text


def test_events_of_all_jobs_continue_after_the_last_one_seen(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_POLL_SECONDS", 0.01)

    async def work(gateway: Any) -> None:
        state = gateway.context.state
        await state.put("before", Job(id="before", kind="dump", target="s", lock="x"))

        started = asyncio.Event()

        async def change() -> None:
            await started.wait()
            for number in range(2):
                await state.put(f"j{number}", Job(id=f"j{number}", kind="dump", target="s", lock="x"))

        text, _ = await asyncio.gather(_read_stream(gateway, 2, started=started), change())
        assert [job["id"] for job in read_events(text)] == ["j0", "j1"]
        again = await _read_stream(gateway, 3, {"Last-Event-ID": "0"})
        assert [job["id"] for job in read_events(again)] == ["before", "j0", "j1"]

    hub(work)


def test_event_streams_are_bounded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 0)

    async def work(gateway: Any) -> None:
        assert_refused(await gateway.ask("GET", "/hub/events"), 503, "engine_unavailable")

    hub(work)
