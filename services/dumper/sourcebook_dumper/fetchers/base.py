"""What every kind of URL can do."""

from typing import Protocol

from sourcebook_dumper.fetchers.part import PartFile
from sourcebook_dumper.progress import Count


class Fetcher(Protocol):
    """Gets files of one kind of URL."""

    async def release(self, url: str) -> str | None:
        """Return what names the present version of a file: its date as YYYY-MM-DD, else a tag; None if nothing does.

        Raises:
            DownloadRefused: the server does not give the file.
            DownloadInterrupted: it does not answer now.
        """
        ...

    async def fetch(self, url: str, part: PartFile, count: Count) -> dict[str, str]:
        """Write the whole file into `part`, resuming what an earlier try left if that is safe; return what the server said.

        Raises:
            DownloadRefused: the server does not give the file, or something else than the file.
            DownloadInterrupted: it broke off; calling again resumes.
        """
        ...
