"""Remembers which strings of a source are dates."""

from sourcebook.language.iso_dates import is_date

_MAX_REMEMBERED = 50_000  # the days of a century, and some times


class KnownDates(set[str]):
    """Strings that were read as dates: most dates of a source come again and again, and looking them up is much faster."""

    def read(self, value: str) -> bool:
        """Return whether a string is a date; it is remembered as long as there is room."""
        if not is_date(value):
            return False
        if len(self) < _MAX_REMEMBERED:
            self.add(value)
        return True
