"""However a job begins, its record says who asked for it."""

import ast
import importlib
import inspect
import json
import pkgutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from support.context import run_in_context
from support.old_indices import make_outdated

import sourcebook
from sourcebook import hub
from sourcebook.context import Context
from sourcebook.flow.stages import STAGES
from sourcebook.hub.access.model import SYSTEM, Caller
from sourcebook.hub.builds.answers import list_builds
from sourcebook.hub.builds.commands import put_build_config, start_build, start_release
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.changes.commands import start_diff
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.publishing.commands import start_install, start_publish, start_subscribed_install, subscribe
from sourcebook.hub.releases.answers import get_api, get_release
from sourcebook.hub.releases.renewal import start_renewal
from sourcebook.hub.schedules.commands import recover_jobs, run_schedules
from sourcebook.hub.schedules.rules import ON_TIME
from sourcebook.hub.sources.commands import add_plugin, start_dump, start_inspect, start_upload
from sourcebook.hub.upkeep.cleanup import start_archive, start_clean_up, start_clean_up_if_needed
from sourcebook.hub.upkeep.verify import start_verify
from sourcebook.worker import execute_job, run_queued_jobs

ADA = Caller(kind="user", name="ada")
SHARED = Path(sourcebook.__file__).parent
DAY = 86_400.0
PARSER = """
def jobs(self):
    return [(number,) for number in range(2)]

def load_data(number):
    for other in range(60):
        yield {"_id": f"id{other * 2 + number:03}"}
"""
Start = Callable[[Context], Awaitable[Job | list[Job] | None]]


