"""Downloads the files of a dump side by side into its staging folder."""

import asyncio
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sourcebook.errors import DownloadInterrupted
from sourcebook.hub.sources.model import DumpFile
from sourcebook.logging import hide_secrets, strip_controls
from sourcebook_dumper.archives import is_cut
from sourcebook_dumper.fetchers import Fetchers, choose_fetcher
from sourcebook_dumper.fetchers.base import Fetched, Fetcher
from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count, Meter, run_in_thread
from sourcebook_dumper.retry import Backoff, most_telling, retry

_UNSAFE = str.maketrans(dict.fromkeys(("/", "\\", *map(chr, range(32)), "\x7f"), "_"))
_NAME_MAX_BYTES = 200
_NAME_WITHOUT_PATH = "download"
_FILE_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}\Z|\.7z\Z")
_SCRIPT_ENDINGS = (".php", ".asp", ".aspx", ".cgi", ".jsp", ".do", ".pl", ".py", ".fcgi", ".ashx")


@dataclass(frozen=True, slots=True)
class Downloads:
    """The files of a dump on their way into `folder`."""

    folder: Path
    names: dict[str, str]
    """Name of the file while it is downloaded -> url."""
    chosen: Sequence[str] = field(default=())
    """Names that the manifest gives to the files, in the same order; none: server and URL name them."""

    def partial(self, name: str) -> PartialFile:
        """Return the file under its temporary name."""
        return PartialFile(self.folder / name, self.names[name])


def choose_file_names(urls: Iterable[str]) -> dict[str, str]:
    """Return a file name for each URL: the last part of its path; `x-2.tsv.gz` for the second that would be `x.tsv.gz`.

    >>> choose_file_names(["https://a/x.tsv?v=1", "https://b/x.tsv"])
    {'x.tsv': 'https://a/x.tsv?v=1', 'x-2.tsv': 'https://b/x.tsv'}
    """
    listed = list(urls)
    return dict(zip(_number_equal(map(_safe_name, listed)), listed, strict=True))


def is_repository(url: str) -> bool:
    """Whether a URL names a whole repository, which comes as a tar file and is always unpacked."""
    return urlsplit(url).scheme.startswith("git+")


def choose_final_names(downloads: Downloads, fetched: Sequence[Fetched]) -> dict[str, str]:
    """Return the name while it is downloaded -> the name in the dump.

    The manifest's counts, else the URL's where that is the name of a file, else the server's.
    """
    if downloads.chosen:
        return dict(zip(downloads.names, downloads.chosen, strict=True))
    wanted = []
    for (name, url), told in zip(downloads.names.items(), fetched, strict=True):
        is_telling = is_repository(url) or (_FILE_ENDING.search(name) and not name.lower().endswith(_SCRIPT_ENDINGS))
        wanted.append(name if is_telling or not told.name else _make_safe(unquote(told.name)))
    return dict(zip(downloads.names, _number_equal(wanted), strict=True))


def _number_equal(wanted: Iterable[str]) -> list[str]:
    names: list[str] = []
    taken: set[str] = set()
    for text in wanted:
        stem, dot, ending = text.partition(".")
        name, number = text, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}{dot}{ending}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe_name(url: str) -> str:
    path = urlsplit(url).path
    if is_repository(url):
        path = f"{path.partition('@')[0].rstrip('/').removesuffix('.git')}.tar"
    return _make_safe(unquote(path.rstrip("/").rpartition("/")[2]))


def _make_safe(last: str) -> str:
    name = strip_controls(last, "_").translate(_UNSAFE).strip().lstrip(".")
    return name.encode()[-_NAME_MAX_BYTES:].decode(errors="ignore") or _NAME_WITHOUT_PATH


def prepare_folder(downloads: Downloads) -> None:
    """Keep what can be resumed of an earlier try, and remove the rest. Blocks: call it in a thread."""
    wanted = [downloads.partial(name) for name in downloads.names]
    for partial in wanted:
        # That try had all files and died later: with its note, the file is a partial one that is complete.
        if partial.note.exists() and partial.target.is_file() and not partial.path.exists():
            partial.target.rename(partial.path)
    kept = {path.name for partial in wanted for path in (partial.path, partial.note)}
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

    async def download(name: str, url: str, count: Count) -> tuple[DumpFile, Fetched]:
        async with limits[urlsplit(url).netloc]:
            return await _download_one(
                downloads.partial(name), url, choose_fetcher(fetchers, url), count, backoff=backoff
            )

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(download(name, url, meter.add())) for name, url in downloads.names.items()]
    except BaseExceptionGroup as errors:
        raise most_telling(errors) from errors
    results = [task.result() for task in tasks]
    final = choose_final_names(downloads, [told for _, told in results])
    await asyncio.to_thread(_give_names, downloads, final)
    return [file.model_copy(update={"name": final[file.name]}) for file, _ in results]


async def _download_one(
    partial: PartialFile, url: str, fetcher: Fetcher, count: Count, *, backoff: Backoff
) -> tuple[DumpFile, Fetched]:
    async def fetch() -> Fetched:
        told = await fetcher.fetch(url, partial, count)
        if count.total is None:
            await _check_end(partial, url)
        return told

    with partial:
        fetched = await retry(fetch, backoff)
    headers = {name: strip_controls(hide_secrets(value)) for name, value in fetched.headers.items()}
    file = DumpFile(
        name=partial.target.name,
        size=partial.size,
        sha256=partial.sha256,
        url=strip_controls(hide_secrets(url)),
        headers=headers,
    )
    return file, fetched


async def _check_end(partial: PartialFile, url: str) -> None:
    """Look whether a file is complete of which the server did not tell the size: a packed one says so itself."""

    def check(stop: threading.Event) -> bool:
        partial.close()
        return is_cut(partial.path, stop)

    if await run_in_thread(check):
        await asyncio.to_thread(partial.forget)
        shown = hide_secrets(url)
        raise DownloadInterrupted(f"{shown}: the packed file ends early, after {partial.size} bytes.", url=shown)


def _give_names(downloads: Downloads, final: dict[str, str]) -> None:
    for name, wanted in final.items():
        partial = downloads.partial(name)
        partial.path.rename(partial.target.with_name(wanted))


def remove_notes(downloads: Downloads) -> None:
    """Leave nothing but the files themselves in the folder. Blocks: call it in a thread."""
    for name in downloads.names:
        downloads.partial(name).note.unlink(missing_ok=True)
