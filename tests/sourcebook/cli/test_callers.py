"""Every command that starts a job records which user of the machine gave it."""

import ast
import os
import pwd
from pathlib import Path

import pytest
from support.context import run_in_context
from support.old_indices import make_outdated

from sourcebook import cli
from sourcebook.cli import stack
from sourcebook.cli.terminal import find_caller
from sourcebook.context import Context
from sourcebook.hub.access.model import Caller
from sourcebook.hub.builds.commands import start_build
from sourcebook.hub.releases.answers import get_release
from sourcebook.worker import run_queued_jobs

from .conftest import Sourcebook

USER = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
"""What everything in this file is started by."""


def starting_commands() -> set[str]:
    """Return the names of the functions of the command line that start jobs, themselves or in a function inside."""
    found = set()
    for path in Path(cli.__file__).parent.glob("*.py"):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
                names = [getattr(item, "attr", getattr(item, "id", "")) for item in called]
                if any(name.startswith("start_") for name in names):
                    found.add(f"{path.stem}.{function.name}")
    return found


def build_again(home: Path) -> str:
    """Build `fruit` once more; return the name of that build, which nothing uses."""

    async def build(context: Context) -> str:
        job = await start_build(context, "fruit", mode="full")
        await run_queued_jobs(context, context.bus)  # type: ignore[arg-type]
        return str(job.command["build"])

    return run_in_context(home, build)


@pytest.mark.usefixtures("no_broker")
def test_every_command_that_starts_jobs_records_its_user(
    served: Sourcebook, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {job["caller"] for job in served("jobs", "--json").json} == {USER}  # those of `run`
    spare = build_again(home)
    build = served("release", "list", "--json").json[0]["build"]
    url = (tmp_path / "published").as_uri()
    commands = {
        "sources.dump": ("dump", "fruit", "--no-wait"),
        "sources.upload": ("upload", "fruit", "--no-wait"),
        "sources.inspect": ("inspect", "fruit", "--no-wait"),
        "builds.build": ("build", "fruit", "--no-wait"),
        "releases.apply": ("release", "apply", spare, "--no-wait"),
        "releases.diff": ("release", "diff", spare, build, "--no-wait"),
        "publishing.publish": ("release", "publish", build, "--to", url, "--no-wait"),
        "publishing.install": ("release", "install", url, "--name", "copy", "--no-wait"),
        "builds.archive": ("archive", spare),
        "builds.clean": ("clean",),
        "builds.verify": ("verify",),
    }
    for command in commands.values():
        ended = served(*command, "--json")
        assert ended.status == 0, ended.err
        assert [job["caller"] for job in ended.json] == [USER]
        for job in ended.json:
            if job["state"] == "queued":
                assert served("jobs", "cancel", job["id"]).status == 0
    make_outdated(home, run_in_context(home, lambda context: get_release(context, build)).index)
    monkeypatch.setattr(stack, "serve_api", lambda *_, **__: None)
    assert served("serve", "fruit").status == 0
    (renewal, *_) = served("jobs", "--json").json
    assert (renewal["kind"], "renews" in renewal["command"], renewal["caller"]) == ("index", True, USER)
    assert starting_commands() == {*commands, "run._run_plugin", "stack._renew_index"}


def test_jobs_are_shown_with_who_asked_for_them(served: Sourcebook) -> None:
    (job, *_) = served("jobs", "--json").json
    assert served("jobs", "show", job["id"]).json["caller"] == USER
    head, first, *_ = served("jobs").out.splitlines()
    assert "caller" in head
    assert f" {USER} " in first


def test_the_user_is_who_the_operating_system_says_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")
    assert str(find_caller()) == USER


def test_a_user_without_an_entry_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert find_caller() == Caller(kind="cli", name="4000000000")
