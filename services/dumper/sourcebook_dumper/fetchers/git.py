"""The files of a git repository (`git+https://host/owner/name.git@ref`), by the git program, as one tar file.

The newest commit alone is fetched, into a bare repository: nothing is checked out, so no hook, filter or submodule of it runs.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ManifestError
from sourcebook.logging import hide_secrets
from sourcebook.sdk.process import kill_group, plugin_environment, proxy_environment
from sourcebook_dumper.fetchers.base import Fetched, RemoteFile
from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count

_CHUNK_BYTES = 1024 * 1024
_WATCH_SECONDS = 0.2
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*\Z")  # no option, no refspec
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")
_SHORT_COMMIT = 12
_REFUSED = (
    "not found",
    "could not read Username",
    "Authentication failed",
    "couldn't find remote ref",
    "not our ref",
    "does not appear to be a git repository",
    "certificate",
    "returned error: 30",
    "returned error: 40",
    "unable to update url base from redirection",
)
# What the repository says of its own files must not change what is packed.
_ATTRIBUTES = "* -export-ignore -export-subst -filter -text -ident -working-tree-encoding\n"


@dataclass(frozen=True, slots=True)
class Repository:
    """What a URL says: where the repository is, which ref is wanted (empty: the default branch), and who asks."""

    address: str
    ref: str
    login: str


def parse_git_url(url: str) -> Repository:
    """Take a URL apart; the ref stands behind `@` or `#`.

    >>> parse_git_url("git+https://host/me/data.git@v1.2").ref
    'v1.2'

    Raises:
        ManifestError: the ref cannot be one.
    """
    parts = urlsplit(url)
    path, _, ref = parts.path.partition("@")
    ref = unquote(ref or parts.fragment)
    if (ref and not _REF.match(ref)) or not path.strip("/"):
        raise ManifestError(
            f"dumper.data_url {hide_secrets(url)!r} must be git+https://host/owner/name.git, and @branch, @tag or @commit behind "
            "it.",
            key="dumper.data_url",
        )
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    return Repository(f"{parts.scheme.removeprefix('git+')}://{host}{path}", ref, login)


class GitFetcher:
    """Fetches one commit.

    Args:
        timeout: the longest silence of the server.
        max_bytes: the bound of what is fetched, and of what is packed.
        protocols: what git may speak.
        follows: whether git follows redirects, to wherever they lead: we cannot look where that is.
    """

    def __init__(
        self, timeout: dt.timedelta, max_bytes: int, *, protocols: str = "https", follows: bool = False
    ) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._protocols = protocols
        self._follows = follows

    async def look(self, url: str) -> RemoteFile:
        commit = await self._find_commit(url)
        return RemoteFile(commit[:_SHORT_COMMIT], {"commit": commit})

    async def _find_commit(self, url: str) -> str:
        repository = parse_git_url(url)
        if _COMMIT.match(repository.ref):
            return repository.ref
        wanted = repository.ref or "HEAD"
        told = await self._git(url, "ls-remote", repository.address, wanted, f"{wanted}^{{}}")
        commits = {name: commit for commit, _, name in (line.partition("\t") for line in told.splitlines())}
        # Of an annotated tag, `^{}` is the commit; a branch goes before a tag of that name, as when it is fetched.
        for name in (f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted):
            if name in commits:
                return commits[name]
        raise DownloadRefused(
            f"{hide_secrets(url)}: the repository has no branch or tag {wanted!r}. Check dumper.data_url.",
            url=hide_secrets(url),
        )

    async def fetch(self, url: str, partial: PartialFile, count: Count) -> Fetched:
        repository = parse_git_url(url)
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=partial.path.parent, prefix=".git-"))
        try:
            await self._git(url, "init", "--quiet", "--bare", "--template=", str(folder))
            await asyncio.to_thread(_write_attributes, folder)
            ref = repository.ref or "HEAD"
            options = ("--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
            await self._git(url, "fetch", *options, repository.address, ref, folder=folder)
            commit = (await self._git(url, "rev-parse", "FETCH_HEAD^{commit}", folder=folder)).strip()
            await self._pack(url, folder, partial, count)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return Fetched({"commit": commit})

    async def _pack(self, url: str, folder: Path, partial: PartialFile, count: Count) -> None:
        await asyncio.to_thread(partial.begin, 0, "")
        async with self._running(url, "archive", "--format=tar", "FETCH_HEAD^{commit}", folder=folder) as process:
            if process.stdout is None:
                raise RuntimeError("git was started without a pipe")
            while chunk := await process.stdout.read(_CHUNK_BYTES):
                await asyncio.to_thread(partial.write, chunk)
                count.done = partial.size
                if partial.size > self._max_bytes:
                    raise self._too_large(url)
        count.total = partial.size

    async def _git(self, url: str, *arguments: str, folder: Path | None = None) -> str:
        """Run git to its end; return what it prints."""
        async with self._running(url, *arguments, folder=folder) as process:
            if process.stdout is None:
                raise RuntimeError("git was started without a pipe")
            reading = asyncio.ensure_future(process.stdout.read())
            try:
                while not reading.done():
                    await asyncio.wait({reading}, timeout=_WATCH_SECONDS)
                    if folder is not None and await asyncio.to_thread(_size_of, folder) > self._max_bytes:
                        raise self._too_large(url)
                return reading.result().decode(errors="replace")
            finally:
                reading.cancel()
                await asyncio.wait({reading})

    @asynccontextmanager
    async def _running(
        self, url: str, *arguments: str, folder: Path | None
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start git; when the body is left, it has ended well, or is killed with everything it started."""
        command = ["git", *([f"--git-dir={folder}"] if folder else []), *arguments]
        with tempfile.TemporaryFile() as said:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env=self._environment(parse_git_url(url)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=said,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise DownloadRefused(
                    f"{hide_secrets(url)}: needs the program git: install it.", url=hide_secrets(url)
                ) from error
            try:
                yield process
                status = await process.wait()
            finally:
                if process.returncode is None:
                    kill_group(process.pid)
                    # asyncio learns of the end only when the pipe is empty.
                    while process.stdout is not None and await process.stdout.read(_CHUNK_BYTES):
                        pass
                    await process.wait()
            if status:
                said.seek(0)
                raise _git_error(url, said.read().decode(errors="replace"))

    def _environment(self, repository: Repository) -> dict[str, str]:
        """Return an environment in which nothing of this machine's configuration counts, and which holds the login."""
        seconds = max(1, int(self._timeout.total_seconds()))
        config = {
            "http.lowSpeedLimit": "1",
            "http.lowSpeedTime": str(seconds),
            "http.followRedirects": "initial" if self._follows and not repository.login else "false",
            "core.hooksPath": os.devnull,
            "fetch.fsckObjects": "true",
            "gc.auto": "0",
        }
        if repository.login:  # not in the URL: other users of the machine see a program's arguments
            login = base64.b64encode(repository.login.encode()).decode()
            config[f"http.{repository.address}.extraHeader"] = f"Authorization: Basic {login}"
        kept = {**plugin_environment(), **proxy_environment()}
        numbered = {
            f"GIT_CONFIG_{part}_{number}": text
            for number, item in enumerate(config.items())
            for part, text in zip(("KEY", "VALUE"), item, strict=True)
        }
        fixed = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_COUNT": str(len(config)),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": self._protocols,
            "LC_ALL": "C",
        }
        return {**kept, **numbered, **fixed}

    def _too_large(self, url: str) -> DownloadRefused:
        return DownloadRefused(
            f"{hide_secrets(url)}: the repository is larger than {self._max_bytes} bytes; SOURCEBOOK_UNPACK_MAX_BYTES raises the "
            "bound.",
            url=hide_secrets(url),
        )


def _git_error(url: str, said: str) -> DownloadRefused | DownloadInterrupted:
    shown = hide_secrets(url)
    lines = (
        [line for line in said.splitlines() if line.startswith(("fatal:", "error:"))]
        or said.splitlines()
        or ["no reason"]
    )
    problem = hide_secrets(lines[0].removeprefix("fatal: ").removeprefix("error: ")).rstrip(".")
    if any(words in said for words in _REFUSED):
        return DownloadRefused(
            f"{shown}: git says: {problem}. Check dumper.data_url (the repository may have moved; redirects are not followed); a "
            "private repository needs user and token in the URL.",
            url=shown,
        )
    return DownloadInterrupted(f"{shown}: git says: {problem}.", url=shown)


def _write_attributes(folder: Path) -> None:
    (folder / "info").mkdir(exist_ok=True)
    (folder / "info" / "attributes").write_text(_ATTRIBUTES)


def _size_of(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(path, name).stat().st_size
    return total
