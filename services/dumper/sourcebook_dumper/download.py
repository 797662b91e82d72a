"""Downloads the files of a dump side by side into its staging folder."""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sourcebook.errors import TerminalError
from sourcebook.logging import hide_secrets
from sourcebook.model.dump import DumpFile
from sourcebook_dumper.fetchers import Fetchers, choose_fetcher
from sourcebook_dumper.fetchers.base import Fetcher
from sourcebook_dumper.fetchers.part import PartFile
from sourcebook_dumper.progress import Count, Meter
from sourcebook_dumper.retry import Backoff, retry

_UNSAFE = str.maketrans(dict.fromkeys(("/", "\\", *map(chr, range(32)), "\x7f"), "_"))
_NAME_MAX_BYTES = 200
_NAME_WITHOUT_PATH = "download"


@dataclass(frozen=True, slots=True)
class Downloads:
    """The files of a dump on their way into `folder`."""

    folder: Path
    names: dict[str, str]
    """File name -> url."""

    def part(self, name: str) -> PartFile:
        """Return the file under its temporary name."""
        return PartFile(self.folder / name, self.names[name])


def choose_file_names(urls: Iterable[str]) -> dict[str, str]:
    """Return a file name for each URL: the last part of its path; `x-2.tsv.gz` for the second that would be `x.tsv.gz`.

    >>> choose_file_names(["https://a/x.tsv?v=1", "https://b/x.tsv"])
    {'x.tsv': 'https://a/x.tsv?v=1', 'x-2.tsv': 'https://b/x.tsv'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for url in urls:
        wanted = _safe_name(url)
        stem, dot, ending = wanted.partition(".")
        name, number = wanted, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}{dot}{ending}"
        taken.add(name.casefold())
        names[name] = url
    return names


def is_repository(url: str) -> bool:
    """Whether a URL names a whole repository, which comes as a tar file and is always unpacked."""
    return urlsplit(url).scheme.startswith("git+")


def _safe_name(url: str) -> str:
    path = urlsplit(url).path
    if is_repository(url):
        path = f"{path.partition('@')[0].rstrip('/').removesuffix('.git')}.tar"
    last = unquote(path.rstrip("/").rpartition("/")[2])
    name = last.translate(_UNSAFE).strip().lstrip(".")
    return name.encode()[-_NAME_MAX_BYTES:].decode(errors="ignore") or _NAME_WITHOUT_PATH


def prepare_folder(downloads: Downloads) -> None:
    """Keep what can be resumed of an earlier try, and remove the rest. Blocks: call it in a thread."""
    wanted = [downloads.part(name) for name in downloads.names]
    for part in wanted:
        # That try had all files and died later: with its note, the file is a part that is complete.
        if part.note.exists() and part.target.is_file() and not part.path.exists():
            part.target.rename(part.path)
    kept = {path.name for part in wanted for path in (part.path, part.note)}
    for path in downloads.folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in kept:
            path.unlink()


async def download_files(
    downloads: Downloads, fetchers: Fetchers, meter: Meter, *, per_host: int, backoff: Backoff
) -> list[DumpFile]:
    """Download all files, at most `per_host` at a time from one host, and give them their names when all are complete.

    Raises:
        DownloadRefused: a server does not give a file; the other downloads are stopped and can be resumed.
        DownloadInterrupted: a server failed, after all retries.
        ManifestError: a URL cannot be downloaded.
    """
    limits: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_host))

    async def download(name: str, url: str, count: Count) -> DumpFile:
        async with limits[urlsplit(url).netloc]:
            return await _download_one(downloads.part(name), url, choose_fetcher(fetchers, url), count, backoff=backoff)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(download(name, url, meter.add())) for name, url in downloads.names.items()]
    except BaseExceptionGroup as errors:
        raise _most_telling(errors) from errors
    files = [task.result() for task in tasks]
    await asyncio.to_thread(_give_names, downloads)
    return files


async def _download_one(part: PartFile, url: str, fetcher: Fetcher, count: Count, *, backoff: Backoff) -> DumpFile:
    with part:
        headers = await retry(lambda: fetcher.fetch(url, part, count), backoff)
    shown = hide_secrets(url)
    return DumpFile(name=part.target.name, size=part.size, sha256=part.sha256, url=shown, headers=headers)


def _most_telling(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that a person has to mend, if there is one, else the first."""
    return next((error for error in errors.exceptions if isinstance(error, TerminalError)), errors.exceptions[0])


def _give_names(downloads: Downloads) -> None:
    for name in downloads.names:
        part = downloads.part(name)
        part.path.rename(part.target)


def remove_notes(downloads: Downloads) -> None:
    """Leave nothing but the files themselves in the folder. Blocks: call it in a thread."""
    for name in downloads.names:
        downloads.part(name).note.unlink(missing_ok=True)
