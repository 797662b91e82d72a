"""Which strings of a document are dates (ISO 8601)."""

import re
from datetime import date

_MAX_REMEMBERED = 50_000  # the days of a century, and some times
DAY_LENGTH = len("2024-01-02")
_TIME = re.compile(r"T([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?)?(Z|[+-]\d\d(:?[0-5]\d)?)?\Z", re.ASCII)


class KnownDates(set[str]):
    """Strings that were read as dates: most dates of a source come again and again, and looking them up is much faster."""

    def read(self, value: str) -> bool:
        """Return whether a string is a date; it is remembered as long as there is room."""
        if not _is_date(value):
            return False
        if len(self) < _MAX_REMEMBERED:
            self.add(value)
        return True


def _is_date(value: str) -> bool:
    size = len(value)
    # The two hyphens exclude the other forms that Python reads (20240102, 2024-W01-2).
    if size < DAY_LENGTH or value[7] != "-" or value[4] != "-" or (size > DAY_LENGTH and not _TIME.match(value, 10)):
        return False
    try:
        date.fromisoformat(value[:DAY_LENGTH])
    except ValueError:
        return False
    return True
