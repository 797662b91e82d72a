"""Dates of documents and of queries."""

from datetime import datetime

import pytest

from sourcebook.language.dates import MAX_MILLISECONDS, MIN_MILLISECONDS, format_date, read_date, read_moment

DAY = 86_400_000
NOW = datetime.fromisoformat("2024-03-31T15:45:30.250+00:00").timestamp()
DATES = [
    ("1970", (0, DAY - 1)),
    ("1970-01", (0, DAY - 1)),
    ("1970-02", (31 * DAY, 32 * DAY - 1)),
    ("1970-1-2", (DAY, 2 * DAY - 1)),
    ("1970-01-01T01", (3_600_000, 7_199_999)),
    ("1970-01-01T00:01", (60_000, 119_999)),
    ("1970-01-01 00:00:01", (1000, 1999)),
    ("1970-01-01T00:00:00.5Z", (500, 500)),
    ("1970-01-01T00:00:00.123456Z", (123, 123)),
    ("1970-01-01T01:00:00+01:00", (0, 999)),
    ("1969-12-31T23:00:00-0100", (0, 999)),
    ("1970-01-01T18:00:00+18:00", (0, 999)),
    ("1970-01-01T00:00:00+18:30", None),
    ("1970-01-01T00:00:00+99:00", None),
    ("12345", (12345, 12345)),
    ("-1", (-1, -1)),
    ("9" * 30, (MAX_MILLISECONDS, MAX_MILLISECONDS)),
    ("1970-13", None),
    ("1970-02-30", None),
    ("0000", None),
    ("now-1d", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "span"), DATES)
def test_a_date_spans_the_time_it_leaves_open(text: str, span: tuple[int, int] | None) -> None:
    assert read_date(text) == span


def test_dates_are_written_as_iso_8601() -> None:
    assert format_date(0) == "1970-01-01T00:00:00.000Z"
    assert format_date(-1) == "1969-12-31T23:59:59.999Z"
    assert format_date(MIN_MILLISECONDS) == MIN_MILLISECONDS


MOMENTS = [
    ("now", "2024-03-31T15:45:30.250", None),
    ("now-1d", "2024-03-30T15:45:30.250", None),
    ("now+2h", "2024-03-31T17:45:30.250", None),
    ("now-2H", "2024-03-31T13:45:30.250", None),
    ("now-30m", "2024-03-31T15:15:30.250", None),
    ("now-30s", "2024-03-31T15:45:00.250", None),
    ("now-1w", "2024-03-24T15:45:30.250", None),
    ("now-1M", "2024-02-29T15:45:30.250", None),
    ("now-13M", "2023-02-28T15:45:30.250", None),
    ("now+1y", "2025-03-31T15:45:30.250", None),
    ("now-d", "2024-03-30T15:45:30.250", None),
    ("now/y", "2024-01-01T00:00:00.000", "2024-12-31T23:59:59.999"),
    ("now/M", "2024-03-01T00:00:00.000", "2024-03-31T23:59:59.999"),
    ("now/w", "2024-03-25T00:00:00.000", "2024-03-31T23:59:59.999"),
    ("now/d", "2024-03-31T00:00:00.000", "2024-03-31T23:59:59.999"),
    ("now/h", "2024-03-31T15:00:00.000", "2024-03-31T15:59:59.999"),
    ("now/m", "2024-03-31T15:45:00.000", "2024-03-31T15:45:59.999"),
    ("now/s", "2024-03-31T15:45:30.000", "2024-03-31T15:45:30.999"),
    ("now-1d/d", "2024-03-30T00:00:00.000", "2024-03-30T23:59:59.999"),
    ("now/1d", "2024-03-31T00:00:00.000", "2024-03-31T23:59:59.999"),
    ("now/M+1d", "2024-03-02T00:00:00.000", "2024-04-01T23:59:59.999"),
    ("2024-01-31||+1M", "2024-02-29T00:00:00.000", None),
    ("2024-01-01||+1M/d", "2024-02-01T00:00:00.000", "2024-02-01T23:59:59.999"),
    ("2024-01-01T10:00:00+02:00||-1d", "2023-12-31T08:00:00.000", None),
    ("2024-05||/y", "2024-01-01T00:00:00.000", "2024-12-31T23:59:59.999"),
    ("0||+1d", "1970-01-02T00:00:00.000", None),
    ("2024-01-01||", "2024-01-01T00:00:00.000", None),
]


@pytest.mark.parametrize(("text", "first", "last"), MOMENTS, ids=[text for text, _, _ in MOMENTS])
def test_arithmetic_moves_and_rounds(text: str, first: str, last: str | None) -> None:
    span = read_moment(text, NOW)
    assert span is not None
    assert [format_date(bound) for bound in span] == [f"{first}Z", f"{last or first}Z"]


@pytest.mark.parametrize(
    "text",
    [
        "nowhere",
        "now-",
        "now-1",
        "now 1d",
        "now*1d",
        "now-1x",
        "now/2d",
        "now-1d/",
        "now+999999999y",
        "now-999999999d",
        "9999-12-31||+1d",
        "0001-01-01||-1M",
        "soon||+1d",
        "||+1d",
        "9999999999999999||+1d",
        "now-" + "9" * 400 + "d",
    ],
)
def test_what_is_no_moment_is_none(text: str) -> None:
    assert read_moment(text, NOW) is None


def test_a_date_alone_is_a_moment_and_now_is_the_clock() -> None:
    assert read_moment("1970-01-02") == (DAY, 2 * DAY - 1)
    first, later = read_moment("now"), read_moment("now+1m")
    assert first is not None
    assert later is not None
    assert 59_000 < later[0] - first[0] < 120_000
