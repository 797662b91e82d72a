"""The catalogue: small records (jobs, dumps, uploads, builds, APIs) that say what is current."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

RecordT = TypeVar("RecordT", bound=BaseModel)


class Catalog(Protocol):
    """Records by kind (their class) and key. Every call is atomic and durable when it returns."""

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
        limit: int | None = None,
    ) -> list[RecordT]:
        """Return records whose top-level fields equal `where` (a tuple as value: any of these), by key, or by key descending."""
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