def play(tmp_path: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    """Run a scenario in a home with a plugin and a configuration, both named `fruit`, and without Ada."""

    async def prepared(context: Context) -> None:
        write_plugin(tmp_path / "fruit")
        await add_plugin(context, tmp_path / "fruit")
        await put_build_config(context, BuildConfig(name="fruit", doc_type="thing", sources=["fruit"]))
        await scenario(context)

    run_in_context(tmp_path / "home", prepared, batch_documents=20, parts=2, part_documents=20)


def write_plugin(folder: Path, **dumper: Any) -> None:
    folder.mkdir(exist_ok=True)
    sections: dict[str, Any] = {"dumper": {"data_url": "data.txt", **dumper}}
    sections["uploader"] = {"parser": "parser:load_data", "parallelizer": "parser:jobs"}
    (folder / "manifest.json").write_text(json.dumps(sections))
    (folder / "parser.py").write_text(PARSER)
    (folder / "data.txt").write_text("x")


async def run_all(context: Context) -> None:
    await run_queued_jobs(context, cast("Any", context.bus))


async def newest_build(context: Context) -> str:
    return (await list_builds(context, "fruit"))[0].name


async def jobs_of(context: Context) -> list[Job]:
    return await context.state.find(Job)


def starting_functions() -> set[str]:
    """Return the names of all functions of the hub that start jobs."""
    modules = [importlib.import_module(item.name) for item in pkgutil.walk_packages(hub.__path__, "sourcebook.hub.")]
    return {
        name
        for module in modules
        for name, value in inspect.getmembers(module, inspect.iscoroutinefunction)
        if value.__module__ == module.__name__ and name.startswith("start_")
    }


def callers_of(wanted: str) -> Iterator[str]:
    """Name the functions of the program that call a function, whatever it is an attribute of."""
    services = SHARED.parents[1] / "services"
    for path in [*SHARED.rglob("*.py"), *services.rglob("*.py")]:
        text = path.read_text()
        for function in ast.walk(ast.parse(text)) if f"{wanted}(" in text else ():
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and wanted == getattr(call.func, "id", getattr(call.func, "attr", None)):
                    yield function.name


def test_all_jobs_are_made_in_one_place_and_started_by_functions_that_say_so() -> None:
    assert {*callers_of("Job")} == {"make_job"}
    assert {*callers_of("make_job")} == {"submit", "submit_children", "_submit_parts"}
    assert {*callers_of("submit")} <= starting_functions()


def test_every_function_that_starts_jobs_records_its_caller_and_so_do_parts_and_children(tmp_path: Path) -> None:
    url = (tmp_path / "published").as_uri()
    begun: set[str] = set()

    async def scenario(context: Context) -> None:
        async def begin(start: Callable[..., Awaitable[Job | list[Job] | None]], *given: Any, **options: Any) -> None:
            """Start jobs for Ada and run them, and what they start, in a worker that is not hers."""
            begun.add(start.__name__)
            assert await start(context.asked_by(ADA), *given, **options)
            await run_all(context)

        await begin(start_dump, "fruit")
        await begin(start_upload, "fruit", force=True)
        await begin(start_inspect, "fruit")
        await begin(start_build, "fruit")
        first = await newest_build(context)
        await begin(start_release, first)
        await begin(start_publish, first, url)
        await begin(start_install, f"{url}/fruit", name="copy")
        await subscribe(context, f"{url}/fruit", "@daily", name="copy")
        await begin(start_subscribed_install, "copy", job_id="subscribed")
        await begin(start_build, "fruit", mode="full")
        second = await newest_build(context)
        await begin(start_diff, first, second)
        await begin(start_verify)
        await begin(start_archive, second)
        await begin(start_clean_up)
        await context.state.update(Job, "subscribed", lambda job: job.model_copy(update={"finished_at": 1.0}))
        await begin(start_clean_up_if_needed)
        make_outdated(context.settings.home, (await get_release(context, first)).index)
        await begin(start_renewal, await get_api(context, "fruit"))
        jobs = await jobs_of(context)
        assert {(job.kind, job.id) for job in jobs if job.state is not JobState.SUCCEEDED} == set()
        assert {job.kind for job in jobs} == set(STAGES)
        assert {job.caller for job in jobs} == {ADA}

    play(tmp_path, scenario)
    by_itself = {rule.start.__name__ for rule in ON_TIME}
    assert begun | by_itself == starting_functions()


def test_what_is_done_by_itself_was_asked_for_by_its_schedule_or_its_configuration(tmp_path: Path) -> None:
    now = time.time()
    url = (tmp_path / "published").as_uri()

    async def scenario(context: Context) -> None:
        await start_dump(context, "fruit")
        await run_all(context)
        await start_build(context, "fruit")
        await run_all(context)
        await start_publish(context, await newest_build(context), url)
        await run_all(context)
        await subscribe(context, f"{url}/fruit", "@daily", name="copy")
        write_plugin(tmp_path / "fruit", schedule="@daily")
        config = BuildConfig(name="nightly", doc_type="thing", sources=["fruit"], schedule="@daily")
        await put_build_config(context, config)
        for job in await jobs_of(context):  # old ones are what a cleaning removes
            await context.state.put(job.id, job.model_copy(update={"finished_at": 1.0}))
        assert await run_schedules(context, now=now) == []
        begun = [await context.state.get(Job, job) for job in await run_schedules(context, now=now + 8 * DAY)]
        callers = {str(job.caller) for job in begun if job}
        expected = ("clean:home", "verify:home", "dump:fruit", "build:nightly", "subscribe:copy")
        assert callers == {f"schedule:{key}" for key in expected}
        assert {key.partition(":")[0] for key in expected} == {rule.kind for rule in ON_TIME}
        await run_all(context)
        followed = {job.kind: str(job.caller) for job in await jobs_of(context) if job.parent}
        assert followed["apply"] == "schedule:subscribe:copy"

    play(tmp_path, scenario)


def test_a_configuration_asks_for_what_follows_in_it(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_dump(context.asked_by(ADA), "fruit")
        await run_all(context)
        values = {"name": "fruit", "doc_type": "thing", "sources": ["fruit"], "on_new_upload": True, "release": "auto"}
        publish = (tmp_path / "published").as_uri()
        await put_build_config(context, BuildConfig.model_validate({**values, "publish": publish}))
        before = {job.id for job in await jobs_of(context)}
        for _ in range(3):
            await run_schedules(context)
            await run_all(context)
        followed = [job for job in await jobs_of(context) if job.id not in before]
        assert {"build", "index", "publish"} <= {job.kind for job in followed}
        assert {str(job.caller) for job in followed} == {"config:fruit"}

    play(tmp_path, scenario)


def test_a_job_that_lost_its_worker_goes_on_for_the_one_who_asked(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        job = await start_dump(context.asked_by(ADA), "fruit")
        await context.state.put(job.id, job.move_to(JobState.RUNNING, sent_at=None, attempt=1))
        assert await recover_jobs(context) == [job.id]
        await execute_job(context, job.id)
        await run_all(context)
        jobs = await jobs_of(context)
        assert {"dump", "upload", "parse"} <= {found.kind for found in jobs}
        assert {(found.caller, found.state) for found in jobs} == {(ADA, JobState.SUCCEEDED)}

    play(tmp_path, scenario)


def test_each_line_of_a_job_and_of_its_parts_names_its_caller(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        with capture_logs([merge_contextvars]) as lines:
            job = await start_dump(context.asked_by(ADA), "fruit")
            await context.state.put(job.id, job.move_to(JobState.RUNNING, sent_at=None, attempt=1))
            await recover_jobs(context)
            await run_all(context)
        assert {"job_resent", "job_started", "job_ended"} <= {line["event"] for line in lines}
        assert {"dump", "upload", "parse"} <= {line.get("kind") for line in lines}
        assert {line["caller"] for line in lines if "job" in line} == {"user:ada"}
        assert [line for line in lines if "job" not in line] == []

    play(tmp_path, scenario)


def test_what_an_earlier_version_indexed_is_renewed_by_the_system(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await start_dump(context, "fruit")
        await run_all(context)
        await start_build(context, "fruit")
        await run_all(context)
        await start_release(context, await newest_build(context))
        await run_all(context)
        make_outdated(context.settings.home, (await get_release(context, await newest_build(context))).index)
        (job_id,) = await recover_jobs(context.asked_by(ADA))
        job = await context.state.get(Job, job_id)
        assert job
        assert job.caller == SYSTEM

    play(tmp_path, scenario)
