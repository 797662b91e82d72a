"""File stores: the folders of downloaded versions, each published in one step."""

from pathlib import Path
from typing import Protocol


class FileStore(Protocol):
    """Folders of files under keys such as `archive/hgnc/2024-01-02`."""

    async def staging(self, key: str) -> Path:
        """Return a local folder to fill for `key`; what an earlier try left in it is still there (to resume downloads)."""
        ...

    async def publish(self, key: str) -> None:
        """Make the staged folder visible under `key` in one step.

        Raises:
            Conflict: the key exists already.
        """
        ...

    async def discard(self, key: str) -> None:
        """Remove the staged folder of `key`; nothing happens if there is none."""
        ...

    async def abandoned(self, seconds: float) -> list[str]:
        """Return the keys (or folders of keys) staged on this machine in which nothing was written for so long."""
        ...

    async def local_folder(self, key: str) -> Path:
        """Return a local folder with the published files (on a remote store: a cached copy). Treat it as read-only.

        Raises:
            NotFound: nothing is published under `key`.
        """
        ...

    async def exists(self, key: str) -> bool:
        """Whether something is published under `key`."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """Return the published keys below `prefix`, sorted."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a published folder; nothing happens if it is not there."""
        ...
