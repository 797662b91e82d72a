"""`up`, `run`, `worker`, `api`, `serve` and `status`: what starts processes, and what they serve."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from sourcebook.cli.sources import JsonOption
from sourcebook.cli.terminal import err, follow_jobs, make_table, out, run_command, show
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, SourcebookError
from sourcebook.flow.stages import BEAT_QUEUE, QUEUES
from sourcebook.hub import apis, builds, sources
from sourcebook.hub.jobs import list_jobs
from sourcebook.logging import configure_logging
from sourcebook.model.build import BuildConfig
from sourcebook.model.job import Job
from sourcebook.references import load_reference
from sourcebook.settings import Settings, load_settings
from sourcebook.supervisor import check_port, run_stack
from sourcebook.worker import run_queued_jobs

PortOption = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port; default: SOURCEBOOK_PORT, which is 8000.")
]


def up() -> None:
    """Start broker, workers, beat and gateway, and keep them running until Ctrl-C."""
    settings = load_settings()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with run_stack(settings, report=lambda text: err.print(f"[dim]{escape(text)}[/]")) as stack:
            rows = [(name, pid) for name, pid in stack.pids.items()]
            err.print(make_table(["process", "pid"], rows))
            out.print(
                f"Sourcebook is up: {stack.url}  (console: {stack.url}/docs, logs: {settings.home / 'logs'})",
                highlight=False,
            )
            out.print("Ctrl-C stops it.")
            await stop.wait()

    asyncio.run(main())


def worker(
    queue: Annotated[str, typer.Argument(help=f"One of {', '.join((*QUEUES, BEAT_QUEUE))}.")],
    *,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Jobs that run side by side.")] = 1,
) -> None:
    """Run the worker of one queue in the foreground."""
    if queue not in (*QUEUES, BEAT_QUEUE):
        raise InvalidRequest(f"There is no queue {queue!r}; there are {', '.join((*QUEUES, BEAT_QUEUE))}.", queue=queue)
    raise typer.Exit(load_reference("sourcebook.celeryapp:run_worker")(load_settings(), queue, concurrency=concurrency))


def api(*, port: PortOption = None) -> None:
    """Run the gateway: hub control, console, and the query API of every release."""
    settings = _with_port(port)
    _serve(load_reference("sourcebook_api.app:create_app")(settings), settings)


def serve(
    name: Annotated[str, typer.Argument(help="Name of the API.")],
    *,
    port: PortOption = None,
) -> None:
    """Serve one API at the root of its own port; the gateway need not run."""
    settings = _with_port(port)
    run_command(lambda context: apis.get_api(context, name), inline=True)
    out.print(f"API {name}: http://{settings.host}:{settings.port}/query?q=*", highlight=False)
    _serve(load_reference("sourcebook_api.app:create_query_app")(settings, name), settings)


def run(
    plugin: Annotated[Path, typer.Argument(help="Folder of a plugin.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Download and parse even if nothing is new.")] = False,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop when the index is ready.")] = False,
    port: PortOption = None,
) -> None:
    """Take one plugin from its files to a served API in this process, without a broker: for plugin authors."""
    settings = _with_port(port)
    if not no_serve:
        check_port(settings.host, settings.port)
    name = run_command(lambda context: _run_plugin(context, plugin, force=force), inline=True)
    if no_serve:
        out.print(f"API {name} is ready: sourcebook serve {name}", highlight=False)
        return
    out.print(f"API {name}: http://{settings.host}:{settings.port}/query?q=*  (Ctrl-C stops it)", highlight=False)
    _serve(load_reference("sourcebook_api.app:create_query_app")(settings, name), settings)


async def _run_plugin(context: Context, folder: Path, *, force: bool) -> str:
    plugin = await sources.add_plugin(context, folder)
    loaded = await sources.read_manifest(context, plugin.name)
    for warning in loaded.warnings:
        err.print(f"[yellow]warning[/] {escape(warning)}", highlight=False)
    if not loaded.manifest.uploader_list:
        raise InvalidRequest(f"Plugin {plugin.name!r} only downloads: its manifest has no uploader to make documents.")
    await _run_here(context, [await sources.start_dump(context, plugin.name, force=force)])
    await _run_here(context, await sources.start_upload(context, plugin.name))
    config = BuildConfig(
        name=plugin.name,
        doc_type=loaded.manifest.biothing_type or "document",
        sources=[plugin.name],
        builder="link" if len(loaded.manifest.uploader_list) == 1 else "merge",
    )
    await builds.put_build_config(context, config)
    (built,) = await _run_here(context, [await builds.start_build(context, config.name)])
    await _run_here(context, [await builds.start_release(context, str((built.result or {})["build"]))])
    return plugin.name


async def _run_here(context: Context, jobs: list[Job]) -> list[Job]:
    """Run queued jobs in this process while their progress is shown."""
    running = asyncio.create_task(run_queued_jobs(context, context.bus))  # type: ignore[arg-type] # run_command opened it inline
    finished = await follow_jobs(context, jobs)
    await running
    return finished


def status(*, as_json: JsonOption = False) -> None:
    """Show sources, builds, APIs and what is running."""

    async def work(context: Context) -> dict[str, Any]:
        return {
            "home": str(context.settings.home),
            "broker": await _broker_state(context),
            "sources": await sources.list_sources(context),
            "builds": (await builds.list_builds(context))[:10],
            "apis": await apis.list_apis(context),
            "active_jobs": [job for job in await list_jobs(context, limit=200) if not job.is_finished],
        }

    found = run_command(work)
    if as_json:
        show(found, as_json=True)
        return
    out.print(f"home   {found['home']}\nbroker {found['broker']}\n", highlight=False, markup=False)
    for columns, rows in (
        (("source", "release", "documents", "state"), [_source_row(view) for view in found["sources"]]),
        (("build", "documents", "configuration"), [(b.name, b.count, b.config) for b in found["builds"]]),
        (("api", "release", "kept for rollback"), [(a.name, a.release, ", ".join(a.history)) for a in found["apis"]]),
        (("job", "kind", "target", "state"), [(j.id, j.kind, j.target, j.state.value) for j in found["active_jobs"]]),
    ):
        out.print(make_table(columns, rows), "")


def _source_row(view: sources.SourceView) -> tuple[object, ...]:
    documents = sum(upload.count for upload in view.uploads.values())
    return view.name, view.dump.release if view.dump else "-", documents, view.error or _problem(view) or "ok"


def _problem(view: sources.SourceView) -> str:
    errors = [view.state.last_dump_error, *view.state.last_upload_errors.values()]
    return "; ".join(str(error.get("message", error)) for error in errors if error)


async def _broker_state(context: Context) -> str:
    try:
        await context.bus.ping()
    except SourcebookError as error:
        return error.message
    return "ok"


def _with_port(port: int | None) -> Settings:
    settings = load_settings()
    return settings if port is None else settings.model_copy(update={"port": port})


def _serve(app: Any, settings: Settings) -> None:
    check_port(settings.host, settings.port)
    configure_logging(settings.log_level, as_json=settings.log_json)
    options = {"log_config": None, "access_log": False, "server_header": False}
    load_reference("uvicorn:run")(app, host=settings.host, port=settings.port, **options)
