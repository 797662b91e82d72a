"""One file for each kind of URL a file can come from; the one table scheme -> fetcher is here."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from sourcebook.errors import ManifestError
from sourcebook.logging import hide_secrets
from sourcebook.settings import Settings
from sourcebook_dumper.fetchers.base import Fetcher
from sourcebook_dumper.fetchers.ftp import FtpFetcher
from sourcebook_dumper.fetchers.git import GitFetcher
from sourcebook_dumper.fetchers.http import HttpFetcher, open_http_client
from sourcebook_dumper.fetchers.local import LocalFetcher
from sourcebook_dumper.fetchers.s3 import S3Fetcher

Fetchers = Mapping[str, Fetcher]


@asynccontextmanager
async def open_fetchers(settings: Settings, plugin_folder: Path, headers: Mapping[str, str]) -> AsyncIterator[Fetchers]:
    """Open what downloads the files of a plugin, by scheme; the empty scheme is a file inside the plugin.

    `headers` go with each request by http.
    """
    local = LocalFetcher(plugin_folder)
    async with open_http_client(settings, headers) as client:
        http = HttpFetcher(client)
        yield {
            "http": http,
            "https": http,
            "ftp": FtpFetcher(settings.download_timeout),
            "s3": S3Fetcher(settings.download_timeout),
            "git+https": GitFetcher(
                settings.download_timeout, settings.unpack_max_bytes, follows=settings.redirects_to_private
            ),
            "file": local,
            "": local,
        }


def choose_fetcher(fetchers: Fetchers, url: str) -> Fetcher:
    """Return the fetcher of a URL.

    Raises:
        ManifestError: there is none for its scheme; the message names those there are.
    """
    scheme = urlsplit(url).scheme
    if scheme not in fetchers:
        known = [f"{name}:" for name in fetchers if name]
        raise ManifestError(
            f"dumper.data_url {hide_secrets(url)!r}: the scheme {scheme!r} cannot be downloaded; known are {', '.join(known)} "
            "and a path inside the plugin.",
            key="dumper.data_url",
            value=hide_secrets(url),
            allowed=known,
        )
    return fetchers[scheme]
