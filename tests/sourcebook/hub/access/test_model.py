"""Who asks is a small value with one text form, and records without it stay readable."""

import pytest
from pydantic import ValidationError

from sourcebook.hub.access.model import ANONYMOUS, UNKNOWN, Caller
from sourcebook.hub.jobs.model import Job


@pytest.mark.parametrize(
    "text", ["anonymous", "cli:ada", "schedule:dump:genes", "future:x", "cli:a b:c", "cli:\u00e5sa"]
)
def test_a_caller_is_written_as_text_and_read_back(text: str) -> None:
    job = Job.model_validate({"kind": "dump", "target": "s", "lock": "l", "caller": text})
    assert str(job.caller) == text
    assert job.model_dump(mode="json")["caller"] == text
    assert Job.model_validate_json(job.model_dump_json()) == job


def test_a_caller_has_a_kind_and_a_name() -> None:
    caller = Caller.model_validate("schedule:dump:genes")
    assert (caller.kind, caller.name) == ("schedule", "dump:genes")
    assert caller == Caller(kind="schedule", name="dump:genes")
    assert {caller: 1}[Caller(kind="schedule", name="dump:genes")] == 1


@pytest.mark.parametrize("kind", ["", "a:b", "Ada", "a b", "cli\n"])
def test_a_kind_is_one_word_so_that_the_text_can_be_read(kind: str) -> None:
    with pytest.raises(ValidationError):
        Caller(kind=kind)


def test_nobody_becomes_another_caller_by_assignment() -> None:
    with pytest.raises(ValidationError):
        ANONYMOUS.kind = "user"  # type: ignore[misc] # what is refused


def test_a_record_of_an_older_version_was_asked_for_by_nobody_known() -> None:
    old = Job(kind="dump", target="s", lock="l").model_dump(mode="json")
    del old["caller"]
    assert Job.model_validate(old).caller == UNKNOWN
