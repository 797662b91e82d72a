"""What one request may take: time, from its first look at the data to its last byte, and bytes. Pure."""

import math
import time
from typing import Literal

from sourcebook_api.query.errors import QueryError

Work = Literal["read", "built", "written"]

_TOO_LARGE, _TOO_SLOW = 413, 503
_WHAT = {
    "read": "The documents to be read for this answer have",
    "built": "Putting this answer together takes",
    "written": "The answer has",
}


class Budget:
    """The seconds and bytes that a request has left. Bytes read, built on the way, and written count on their own."""

    __slots__ = ("_deadline", "_left", "max_bytes", "seconds")

    def __init__(self, seconds: float, max_bytes: float) -> None:
        self.seconds = seconds
        self.max_bytes = max_bytes
        self._deadline = time.monotonic() + seconds
        self._left: dict[Work, float] = {"read": max_bytes, "built": max_bytes, "written": max_bytes}

    @property
    def seconds_left(self) -> float:
        """How long whatever comes next may take; never nothing, so that who is late says so itself."""
        return max(self._deadline - time.monotonic(), 0.001)

    @property
    def bytes_left(self) -> int:
        """How many bytes of documents may still be read."""
        return int(self._left["read"])

    def check_time(self) -> None:
        """Go on only if there is time left.

        Raises:
            QueryError: 503; there is none.
        """
        if time.monotonic() > self._deadline:
            raise QueryError(
                _TOO_SLOW,
                details=f"The answer took longer than {self.seconds:g} seconds to put together: ask for fewer documents at a "
                "time, or for less to be done with each.",
            )

    def spend(self, kind: Work, size: int) -> None:
        """Take bytes from what is left.

        Raises:
            QueryError: 413; that is more than there is.
        """
        self._left[kind] -= size
        if self._left[kind] < 0:
            raise self.exceeded(kind)

    def exceeded(self, kind: Work) -> QueryError:
        """Return the error for more bytes than there are."""
        return QueryError(
            _TOO_LARGE,
            details=f"{_WHAT[kind]} more than {self.max_bytes:.0f} bytes (SOURCEBOOK_ANSWER_MAX_BYTES): ask for fewer "
            "documents at a time, or for fewer fields.",
        )


UNLIMITED = Budget(math.inf, math.inf)
"""For work that is bounded by what it works on."""
