"""The state: small records (jobs, dumps, uploads, builds, APIs) that say what is current."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.sources.model import Dump, Upload

RecordT = TypeVar("RecordT", bound=BaseModel)

# The top-level fields that `find` and `count` may look for, by kind of record. An index of several fields also serves its
# first one, but then records do not come in the order of keys by themselves.
INDEXES: Mapping[type[BaseModel], tuple[tuple[str, ...], ...]] = {
    Job: (("state",), ("state", "kind"), ("kind",), ("target",), ("lock", "state"), ("parent",), ("parts_open",)),
    Dump: (("source",),),
    Upload: (("source",), ("collection",)),
    BuildConfig: (("name",),),
    Build: (("config",), ("collection",), ("linked",)),
    Release: (("build",), ("config",)),
    Api: (("config",),),
}


def choose_index(kind: type[BaseModel], where: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the declared index that narrows a search most: the one with most of its fields in `where` and fewest beside.

    Raises:
        ValueError: none begins with a field of `where`, so that all records would be read: `INDEXES` wants another entry.
    """
    usable = [index for index in INDEXES.get(kind, ()) if index[0] in where]
    if not usable:
        raise ValueError(f"no index of {kind.__name__} begins with one of {', '.join(where)}: declare it in INDEXES")
    return max(usable, key=lambda index: (len(where.keys() & set(index)), -len(index)))


class StateStore(Protocol):
    """Records by kind (their class) and key. Every call is atomic and durable when it returns.

    A record that an earlier version wrote is read as one of today (`ports/records.py`); whoever reads one of a newer version gets
    `RecordTooNew`.
    """

    async def get(self, kind: type[RecordT], key: str) -> RecordT | None:
        """Return a record, or None."""
        ...

    async def put(self, key: str, record: BaseModel) -> None:
        """Write a record, replacing the one that was there."""
        ...

    async def insert(self, key: str, record: BaseModel) -> bool:
        """Write a record if there is none under the key; return whether it was written."""
        ...

    async def update(
        self, kind: type[RecordT], key: str, change: Callable[[RecordT], RecordT], *, default: RecordT | None = None
    ) -> RecordT:
        """Replace a record by `change(record)`, atomically, and return the new one. `change` may be called again: keep it pure.

        Raises:
            NotFound: there is no such record, and no default.
        """
        ...

    async def delete(self, kind: type[BaseModel], key: str) -> bool:
        """Remove a record; return whether it was there."""
        ...

    async def find(
        self,
        kind: type[RecordT],
        where: Mapping[str, Any] | None = None,
        *,
        newest_first: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[RecordT]:
        """Return records whose top-level fields equal `where` (a tuple as value: any of these), by key, or by key descending.

        Args:
            kind: their class.
            where: what they have in common; without it, all of the kind.
            newest_first: by key descending.
            after: the key, of a record that need not be there any more, behind which they begin in that order.
            limit: at most so many.

        Raises:
            ValueError: no index begins with one of these fields.
        """
        ...

    async def count(self, kind: type[BaseModel], where: Mapping[str, Any] | None = None) -> int:
        """Return how many records `find` would return; none is read.

        Raises:
            ValueError: no index begins with one of these fields.
        """
        ...

    async def changes(self, kind: type[RecordT], since: int) -> tuple[int, list[RecordT]]:
        """Return the records written after position `since`, oldest first, and the new position (0 = from the beginning)."""
        ...

    async def position(self, kind: type[BaseModel]) -> int:
        """Return the position of the newest record of a kind (0: there is none): from where `changes` tells what is new."""
        ...

    async def close(self) -> None:
        """Give back what is open."""
        ...
