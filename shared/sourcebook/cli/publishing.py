"""`release publish`, `release install` and `release subscribe`."""

from enum import StrEnum
from typing import Annotated

import typer

from sourcebook.cli.progress import NoWaitOption, run_jobs
from sourcebook.cli.terminal import JsonOption, make_table, run_command, show
from sourcebook.context import Context
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.publishing import answers as publishing_answers
from sourcebook.hub.publishing import commands as publishing_commands

UrlArgument = Annotated[
    str, typer.Argument(help="Where it is published: the folder with versions.json (https:, file:, s3: ...).")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Its name here; default: the last part of the address.")]
ApiOption = Annotated[str | None, typer.Option("--api", help="API to serve it under; default: its name here.")]


class PublishMode(StrEnum):
    """In which form a build is published."""

    AUTO = "auto"
    FULL = "full"
    INCREMENTAL = "incremental"


def publish(
    name: Annotated[str, typer.Argument(help="A build, or a build configuration: its newest build.")],
    *,
    to: Annotated[
        str | None,
        typer.Option(help="Address to publish to (file:, s3:, sftp: ...); default: `publish` of the configuration."),
    ] = None,
    mode: Annotated[PublishMode, typer.Option(help="auto, full or incremental.")] = PublishMode.AUTO,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a build to an address from which other machines install it."""

    async def start(context: Context) -> list[Job]:
        configs = {config.name for config in await build_answers.list_build_configs(context)}
        build_name = (await build_answers.newest_build(context, name)).name if name in configs else name
        return [await publishing_commands.start_publish(context, build_name, to, mode=mode.value)]

    run_jobs(start, no_wait=no_wait, as_json=as_json)


def install(
    url: UrlArgument,
    *,
    name: NameOption = None,
    version: Annotated[str | None, typer.Option(help="Which release; default: the newest.")] = None,
    api: ApiOption = None,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a published release by the shortest way from what is here, check it, and serve it."""

    async def start(context: Context) -> list[Job]:
        return [await publishing_commands.start_install(context, url, name=name, version=version, api=api)]

    run_jobs(start, no_wait=no_wait, as_json=as_json)


def subscribe(
    url: UrlArgument,
    *,
    cron: Annotated[str, typer.Option(help="When to look: cron, in UTC, or @hourly, @daily ...")] = "@hourly",
    name: NameOption = None,
    api: ApiOption = None,
    keep: Annotated[int, typer.Option(min=1, help="Installed builds whose documents stay.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Look at an address on a schedule, and install and serve what is new."""

    async def work(context: Context) -> publishing_answers.SubscriptionView:
        return await publishing_commands.subscribe(context, url, cron, name=name, api=api, keep=keep)

    made = run_command(work, inline=True)
    show(made, as_json=as_json, table=lambda: f"{made.name} is looked for at {made.url} ({made.cron}).")


def unsubscribe(
    name: Annotated[str, typer.Argument(help="Name of the subscription.")], *, as_json: JsonOption = False
) -> None:
    """End a subscription; what was installed stays."""
    run_command(lambda context: publishing_commands.unsubscribe(context, name), inline=True)
    show({"deleted": name}, as_json=as_json, table=lambda: f"The subscription {name} is ended.")


def list_subscriptions(*, as_json: JsonOption = False) -> None:
    """List the subscriptions."""
    found = run_command(publishing_answers.list_subscriptions, inline=True)
    rows = [(item.name, item.url, item.cron, item.api, item.keep) for item in found]
    show(found, as_json=as_json, table=lambda: make_table(("name", "address", "cron", "api", "kept"), rows))


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the group `release`."""
    app.command("publish")(publish)
    app.command("install")(install)
    app.command("subscribe")(subscribe)
    app.command("unsubscribe")(unsubscribe)
    app.command("subscriptions")(list_subscriptions)
