"""Server-sent events: jobs as they change, read from the state's change positions."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import Request
from starlette.responses import StreamingResponse

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable
from sourcebook.hub.jobs.model import Job

MAX_STREAMS = 64
_POLL_SECONDS = 0.25
_HEARTBEAT_SECONDS = 15.0
_HEARTBEAT = ": still here\n\n"
_MAX_POSITION = 1 << 62


class EventStreams:
    """Counts the open streams, so that they cannot take every connection of the gateway."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open = 0

    def open_stream(self, request: Request, job: Job | None = None) -> StreamingResponse:
        """Return the events of one job, or of all jobs from now on; `Last-Event-ID` continues where a client left off.

        Raises:
            EngineUnavailable: too many streams are open.
        """
        if self._open >= MAX_STREAMS:
            raise EngineUnavailable(f"{MAX_STREAMS} event streams are open already; close one, or poll /hub/jobs.")
        since = _read_position(request.headers.get("last-event-id", ""))
        events = self._follow_all(since) if job is None else self._follow_job(job.id, since)
        return StreamingResponse(
            self._count(events),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _count(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        with self._counted():
            async for event in events:
                yield event

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def _follow_all(self, since: int | None) -> AsyncIterator[str]:
        position = since
        if position is None:
            position = await self._context.state.position(Job)
            yield f"id: {position}\nretry: 1000\n\n"
        async for seen, jobs in self._poll(position):
            yield "".join(_write_event(seen, job) for job in jobs) or _HEARTBEAT

    async def _follow_job(self, job_id: str, since: int | None) -> AsyncIterator[str]:
        # Position first, record second: a change between the two is seen twice, never missed.
        position = since if since is not None else await self._context.state.position(Job)
        job = await self._context.state.get(Job, job_id)
        if job is None:
            return
        yield _write_event(position, job)
        if job.is_finished:
            return
        async for seen, jobs in self._poll(position):
            ours = [changed for changed in jobs if changed.id == job_id]
            yield "".join(_write_event(seen, changed) for changed in ours) or _HEARTBEAT
            if any(changed.is_finished for changed in ours):
                return

    async def _poll(self, position: int) -> AsyncIterator[tuple[int, list[Job]]]:
        """Yield what changed, and an empty list now and then when nothing does."""
        spoken = time.monotonic()
        while True:
            position, jobs = await self._context.state.changes(Job, position)
            if jobs or time.monotonic() - spoken > _HEARTBEAT_SECONDS:
                spoken = time.monotonic()
                yield position, jobs
            await asyncio.sleep(_POLL_SECONDS)


def _write_event(position: int, job: Job) -> str:
    return f"id: {position}\nevent: job\ndata: {job.model_dump_json()}\n\n"


def _read_position(text: str) -> int | None:
    return min(int(text), _MAX_POSITION) if text.isascii() and text.isdigit() and len(text) < 20 else None  # noqa: PLR2004
