"""Files of this machine (`file:///...`) and of the plugin itself (a relative path)."""

import datetime as dt
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ManifestError
from sourcebook_dumper.fetchers.base import Fetched, RemoteFile
from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count, run_in_thread

_CHUNK_BYTES = 1024 * 1024


class LocalFetcher:
    """Copies files."""

    def __init__(self, plugin_folder: Path) -> None:
        self._plugin_folder = plugin_folder

    async def look(self, url: str) -> RemoteFile:
        def read(_stop: threading.Event) -> RemoteFile:
            found = self._find(url).stat()
            day = dt.datetime.fromtimestamp(found.st_mtime, dt.UTC).date().isoformat()
            return RemoteFile(day, {"mtime": str(found.st_mtime_ns), "size": str(found.st_size)})

        return await run_in_thread(read)

    async def fetch(self, url: str, partial: PartialFile, count: Count) -> Fetched:
        def copy(stop: threading.Event) -> None:
            source = self._find(url)
            partial.begin(0, "")
            before = source.stat()
            count.done, count.total = 0, before.st_size
            with source.open("rb") as file:
                while not stop.is_set() and (chunk := file.read(_CHUNK_BYTES)):
                    partial.write(chunk)
                    count.done += len(chunk)
            after = source.stat()
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise DownloadInterrupted(f"{url}: was written to while it was copied.", url=url)

        await run_in_thread(copy)
        return Fetched()

    def _find(self, url: str) -> Path:
        path = self._path_of_url(url) if url.lower().startswith("file:") else self._path_in_plugin(url)
        if path.is_file():
            return path
        if path.exists():
            raise DownloadRefused(f"{url}: is a folder; name the files.", url=url)
        hint = "" if ":" in url else " A URL needs its scheme, such as https://, in front."
        raise DownloadRefused(f"{url}: there is no file {path}.{hint}", url=url, path=str(path))

    def _path_of_url(self, url: str) -> Path:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc not in {"", "localhost"} or not path.startswith("/") or "\x00" in path:
            raise ManifestError(
                f"dumper.data_url {url!r} must be file:///folder/name.", key="dumper.data_url", value=url
            )
        return Path(path)

    def _path_in_plugin(self, relative: str) -> Path:
        folder = self._plugin_folder.resolve()
        path = (folder / relative).resolve()
        if not path.is_relative_to(folder):
            raise ManifestError(
                f"dumper.data_url {relative!r} leads out of the plugin {folder}: put the file inside, or write file://{path}.",
                key="dumper.data_url",
                value=relative,
            )
        return path
