"""`release`: serve builds, compare them, read the notes, go back; publish, and install what others published."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sourcebook.cli import publishing
from sourcebook.cli.builds import rollback
from sourcebook.cli.completion import complete_build_or_config
from sourcebook.cli.progress import NoWaitOption, run_jobs
from sourcebook.cli.terminal import JsonOption, make_table, run_command, show
from sourcebook.context import Context
from sourcebook.errors import NotFound
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.changes.commands import start_diff
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases import answers as release_answers
from sourcebook.hub.releases import commands as release_commands
from sourcebook.hub.releases.answers import ReleaseView, list_apis
from sourcebook.hub.releases.model import ReleaseMode
from sourcebook.hub.releases.notes import NotesFormat, ReleaseNotes, render_notes


class _ApplyByDefault(TyperGroup):
    """`release BUILD` is `release apply BUILD`, as it was before there were others."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["apply", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ApplyByDefault, no_args_is_help=True)


@app.command("apply")
def apply(
    name: Annotated[
        str,
        typer.Argument(
            help="A build, or a build configuration: its newest build.", autocompletion=complete_build_or_config
        ),
    ],
    *,
    api: Annotated[str | None, typer.Option(help="API to serve it under; default: the configuration's name.")] = None,
    mode: Annotated[
        ReleaseMode, typer.Option(help="Index the build whole, or only what changed; auto: what is cheaper.")
    ] = "auto",
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Index a build, whole or by its changes, verify it, and serve it in place of the release before."""

    async def start(context: Context) -> list[Job]:
        configs = {config.name for config in await build_answers.list_build_configs(context)}
        build_name = (await build_answers.newest_build(context, name)).name if name in configs else name
        return [await build_commands.start_release(context, build_name, api, mode=mode)]

    run_jobs(start, no_wait=no_wait, as_json=as_json)


@app.command("diff")
def diff(
    new: Annotated[str, typer.Argument(help="A build.")],
    old: Annotated[
        str | None,
        typer.Argument(help="The build to compare it with; default: the one before it of its configuration."),
    ] = None,
    *,
    ignore_list_order: Annotated[
        bool, typer.Option("--ignore-list-order", help="Do not count lists that differ in their order alone.")
    ] = False,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two builds; the result is what `release notes` and `release apply` go by."""

    async def start(context: Context) -> list[Job]:
        before = old or await _build_before(context, new)
        return [await start_diff(context, before, new, ignore_list_order=ignore_list_order)]

    run_jobs(start, no_wait=no_wait, as_json=as_json)


async def _build_before(context: Context, name: str) -> str:
    build = await build_answers.get_build(context, name)
    older = [
        item for item in await build_answers.list_builds(context, build.config) if item.finished_at < build.finished_at
    ]
    if not older:
        raise NotFound(f"Configuration {build.config!r} has no build before {name!r}.", build=name)
    return older[0].name


@app.command("notes")
def notes(
    name: Annotated[str, typer.Argument(help="A release, or an API: the release that it serves.")],
    *,
    form: Annotated[NotesFormat, typer.Option("--format", help="text, markdown or json.")] = "text",
    note: Annotated[str | None, typer.Option(help="First say this of the release; it stands in its notes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what changed in a release: versions, documents, fields, with sample ids."""

    async def work(context: Context) -> ReleaseNotes:
        served = {api.name: api.release for api in await list_apis(context)}
        release = served.get(name) or name
        if note is not None:
            await release_commands.set_note(context, release, note)
        return await release_answers.read_notes(context, release)

    found = run_command(work, inline=True)
    if as_json:
        show(found, as_json=True)
    else:
        typer.echo(render_notes(found, form), nl=False)


@app.command("list")
def list_all(
    api: Annotated[str | None, typer.Argument(help="Only the releases of this API.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List releases, newest first."""
    found = run_command(lambda context: release_answers.list_releases(context, api=api), inline=True)
    show(found, as_json=as_json, table=lambda: make_table(_COLUMNS, [_row(release) for release in found]))


_COLUMNS = ("release", "build", "kind", "documents", "released (UTC)", "served as", "kept by", "why")


def _row(release: ReleaseView) -> tuple[object, ...]:
    when = datetime.fromtimestamp(release.released_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    names = ", ".join(release.apis), ", ".join(release.kept_by)
    return (release.name, release.build, release.kind, release.count, when, *names, release.reason)


app.command("rollback")(rollback)
publishing.add_commands(app)
