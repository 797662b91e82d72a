"""`build` and `rollback`."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sourcebook.cli.completion import complete_api, complete_build, complete_config
from sourcebook.cli.progress import NoWaitOption, run_jobs, run_jobs_here
from sourcebook.cli.terminal import JsonOption, err, make_table, run_command, show, show_warning
from sourcebook.context import Context
from sourcebook.errors import InvalidRequest
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import BuildConfig, BuildMode
from sourcebook.hub.builds.news import find_news
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases import commands as release_commands
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.releases.renewal import find_outdated
from sourcebook.hub.upkeep import cleanup
from sourcebook.hub.upkeep import verify as verifying

_SHOWN_NAMES = 5


def build(
    config: Annotated[
        str,
        typer.Argument(
            help="Name of a build configuration, or a JSON or YAML file with one.", autocompletion=complete_config
        ),
    ],
    *,
    sources: Annotated[
        str | None,
        typer.Option(help="Sources to merge, as in `hgnc,ncbi_gene`: makes the configuration, or changes its sources."),
    ] = None,
    doc_type: Annotated[
        str | None, typer.Option(help="With --sources: what a document is about, such as gene.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Merge everything, not only what changed.")] = False,
    incremental: Annotated[
        bool,
        typer.Option("--incremental", help="Merge only what changed since the last build; fail if that cannot be."),
    ] = False,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Merge the uploads of a build configuration; a file with a configuration is stored first.

    Where little changed since the last build, only that is merged; the result is the same.
    """
    if full and incremental:
        raise typer.BadParameter("--full and --incremental exclude each other.")
    mode: BuildMode = "full" if full else "incremental" if incremental else "auto"

    async def start(context: Context) -> list[Job]:
        name = await _store_config(context, config, sources, doc_type)
        # What a build would merge may be what the last one has: then nothing is to be released either.
        for item in await find_news(context, name):
            if item.build and not item.newer and mode == "auto" and not as_json:
                err.print(f"Nothing is new for {name!r} since build {item.build}.", markup=False)
        return [await build_commands.start_build(context, name, mode=mode)]

    run_jobs(start, no_wait=no_wait, as_json=as_json)


async def _store_config(context: Context, config: str, sources: str | None, doc_type: str | None) -> str:
    """Store the configuration that a file or the options describe; return its name."""
    if config.endswith((".json", ".yaml", ".yml")):
        if sources or doc_type:
            raise InvalidRequest(f"{config} names sources and doc_type itself: leave --sources and --doc-type out.")
        return (await build_commands.put_build_config(context, read_build_config(Path(config)))).name
    if sources is None and doc_type is None:
        return config
    known = await context.state.get(BuildConfig, config)
    if known is None and (sources is None or doc_type is None):
        raise InvalidRequest(
            f"There is no build configuration {config!r} yet: to make it, give both --sources, such as hgnc,ncbi_gene, and "
            "--doc-type, such as gene.",
            config=config,
        )
    values: dict[str, object] = known.model_dump(by_alias=True, exclude_unset=True) if known else {"name": config}
    if sources is not None:
        values["sources"] = [item.strip() for item in sources.split(",") if item.strip()]
    if doc_type is not None:
        values["doc_type"] = doc_type
    made = check_build_config(values, "sourcebook build")
    return (await build_commands.put_build_config(context, made)).name


def archive(
    name: Annotated[str, typer.Argument(help="Name of the build.", autocompletion=complete_build)],
    *,
    as_json: JsonOption = False,
) -> None:
    """Remove a build's documents and keep its record; one that an API serves, or keeps for rollback, is refused."""

    async def start(context: Context) -> list[Job]:
        return [await cleanup.start_archive(context, name)]

    run_jobs_here(start, as_json=as_json)


def clean(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what the keep rules do not keep: documents of old builds, and records that nothing needs any more."""

    async def start(context: Context) -> list[Job]:
        return [await cleanup.start_clean_up(context)]

    if not dry_run:
        run_jobs_here(start, as_json=as_json)
        return
    plan = run_command(cleanup.plan_clean_up, inline=True)
    rows = [(kind, len(names), ", ".join(names[:_SHOWN_NAMES])) for kind, names in plan.model_dump().items()]
    show(plan, as_json=as_json, table=lambda: make_table(("to go", "", "first"), rows))


def verify(
    name: Annotated[
        str | None, typer.Argument(help="A source, upload, build or API; default: everything that is stored.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Read everything that is stored, and say what is damaged."""

    async def start(context: Context) -> list[Job]:
        return [await verifying.start_verify(context, name)]

    run_jobs_here(start, as_json=as_json)


def rollback(
    api: Annotated[str, typer.Argument(help="Name of the API.", autocompletion=complete_api)],
    *,
    to: Annotated[
        str | None, typer.Option(help="Release to serve; default: the one before that was not rolled back.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve an earlier release again, at once."""

    async def work(context: Context) -> tuple[Api, Release | None]:
        moved = await release_commands.rollback(context, api, to)
        return moved, await find_outdated(context, moved)

    moved, outdated = run_command(work, inline=True)
    if outdated is not None:
        show_warning(
            f"An earlier version wrote the index of release {outdated.name}: documents are answered by id, and searches once "
            "there is a new one, which `sourcebook up` makes automatically."
        )
    show(moved, as_json=as_json, table=lambda: f"API {moved.name} serves release {moved.release} now.")


def read_build_config(path: Path) -> BuildConfig:
    """Read a build configuration from a JSON or YAML file.

    Raises:
        InvalidRequest: the file cannot be read, or a value is not allowed; the message names file and key.
    """
    try:
        found = yaml.safe_load(path.read_text())
        if not isinstance(found, dict):
            raise InvalidRequest(f"{path}: must hold an object with name, doc_type and sources.", file=str(path))
        return check_build_config(found, str(path))
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8.", file=str(path)) from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", file=str(path)) from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is neither JSON nor YAML: {error}", file=str(path)) from error


def check_build_config(values: dict[str, object], where: str) -> BuildConfig:
    """Return a build configuration.

    Args:
        values: its keys and their values.
        where: the file that they come from, for an error.

    Raises:
        InvalidRequest: a key is unknown or missing, or a value is not allowed.
    """
    try:
        return BuildConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_tell_problem(item) for item in error.errors())
        raise InvalidRequest(f"{where}: {problems}", file=where) from error


def _tell_problem(item: ErrorDetails) -> str:
    where = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"{where} is missing"
    said = str(item["ctx"]["error"]) if item["type"] == "value_error" else item["msg"]
    return f"{where}: {said}" if where else said
