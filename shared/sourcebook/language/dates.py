"""Moments in documents and queries: dates, which span the time they leave open, and arithmetic on them.

A query may write `now` or a date with `||` behind it, and then steps: `+1M` and `-2d` move, `/d` rounds to the day. A step that
rounds gives a span too: from the first to the last millisecond of its unit.
"""

import calendar
import re
import time
from collections.abc import Iterator
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import lru_cache

from sourcebook.language.iso_dates import OFFSET

MIN_MILLISECONDS, MAX_MILLISECONDS = -(2**63), 2**63 - 1

Span = tuple[int, int]
"""The first and the last millisecond since 1970."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d?)(?:-(\d\d?)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?"
    rf"\s*({OFFSET})?)?)?)?"
)
_NOW = "now"
_STEP = re.compile(r"(?P<operator>[+\-/])(?P<count>[0-9]{0,9})(?P<unit>[yMwdhHms])")
_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "H": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_MONTHS = {"y": 12, "M": 1}


@lru_cache(maxsize=50_000)  # the days of a century: most dates of a source come again
def read_date(text: str) -> Span | None:
    """Return the first and last millisecond of a date; None if it is not one.

    As in OpenSearch, a month or day that is left out is the first, and what is left out of the time spans: `2020` is the first
    day of that year.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return _read_epoch(text)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    parts = [int(part) if part is not None else None for part in (year, month, day, hour, minute, second)]
    try:
        first = _to_datetime(
            [part if part is not None else low for part, low in zip(parts, (1, 1, 1, 0, 0, 0), strict=True)], zone
        )
        if fraction is not None:
            start = _to_milliseconds(first) + int(fraction[:3].ljust(3, "0"))
            return start, start
        highs = (1, 1, 1, 23, 59, 59)
        last = _to_datetime([part if part is not None else high for part, high in zip(parts, highs, strict=True)], zone)
    except (ValueError, OverflowError):
        return None
    return _to_milliseconds(first), _to_milliseconds(last) + 999


def read_moment(text: str, now: float | None = None) -> Span | None:
    """Return the first and last millisecond of a date with or without arithmetic; None if it is not one.

    Args:
        text: `2024-01-31`, `now-1d/d`, `2024-01-31||+1M`.
        now: seconds since 1970; the clock's if left out.
    """
    if text.startswith(_NOW):
        start, steps = int((time.time() if now is None else now) * 1000), text[len(_NOW) :]
    else:
        date, bars, steps = text.partition("||")
        span = read_date(date)
        if span is None or not bars:
            return span
        start = span[0]
    try:
        moment = _EPOCH + start * _MILLISECOND
        parsed = list(_read_steps(steps))
        first, last = (_apply_steps(moment, parsed, is_last=is_last) for is_last in (False, True))
    except (ValueError, OverflowError):
        return None
    return _to_milliseconds(first), _to_milliseconds(last)


def _read_steps(text: str) -> Iterator[tuple[str, int, str]]:
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (match["operator"] == "/" and match["count"] not in {"", "1"}):
            raise ValueError(text)
        yield match["operator"], int(match["count"] or 1), match["unit"]
        at = match.end()


def _apply_steps(moment: datetime, steps: list[tuple[str, int, str]], *, is_last: bool) -> datetime:
    for operator, count, unit in steps:
        if operator == "/":
            moment = _floor(moment, unit)
            if is_last:
                moment = _move(moment, 1, unit) - _MILLISECOND
        else:
            moment = _move(moment, count if operator == "+" else -count, unit)
    return moment


def _move(moment: datetime, count: int, unit: str) -> datetime:
    if unit not in _MONTHS:
        return moment + count * _UNITS[unit]
    year, month = divmod(moment.year * 12 + moment.month - 1 + count * _MONTHS[unit], 12)
    if not 1 <= year <= MAXYEAR:
        raise OverflowError
    # A day that the month does not have becomes its last one.
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def _floor(moment: datetime, unit: str) -> datetime:
    if unit in _MONTHS or unit in "wd":
        moment = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        if unit == "w":
            return moment - timedelta(days=moment.weekday())
        day, month = (1, 1) if unit == "y" else (1, moment.month) if unit == "M" else (moment.day, moment.month)
        return moment.replace(month=month, day=day)
    moment = moment.replace(microsecond=0)
    return moment if unit == "s" else moment.replace(second=0, minute=moment.minute if unit == "m" else 0)


def _to_datetime(parts: list[int], zone: str | None) -> datetime:
    moment = datetime(parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], tzinfo=UTC)
    if zone is None or zone == "Z":
        return moment
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return moment - offset if zone[0] == "+" else moment + offset


def _to_milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _read_epoch(text: str) -> Span | None:
    number = text.removeprefix("-")
    if not (number.isascii() and number.isdecimal()):
        return None
    value = int(text) if len(number) < len(str(MAX_MILLISECONDS)) else MAX_MILLISECONDS
    return value, value


def format_date(milliseconds: int) -> str | int:
    """Return a moment as ISO 8601 with milliseconds, as OpenSearch writes it."""
    try:
        moment = _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        return milliseconds
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"
