"""Decides which release of a source is the newest, without downloading it."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from sourcebook.errors import ParserError
from sourcebook.sdk.manifest import Manifest
from sourcebook.sdk.process import PluginObject, call_plugin
from sourcebook.settings import Settings
from sourcebook.worker import JobRun
from sourcebook_dumper.fetchers import Fetchers, choose_fetcher
from sourcebook_dumper.fetchers.local import LocalFetcher
from sourcebook_dumper.retry import Backoff, retry

_FUNCTION_TIMEOUT = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a dump works from: the plugin's folder and manifest, and how patient it is."""

    folder: Path
    manifest: Manifest
    settings: Settings
    backoff: Backoff

    @property
    def urls(self) -> list[str]:
        """Where the files are."""
        return self.manifest.dumper.data_url


async def decide_release(run: JobRun, plan: Plan, fetchers: Fetchers, current: str | None) -> str:
    """Return the newest release: what the plugin's function says, else what the server says of the last file, else today.

    Raises:
        ParserError: the plugin's function raised or gave no release.
        DownloadRefused: the server does not give the last file.
        DownloadInterrupted: it does not answer, after all retries.
    """
    if plan.manifest.dumper.release is not None:
        return await _ask_plugin(plan, plan.manifest.dumper.release, current)
    url = plan.urls[-1]
    fetcher = choose_fetcher(fetchers, url)
    release = await retry(lambda: fetcher.release(url), plan.backoff)
    if release is None:
        release = dt.datetime.now(dt.UTC).date().isoformat()
        run.warn(
            f"The server tells neither date nor ETag of {url}: the release is today's date, so every day's first dump downloads "
            "again. A function named as dumper.release in the manifest can tell the release."
        )
    return release


async def is_edited(plan: Plan, fetchers: Fetchers, since: float) -> bool:
    """Whether a local file was written at or after `since` (seconds since 1970): a date cannot tell two edits of one day apart.

    A plugin that names its releases itself is believed.
    """
    if plan.manifest.dumper.release is not None:
        return False
    for url in plan.urls:
        fetcher = choose_fetcher(fetchers, url)
        if isinstance(fetcher, LocalFetcher) and await fetcher.modified_at(url) >= since:
            return True
    return False


async def _ask_plugin(plan: Plan, function: str, current: str | None) -> str:
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
    release = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if not release:
        raise ParserError(
            f"{function!r} of plugin {plan.folder.name!r} gave {value!r}; it must return the release, or set self.release, "
            "as a text that is not empty.",
            function=function,
        )
    return release
