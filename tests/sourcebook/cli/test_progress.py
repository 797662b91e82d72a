"""How commands follow their jobs: what they say of how one ended, and what an interrupted one says."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from support.context import run_in_context

from sourcebook.cli import progress
from sourcebook.cli.progress import describe_end, follow_here
from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, JobFailed
from sourcebook.flow.messages import DumpSource, Message
from sourcebook.flow.stages import STAGES
from sourcebook.hub.jobs import commands as job_commands
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.references import load_reference


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


ENDS = {
    "dump": "version text",
    "upload": "7 documents",
    "parse": "7 documents",
    "inspect": "7 fields, 7 not as committed",
    "build": "7 documents",
    "merge": "7 documents",
    "publish": "7 bytes to text",
    "install": "7 documents",
    "archive": "removed 7 documents",
    "clean": "removed 7 builds, 7 uploads, 7 jobs, 7 changes, 7 staging folders",
    "verify": "nothing is damaged: 7 documents of 7 collections and indices",
    "diff": "7 added, 7 updated, 7 deleted",
    "index": "7 documents, full: text",
    "apply": "7 documents, full: text",
}
VALUES: dict[Any, Any] = {str: "text", int: 7, bool: False}


@pytest.mark.parametrize("kind", STAGES)
def test_the_end_of_every_kind_of_job_is_told(kind: str) -> None:
    """Also where a field is not there, as another version may have written it."""
    message: type[Message] = get_type_hints(load_reference(STAGES[kind].handler))["return"]
    result = {name: VALUES.get(field.annotation, []) for name, field in message.model_fields.items()}
    if "kind" in result:
        result["kind"] = "full"
    assert describe_end(ended(kind, result)) == ENDS[kind]
    for name in result:
        assert describe_end(ended(kind, {key: value for key, value in result.items() if key != name}))
    assert describe_end(ended(kind, {})) == "succeeded"


def ended(kind: str, result: dict[str, Any]) -> Job:
    return Job(id="j", kind=kind, target="t", lock="l", state=JobState.SUCCEEDED, result=result)


def test_who_follows_a_job_does_not_wait_once_nobody_can_record_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the job fails, and so does writing that it failed."""

    async def fill_the_disk(context: Context, _run: Any, _command: Any) -> Message:
        async def refuse(*_: Any, **__: Any) -> None:
            raise EngineUnavailable("The state store does not answer: database or disk is full.")

        monkeypatch.setattr(context.state, "update", refuse)
        raise EngineUnavailable("No space left on device.")

    async def scenario(context: Context) -> None:
        job = await job_commands.submit(context, DumpSource(source="s"))
        with pytest.raises(EngineUnavailable, match="disk is full"):
            await asyncio.wait_for(follow_here(context, [job], quiet=True), 30)

    monkeypatch.setattr("sourcebook.worker.load_reference", lambda _: fill_the_disk)
    run_in_context(tmp_path, scenario)


def test_nothing_works_with_the_engines_any_more_when_a_job_that_failed_was_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed next: a worker that still gives back its lock then meets a closed database."""

    async def fail(_context: Context, _run: Any, _command: Any) -> Message:
        raise JobFailed("no")

    async def scenario(context: Context) -> None:
        release = context.locks.release

        async def release_slowly(name: str, owner: str) -> None:
            if not name.startswith("submit:"):
                await asyncio.sleep(0.5)
            await release(name, owner)

        job = await job_commands.submit(context, DumpSource(source="s"))
        monkeypatch.setattr(context.locks, "release", release_slowly)
        with pytest.raises(JobFailed):
            await follow_here(context, [job], quiet=True)
        assert await context.locks.holder(job.lock) is None
        assert asyncio.all_tasks() == {asyncio.current_task()}

    monkeypatch.setattr("sourcebook.worker.load_reference", lambda _: fail)
    run_in_context(tmp_path, scenario)
