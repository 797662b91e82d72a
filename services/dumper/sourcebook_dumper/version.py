"""Decides which version of a source is the newest, without downloading it."""

import asyncio
import datetime as dt
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from urllib.parse import urlsplit

from sourcebook.errors import ParserError
from sourcebook.hub.sources.model import Dump, DumpFile
from sourcebook.logging import hide_secrets, strip_controls
from sourcebook.sdk.manifest import Manifest
from sourcebook.sdk.process import PluginObject, call_plugin
from sourcebook.settings import Settings
from sourcebook.worker import JobRun
from sourcebook_dumper.fetchers import Fetchers, choose_fetcher
from sourcebook_dumper.fetchers.base import RemoteFile, tells_changes
from sourcebook_dumper.retry import Backoff, most_telling, retry

_VERSION_MAX = 200  # characters
_VALIDATORS = ("etag", "last-modified", "mdtm", "commit")
_FUNCTION_TIMEOUT = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class DumpPlan:
    """What a dump works from: the plugin's folder and manifest, and how patient it is."""

    folder: Path
    manifest: Manifest
    settings: Settings
    backoff: Backoff

    @property
    def urls(self) -> list[str]:
        """Where the files are."""
        return self.manifest.dumper.data_url


class Novelty(Enum):
    """Whether what a server has now is what the last dump has."""

    SAME = auto()
    MAYBE = auto()
    """Its validators changed, or there are none: the bytes have to be compared."""
    AGAIN = auto()
    """The same, but the manifest asks for other files of it, or for other names."""
    NEW = auto()


@dataclass(frozen=True, slots=True)
class News:
    """What there is to download.

    Args:
        base: the name of the version; two versions of one name are told apart by a number behind it.
        told: what the servers say of each file, in the order of the URLs.
    """

    base: str
    told: list[dict[str, str]]
    novelty: Novelty


async def find_news(run: JobRun, plan: DumpPlan, fetchers: Fetchers, last: Dump | None) -> News:
    """Compare what the plugin's function, or else every server, says now with what the last dump noted.

    The version is what the function says, else the date (else the tag) of the last file, else today.

    Raises:
        ParserError: the plugin's function raised or gave no version.
        DownloadRefused: a server does not give a file.
        DownloadInterrupted: it does not answer, after all retries.
    """
    if plan.manifest.dumper.release is not None:
        base = await _ask_plugin(plan, plan.manifest.dumper.release, last.version if last else None)
        told: list[dict[str, str]] = [{} for _ in plan.urls]
        if last is None or (last.base or last.version) != base:
            return News(base, told, Novelty.NEW)
        return News(base, told, Novelty.SAME if _is_same_recipe(plan, last) else Novelty.AGAIN)
    files = await _look_at_files(plan, fetchers)
    silent = [url for url, file in zip(plan.urls, files, strict=True) if not file.tells_changes]
    if silent:
        run.warn(_describe_silent(silent, dates=files[-1].version is None))
    base = _clean_version(files[-1].version or "") or dt.datetime.now(dt.UTC).date().isoformat()
    told = [{name: strip_controls(value) for name, value in file.told.items()} for file in files]
    if last is None or ((last.base or last.version) != base and files[-1].version is not None):
        return News(base, told, Novelty.NEW)
    if not _is_same_recipe(plan, last):
        return News(base, told, Novelty.AGAIN)
    is_changed = any(_differs(file, now) for file, now in zip(last.files, told, strict=True))
    return News(base, told, Novelty.MAYBE if is_changed or silent else Novelty.SAME)


def _describe_silent(urls: list[str], *, dates: bool) -> str:
    shown = hide_secrets(", ".join(urls[:3])) + (f" and {len(urls) - 3} more" if len(urls) > 3 else "")  # noqa: PLR2004
    version = " The version is today's date." if dates else ""
    return (
        f"The server gives neither a date nor an ETag for {shown}: each dump downloads all files again to compare them.{version} "
        "A function named as dumper.release in the manifest can tell the version."
    )


def _differs(file: DumpFile, now: Mapping[str, str]) -> bool:
    """Whether a server says something else of a file than at the last dump, or nothing that can be compared.

    A dump of Sourcebook 0.1.0 noted only what came with the file, whose length may be that of the compressed transfer.
    """
    before = file.told or {name: file.headers[name] for name in _VALIDATORS if name in file.headers}
    both = before.keys() & now.keys()
    is_other = any(now[name].removeprefix("W/") != before[name].removeprefix("W/") for name in both)
    return is_other or not tells_changes(both)


def make_recipe(manifest: Manifest) -> str:
    """Return what names all that the manifest says of which files a dump has, and under which names; no login is in it."""
    dumper = manifest.dumper
    urls = [_without_login(url) for url in dumper.data_url]
    said = [urls, dumper.file_names, dumper.uncompress, dumper.uncompress_into_folders]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _is_same_recipe(plan: DumpPlan, last: Dump) -> bool:
    if last.recipe:
        return last.recipe == make_recipe(plan.manifest)
    return [file.url for file in last.files] == [hide_secrets(url) for url in plan.urls]


def has_bytes_of(dump: Dump, files: Sequence[DumpFile]) -> bool:
    """Whether a dump has the same files, by name and hash."""
    return [(file.name, file.sha256) for file in dump.files] == [(file.name, file.sha256) for file in files]


def name_version(base: str, dumps: Iterable[Dump], files: Sequence[DumpFile] | None = None) -> str:
    """Return `base` for the first version of that name, with a number behind it for the next; the same for the same `files`.

    >>> name_version("2026-05-01", [])
    '2026-05-01'
    """
    same = [dump for dump in dumps if (dump.base or dump.version) == base]
    known = next((dump for dump in same if files is not None and has_bytes_of(dump, files)), None)
    if known is not None:
        return known.version
    numbers = [int(dump.version[len(base) + 1 :]) for dump in same if dump.version[len(base) + 1 :].isdecimal()]
    return f"{base}-{max(numbers, default=1) + 1}" if same else base


async def _look_at_files(plan: DumpPlan, fetchers: Fetchers) -> list[RemoteFile]:
    limits: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(plan.settings.downloads_per_host))

    async def look(url: str) -> RemoteFile:
        async with limits[urlsplit(url).netloc]:
            return await retry(lambda: choose_fetcher(fetchers, url).look(url), plan.backoff)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(look(url)) for url in plan.urls]
    except BaseExceptionGroup as errors:
        raise most_telling(errors) from errors
    return [task.result() for task in tasks]


def _clean_version(text: str) -> str:
    return strip_controls(text, "_").strip()[:_VERSION_MAX]


async def _ask_plugin(plan: DumpPlan, function: str, current: str | None) -> str:
    dumper = PluginObject(
        "Dumper",
        {
            "SRC_NAME": plan.manifest.name,
            "src_name": plan.manifest.name,
            "SRC_URLS": plan.urls,
            "data_urls": plan.urls,
            "UNCOMPRESS": plan.manifest.dumper.uncompress,
            "__metadata__": {"src_meta": plan.manifest.metadata},
            "current_release": current,
            "release": None,
        },
    )
    value = await call_plugin(
        plan.folder,
        function,
        args=[dumper],
        memory_bytes=plan.settings.parser_memory_bytes,
        timeout=_FUNCTION_TIMEOUT,
        or_attribute="release",
    )
    version = _clean_version(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if not version:
        raise ParserError(
            f"{function!r} of plugin {plan.folder.name!r} returned {value!r}; it must return the version, or set self.release, "
            "as a string that is not empty.",
            function=function,
        )
    return version
