"""The commands of `release`: what they print, and the exit status that says how they ended."""

from pathlib import Path

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.sources import commands as source_commands
from sourcebook.worker import run_queued_jobs

from .conftest import Sourcebook


def update(home: Path, plugin: Path) -> str:
    """Let the plugin's file change, run everything up to the build in this process; return the build's name."""
    file = plugin / "data.ndjson"
    file.write_text(file.read_text().replace("66", "67") + '{"_id": "quince", "grams": 250}\n')

    async def build(context: Context) -> str:
        await source_commands.start_dump(context, "fruit", force=True)
        await run_queued_jobs(context, context.bus)  # type: ignore[arg-type]
        job = await build_commands.start_build(context, "fruit")
        await run_queued_jobs(context, context.bus)  # type: ignore[arg-type]
        return str(job.command["build"])

    return run_in_context(home, build)


def test_a_build_is_released_by_its_changes_and_read_about(served: Sourcebook, plugin: Path, home: Path) -> None:
    (first,) = [release["name"] for release in served("release", "list", "--json").json]
    second = update(home, plugin)

    async def release(context: Context) -> None:
        await build_commands.start_release(context, second, mode="incremental")
        await run_queued_jobs(context, context.bus)  # type: ignore[arg-type]

    run_in_context(home, release)
    listed = served("release", "list", "fruit")
    assert listed.out.splitlines()[1].split()[:4] == [second, second, "incremental", "4"]
    assert "2 of 4 documents changed (50.00%)" in listed.out
    assert (
        served("jobs", "--kind", "apply")
        .out.splitlines()[1]
        .endswith("4 documents, incremental: 2 of 4 documents changed (50.00%)")
    )
    text = served("release", "notes", "fruit", "--note", "Heavier plums").out
    assert f"Build {second} after {first}" in text
    assert "Heavier plums" in text
    assert "grams  changed  1          plum" in text
    assert served("release", "notes", second, "--json").json["documents"] == {"add": 1, "update": 1, "delete": 0}
    assert served("release", "notes", second, "--format", "markdown").out.startswith(
        f"# Release {second}".replace("_", "\\_")
    )
    assert served("release", "rollback", "fruit").out == f"API fruit serves release {first} now.\n"
    unknown = served("release", "notes", "nope")
    assert (unknown.status, "There is no release 'nope'" in unknown.err) == (3, True)


@pytest.mark.usefixtures("no_broker")
def test_release_with_a_build_is_release_apply(served: Sourcebook, plugin: Path, home: Path) -> None:
    second = update(home, plugin)
    for line in (
        f"release {second}",
        "release fruit",
        f"release --no-wait {second}",
        f"release apply {second} --mode incremental",
    ):
        (job,) = served(*line.split(), "--no-wait", "--json").json
        assert (job["kind"], job["target"]) == ("apply", second), line
        assert served("jobs", "cancel", job["id"]).status == 0
    (job,) = served("release", "apply", second, "--mode", "full", "--no-wait", "--json").json
    assert (job["kind"], job["command"]["reason"]) == ("index", "asked for")


@pytest.mark.usefixtures("no_broker")
def test_builds_are_compared(served: Sourcebook, plugin: Path, home: Path) -> None:
    (first,) = [release["build"] for release in served("release", "list", "--json").json]
    alone = served("release", "diff", first)
    assert (alone.status, "has no build before" in alone.err) == (3, True)
    second = update(home, plugin)
    for line in (f"release diff {second}", f"release diff {second} {first} --ignore-list-order"):
        (job,) = served(*line.split(), "--no-wait", "--json").json
        assert (job["kind"], job["command"]["old"], job["command"]["new"]) == ("diff", first, second)
        assert served("jobs", "cancel", job["id"]).status == 0
    wrong = served("release", "apply", second, "--mode", "some")
    assert wrong.status == 2
