"""Back-off."""

import asyncio

import pytest

from sourcebook.errors import DownloadInterrupted, DownloadRefused
from sourcebook_dumper.retry import Backoff, retry


def test_delays_double_up_to_a_bound_and_scatter() -> None:
    backoff = Backoff(10, first_seconds=1, longest_seconds=6)
    for attempt, longest in enumerate([1, 2, 4, 6, 6]):
        delays = {backoff.delay(attempt) for _ in range(50)}
        assert longest / 2 <= min(delays) <= max(delays) <= longest
        assert len(delays) > 1


def test_a_pause_that_the_server_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    errors = [DownloadInterrupted("busy", retry_after=7.0), DownloadInterrupted("busy", retry_after=None)]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def action() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    monkeypatch.setattr("sourcebook_dumper.retry.asyncio.sleep", sleep)
    assert asyncio.run(retry(action, Backoff(2, first_seconds=1))) == "done"
    assert pauses[0] == 7.0
    assert pauses[1] <= 2


def test_other_errors_are_not_tried_again() -> None:
    calls = []

    async def action() -> None:
        calls.append(1)
        raise DownloadRefused("no")

    with pytest.raises(DownloadRefused):
        asyncio.run(retry(action, Backoff(5)))
    assert len(calls) == 1
