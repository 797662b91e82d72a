"""The table of what follows is whole: nothing starts beside it, and what it names is there."""

import ast
from pathlib import Path

import pytest

from sourcebook.flow.messages import (
    ApplyChanges,
    DumpReady,
    Message,
    PartCommand,
    ReleaseInstalled,
    UploadDump,
    UploadReady,
)
from sourcebook.flow.stages import STAGES
from sourcebook.hub.schedules.rules import AFTER_JOB, ON_TIME, RULES, next_commands
from sourcebook.references import load_reference

ROOT = Path(__file__).resolve().parents[4]
COMMANDS = {stage.command for stage in STAGES.values()}
INSTALLED = ReleaseInstalled(config="c", build="c_1", api="things", count=1, steps=1)


@pytest.mark.parametrize(
    ("message", "following"),
    [
        (
            DumpReady(source="s", dump="s@1", version="1", uploaders=("a", "b")),
            [UploadDump(source="s", uploader="a"), UploadDump(source="s", uploader="b")],
        ),
        (DumpReady(source="s", dump="s@1", version="1"), []),
        (INSTALLED, [ApplyChanges(build="c_1", api="things")]),
        (INSTALLED.model_copy(update={"release": False}), []),
        (UploadReady(source="s", uploader="a", upload="s/a@1", count=1), []),
    ],
)
def test_a_message_says_what_follows_it(message: Message, following: list[Message]) -> None:
    assert next_commands(message) == following


def test_every_rule_starts_commands_of_stages_or_says_what_happens() -> None:
    for rule in RULES:
        assert {*rule.follows, *rule.commands} <= COMMANDS, rule.trigger
        assert bool(rule.commands) != bool(rule.outcome), rule.trigger


def test_the_message_of_a_rule_is_what_the_stages_before_it_end_with() -> None:
    for rule in AFTER_JOB:
        handlers = [load_reference(stage.handler) for stage in STAGES.values() if stage.command in rule.follows]
        assert [handler.__annotations__["return"] for handler in handlers] == [rule.message]


def test_kinds_of_schedules_are_unique() -> None:
    assert len({rule.kind for rule in ON_TIME}) == len(ON_TIME)


def test_a_service_starts_nothing_but_parts_of_its_own_jobs() -> None:
    started = {
        (path.name, node.func.id)
        for path in (ROOT / "services").rglob("sourcebook_[dubi]*/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    named = {command.__name__: command for command in COMMANDS}
    found = {(file, name) for file, name in started if name in named and not issubclass(named[name], PartCommand)}
    assert found == set()
    assert {name for _, name in started if name in named} == {"ParseArguments", "MergeRange"}
