"""Every error has its own code and survives the trip between processes."""

import pickle
from collections.abc import Iterator

import pytest

from sourcebook import errors
from sourcebook.errors import SourcebookError


def tree(kind: type[SourcebookError]) -> Iterator[type[SourcebookError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == "sourcebook.errors":
            yield from tree(child)


@pytest.mark.parametrize("kind", list(tree(SourcebookError)), ids=lambda kind: kind.__name__)
def test_an_error_is_described_and_survives_pickling(kind: type[SourcebookError]) -> None:
    assert kind.__doc__
    assert 400 <= kind.status < 600
    assert 0 < kind.exit_code < 128
    copy = pickle.loads(pickle.dumps(kind("what was wrong", where="here")))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), copy.details) == (kind, "what was wrong", {"where": "here"})
    assert kind.__name__ in (errors.__doc__ or "")


def test_an_error_is_rebuilt_from_what_a_job_says_of_it() -> None:
    again = errors.rebuild_error("duplicate_id", "twice", {"id": "x"})
    assert (type(again), again.message, again.details) == (errors.DuplicateId, "twice", {"id": "x"})
    assert type(errors.rebuild_error("worker_lost", "gone", {})) is errors.JobFailed


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in tree(SourcebookError)]
    assert len(set(codes)) == len(codes)
