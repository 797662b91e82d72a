"""What a command that is interrupted says."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sourcebook.cli import progress
from sourcebook.errors import EngineUnavailable
from sourcebook.model.job import Job


def interrupt(monkeypatch: pytest.MonkeyPatch, start: Callable[[Any], Awaitable[list[Job]]]) -> None:
    """Run a command and cancel it while its job is being sent."""

    async def main(work: Callable[[Any], Awaitable[list[Job]]]) -> list[Job]:
        task = asyncio.ensure_future(work(None))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return []

    monkeypatch.setattr(progress, "run_command", lambda work: asyncio.run(main(work)))
    progress.run_jobs(start, no_wait=False, as_json=False)


def test_a_job_that_was_being_sent_goes_on(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    async def send(_: Any) -> list[Job]:
        await asyncio.sleep(0.05)
        return []

    interrupt(monkeypatch, send)
    assert "The job goes on" in capfd.readouterr().err


def test_a_job_that_could_not_be_sent_does_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail(_: Any) -> list[Job]:
        await asyncio.sleep(0.05)
        raise EngineUnavailable("The broker does not answer.")

    interrupt(monkeypatch, fail)
    assert "The job goes on" not in capfd.readouterr().err
