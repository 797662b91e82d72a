"""What every kind of URL can do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count

_CHANGES_WITH_THE_FILE = {"etag", "last-modified", "mdtm", "mtime", "commit"}


def tells_changes(names: Iterable[str]) -> bool:
    """Whether something of that name changes whenever the file does; a size alone does not."""
    return not _CHANGES_WITH_THE_FILE.isdisjoint(names)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What a server says of a file without sending it.

    Args:
        version: the present version: its date as YYYY-MM-DD, else a tag; None if nothing does.
        told: validators and size, as far as the server tells them.
    """

    version: str | None
    told: Mapping[str, str]

    @property
    def tells_changes(self) -> bool:
        """Whether what is told changes whenever the file does."""
        return tells_changes(self.told)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a server said while it sent a file; `name` is what it calls the file, if that is more than the URL says."""

    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""


class Fetcher(Protocol):
    """Gets files of one kind of URL."""

    async def look(self, url: str) -> RemoteFile:
        """Return what is known of a file without downloading it.

        Raises:
            DownloadRefused: the server does not give the file.
            DownloadInterrupted: it does not answer now.
        """
        ...

    async def fetch(self, url: str, partial: PartialFile, count: Count) -> Fetched:
        """Write the whole file into `partial`, resuming what an earlier try left if that is safe; return what the server said.

        Raises:
            DownloadRefused: the server does not give the file, or something else than the file.
            DownloadInterrupted: it broke off; calling again resumes.
            DownloadPostponed: it asks to come back much later.
        """
        ...
