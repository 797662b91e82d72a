"""`up`, `worker`, `api` and `serve`: what runs until it is told to stop."""

import asyncio
import contextlib
import functools
import signal
from collections.abc import Callable
from typing import Annotated, Any

import typer

from sourcebook.cli.completion import complete_api
from sourcebook.cli.progress import follow_here
from sourcebook.cli.terminal import err, make_table, open_home, out, run_command, show_warning
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest
from sourcebook.flow.stages import WORKER_QUEUES
from sourcebook.hub.releases import answers as release_answers
from sourcebook.hub.releases.renewal import find_outdated, start_renewal
from sourcebook.logging import configure_logging
from sourcebook.redirects import is_loopback
from sourcebook.references import load_reference
from sourcebook.settings import Settings
from sourcebook.supervisor import broker_answers, check_port, run_stack

_GRACEFUL_SECONDS = 3  # an open event stream must not hold up Ctrl-C
PortOption = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port; default: SOURCEBOOK_PORT, which is 8000.")
]


def up() -> None:
    """Start broker, workers, beat and gateway, and keep them running until Ctrl-C."""
    settings = open_home()
    warn_of_reach(settings.host)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if task := asyncio.current_task():
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
        async with run_stack(settings, report=lambda text: err.print(text, style="dim", markup=False)) as stack:
            err.print(make_table(["process", "pid"], [(name, str(pid)) for name, pid in stack.pids.items()]))
            out.print(f"Sourcebook is up: {stack.url}  (console: {stack.url}/docs, logs: {settings.home / 'logs'})")
            out.print("Ctrl-C stops it.")
            await asyncio.Event().wait()

    # Stopping is what people ask of it, at any moment: no failure.
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())


def worker(
    queue: Annotated[str, typer.Argument(help=f"One of {', '.join(WORKER_QUEUES)}.")],
    *,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Jobs that run side by side.")] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /metrics and /health; default: SOURCEBOOK_METRICS_PORT, none."),
    ] = None,
) -> None:
    """Run the worker of one queue in the foreground."""
    if queue not in WORKER_QUEUES:
        raise InvalidRequest(f"There is no queue {queue!r}; there are {', '.join(WORKER_QUEUES)}.", queue=queue)
    settings = open_home()
    if metrics_port is not None:
        settings = settings.model_copy(update={"metrics_port": metrics_port})
    raise typer.Exit(load_reference("sourcebook.celeryapp:run_worker")(settings, queue, concurrency=concurrency))


def api(*, port: PortOption = None) -> None:
    """Run the gateway: hub control, console, and the query API of every release."""
    settings = with_port(port)
    _serve(functools.partial(_make_app, "sourcebook_api.app:create_app", settings), settings)


def serve(
    name: Annotated[str, typer.Argument(help="Name of the API.", autocompletion=complete_api)],
    *,
    port: PortOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer side by side.")] = 1,
) -> None:
    """Serve one API at the root of its own port; the gateway need not run."""
    settings = with_port(port)
    run_command(lambda context: _renew_index(context, name), inline=True)
    serve_api(name, settings, workers=workers)


async def _renew_index(context: Context, name: str) -> None:
    """Make a new index here where an earlier version wrote the one that is served, unless a stack is there to do so."""
    served = await release_answers.get_api(context, name)
    if await broker_answers(context.settings):
        return
    if (job := await start_renewal(context, served)) is not None:
        err.print(f"An earlier version wrote the index of API {name}: making a new one.", markup=False)
        await follow_here(context, [job])
    elif (release := await find_outdated(context, served)) is not None:
        show_warning(
            f"An earlier version wrote the index of API {name}, and a job that was to make a new one did not succeed: documents "
            f"are answered by id alone. Release its build again: sourcebook release apply {release.build} --mode full"
        )


def serve_api(name: str, settings: Settings, *, workers: int = 1) -> None:
    """Serve one API until Ctrl-C."""
    check_port(settings.host, settings.port)
    out.print(f"API {name}: http://{settings.host}:{settings.port}/query?q=*  (Ctrl-C stops it)", markup=False)
    _serve(
        functools.partial(_make_app, "sourcebook_api.app:create_query_app", settings, name), settings, workers=workers
    )


def with_port(port: int | None) -> Settings:
    """Return the settings, with another port if one is given; HOME is there."""
    settings = open_home()
    return settings if port is None else settings.model_copy(update={"port": port})


def _make_app(reference: str, settings: Settings, *arguments: str) -> Any:
    # Runs in each serving process, which starts with nothing but the settings.
    configure_logging(settings.log_level, as_json=settings.log_json)
    return load_reference(reference)(settings, *arguments)


def warn_of_reach(host: str) -> None:
    """Warn of an address that other machines reach."""
    if not is_loopback(host):
        show_warning(
            f"Listening on {host}: every machine that reaches this one can ask, and the hub has no login. Put a proxy with a "
            "login in front, or set SOURCEBOOK_HOST=127.0.0.1."
        )


def _serve(make_app: Callable[[], Any], settings: Settings, *, workers: int = 1) -> None:
    warn_of_reach(settings.host)
    check_port(settings.host, settings.port)
    config = load_reference("uvicorn:Config")(
        make_app,
        factory=True,
        host=settings.host,
        port=settings.port,
        http=load_reference("sourcebook_api.connections:limit_connections")(settings),
        ws="none",
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )
    server = load_reference("uvicorn:Server")(config)
    with contextlib.suppress(KeyboardInterrupt):
        if workers == 1:
            server.run()
        else:
            sockets = [config.bind_socket()]
            load_reference("uvicorn.supervisors:Multiprocess")(config, sockets=sockets).run()
