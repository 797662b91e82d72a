"""Which strings are dates (ISO 8601): one rule for what is inferred at upload and what an index reads."""

import re
from datetime import date

DAY_LENGTH = len("2024-01-02")
# No clock is further from UTC than 18 hours: so says OpenSearch, too.
OFFSET = r"(?:Z|[+-](?:(?:0\d|1[0-7])(?::?[0-5]\d)?|18(?::?00)?))"
_HOUR = r"(?:[01]\d|2[0-3])"
_TIME = re.compile(rf"T{_HOUR}(?::[0-5]\d(?::[0-5]\d(?:[.,]\d{{1,9}})?)?)?{OFFSET}?\Z", re.ASCII)
# What databases and Python print. `SPACED_FORMAT` is the same for OpenSearch, which counts the digits of a fraction.
_SPACED_TIME = re.compile(
    rf" {_HOUR}:[0-5]\d(?::[0-5]\d(?:\.(?:\d{{3}}){{1,3}})?)?(?:Z|[+-](?:(?:0\d|1[0-7]):[0-5]\d|18:00))?\Z", re.ASCII
)
SPACED_FORMAT = "uuuu-MM-dd HH:mm[:ss][.SSSSSSSSS][.SSSSSS][.SSS][XXX]"


def is_date(value: str) -> bool:
    """Whether a string is a day, with or without a time.

    >>> is_date("2023-05-01"), is_date("2023-05-01 10:00:00"), is_date("2023-05-01T10:00:00+99:00"), is_date("2023-02-30")
    (True, True, False, False)
    """
    size = len(value)
    # The two hyphens exclude the other forms that Python reads (20240102, 2024-W01-2).
    if size < DAY_LENGTH or value[7] != "-" or value[4] != "-":
        return False
    if size > DAY_LENGTH and not (_TIME.match(value, DAY_LENGTH) or _SPACED_TIME.match(value, DAY_LENGTH)):
        return False
    try:
        date.fromisoformat(value[:DAY_LENGTH])
    except ValueError:
        return False
    return True
