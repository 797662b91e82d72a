"""Cron expressions: when something is to be done again, in UTC."""

from datetime import UTC, datetime
from typing import Annotated

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator

_FIELDS = 5
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def check_cron(text: str) -> str:
    """Return a cron expression that can be used: minute, hour, day, month, weekday, and seconds as an optional sixth field.

    Raises:
        ValueError: it cannot be read, or names a day that never comes.
    """
    try:
        next_time(text, 0.0)
    except (CronSimError, StopIteration) as error:
        why = f" ({error})" if str(error) else ""
        fields = "five fields, 'minute hour day month weekday' (UTC), and seconds as an optional sixth"
        msg = f"is not a valid cron expression{why}: use {fields}"
        raise ValueError(msg) from error
    return text


Cron = Annotated[str, AfterValidator(check_cron)]


def next_time(text: str, after: float) -> float:
    """Return the first time after `after` that a cron expression names; both are seconds since 1970.

    >>> next_time("30 2 * * *", 0)
    9000.0
    """
    fields = _NAMED.get(text.strip().lower(), text).replace("?", "*").split()
    if len(fields) == _FIELDS + 1:
        fields = [fields[-1], *fields[:-1]]  # manifests have the seconds last, the library has them first
    return next(CronSim(" ".join(fields), datetime.fromtimestamp(after, UTC))).timestamp()
