"""Every route that starts a job records who asked, and so does every log line of a request."""

import importlib
import io
import json
import logging
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute

from sourcebook.context import Context
from sourcebook.hub.builds.answers import list_builds
from sourcebook.hub.jobs.model import Job
from sourcebook.logging import configure_logging, get_logger
from sourcebook.worker import run_queued_jobs
from sourcebook_api import routers
from sourcebook_api.dependencies import read_context

Hub = Callable[..., Any]


def write_plugin(folder: Path) -> Path:
    folder.mkdir()
    manifest = {"dumper": {"data_url": "data.txt"}, "uploader": {"parser": "parser:load_data"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "parser.py").write_text("def load_data(folder):\n    yield {'_id': '1'}\n")
    (folder / "data.txt").write_text("x")
    return folder


def hub_routes() -> list[APIRoute]:
    """Return every route of the hub, with its path below /hub."""
    modules = [
        importlib.import_module(item.name) for item in pkgutil.iter_modules(routers.__path__, "sourcebook_api.routers.")
    ]
    return [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]


def starting_routes() -> set[tuple[str, str]]:
    """Return method and path of each route whose function starts jobs."""
    return {
        (method, f"/hub{route.path}")
        for route in hub_routes()
        for method in route.methods or ()
        if any(name.startswith(("start_", "submit")) for name in route.endpoint.__code__.co_names)
    }


def test_every_route_that_starts_jobs_records_its_caller(hub: Hub, tmp_path: Path) -> None:
    folder, url = write_plugin(tmp_path / "fruit"), (tmp_path / "published").as_uri()

    async def work(gateway: Any) -> None:
        context: Context = gateway.context
        asked: set[tuple[str, str]] = set()

        async def start(path: str, body: Any = None, **names: str) -> None:
            asked.add(("POST", path))
            answer = await gateway.ask("POST", path.format(**names), json=body)
            assert answer.status_code == 202, answer.text
            jobs = answer.json() if isinstance(answer.json(), list) else [answer.json()]
            assert [job["caller"] for job in jobs] == ["anonymous"]
            await run_queued_jobs(context, cast("Any", context.bus))

        assert (await gateway.ask("POST", "/hub/plugins", json={"folder": str(folder)})).status_code == 201
        config = {"name": "fruit", "doc_type": "thing", "sources": ["fruit"]}
        assert (await gateway.ask("PUT", "/hub/build-configs/fruit", json=config)).status_code == 200
        await start("/hub/sources/{name}/dump", name="fruit")
        await start("/hub/sources/{name}/upload", {"force": True}, name="fruit")
        await start("/hub/sources/{name}/inspect", name="fruit")
        await start("/hub/builds", {"config": "fruit"})
        await start("/hub/builds", {"config": "fruit", "mode": "full"})
        second, first = [build.name for build in await list_builds(context, "fruit")]
        await start("/hub/builds/{name}/release", name=first)
        await start("/hub/builds/{name}/publish", {"url": url}, name=first)
        await start("/hub/install", {"url": f"{url}/fruit", "name": "copy"})
        await start("/hub/builds/{name}/archive", name=second)
        await start("/hub/clean")
        await start("/hub/verify")
        assert asked == starting_routes()
        described = (await gateway.ask("GET", "/openapi.json")).json()["paths"]
        assert asked == {
            ("POST", path) for path, calls in described.items() if "202" in calls.get("post", {}).get("responses", {})
        }
        assert {str(job.caller) for job in await context.state.find(Job)} == {"anonymous"}
        listed = (await gateway.ask("GET", "/hub/jobs")).json()
        assert {job["caller"] for job in listed} == {"anonymous"}

    hub(work)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, as JSON lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("INFO", as_json=True)
    stream = io.StringIO()
    cast("logging.StreamHandler[Any]", root.handlers[0]).setStream(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("path", ["/hub/sources", "/apis/genes/query"])
def test_each_line_of_a_request_names_the_request_and_its_caller(
    path: str, hub: Hub, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        get_logger("test").info("in_the_engine")
        logging.getLogger("library").warning("in a library")
        raise RuntimeError

    async def work(gateway: Any) -> None:
        for call in ("find", "get"):
            monkeypatch.setattr(type(gateway.context.state), call, fail)
        answer = await gateway.ask("GET", path, headers={"X-Request-ID": "r-1"})
        assert answer.status_code == 500
        get_logger("test").info("after_the_request")

    hub(work)
    found = {line["event"]: line for line in map(json.loads, lines.getvalue().splitlines())}
    for event in ("in_the_engine", "in a library", "unexpected_error"):
        assert (found[event]["request_id"], found[event]["caller"]) == ("r-1", "anonymous")
    assert not {"request_id", "caller"} & {*found["after_the_request"]}


def test_a_route_of_the_hub_has_its_engines_from_the_one_who_knows_the_caller() -> None:
    taking = [route for route in hub_routes() if "context" in route.endpoint.__annotations__]
    assert len(taking) > 30
    for route in taking:
        assert read_context in {dependency.call for dependency in route.dependant.dependencies}, route.path
