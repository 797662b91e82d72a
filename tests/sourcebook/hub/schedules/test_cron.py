"""Cron expressions as manifests and build configurations have them."""

from datetime import UTC, datetime

import pytest

from sourcebook.hub.schedules.cron import check_cron, next_time

NOON = datetime(2024, 2, 28, 12, tzinfo=UTC).timestamp()


def when(text: str) -> str:
    return datetime.fromtimestamp(next_time(text, NOON), UTC).strftime("%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 9 * * *", "02-29 09:00:00"),
        ("*/10 * * * *", "02-28 12:10:00"),
        ("0 0 ? * sun", "03-03 00:00:00"),
        ("0 12 * * * 30", "02-28 12:00:30"),
        ("* * * * * */5", "02-28 12:00:05"),
        ("@daily", "02-29 00:00:00"),
        ("0 0 29 2 *", "02-29 00:00:00"),
    ],
)
def test_next_time_is_the_first_after(text: str, expected: str) -> None:
    assert when(check_cron(text)) == expected


@pytest.mark.parametrize("text", ["", "daily", "61 * * * *", "* * * *", "0 0 31 2 *", "1 2 3 4 5 6 7"])
def test_what_is_no_cron_text_is_refused_with_an_explanation(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid cron expression.*five fields"):
        check_cron(text)
