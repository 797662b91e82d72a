"""Files on the local disk: each key is a folder, filled aside and renamed into place.

<root>/archive/hgnc/2024-01-02/   a published folder
<root>/archive/hgnc/.keys         marks a folder that holds keys, and so is none itself
<root>/.staging/<key>/            a folder that is being filled
<root>/.trash/<random>/           what was deleted and is being removed
<root>/.guard                     locked while folders that hold keys come and go
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from sourcebook.errors import Conflict, InvalidName, NotFound, SettingsError
from sourcebook.ports.files import FileStore
from sourcebook.settings import Settings

_PART = re.compile(r"[A-Za-z0-9_+~][A-Za-z0-9_+~.-]{0,199}\Z")  # no separators, no leading dot
_KEYS_MARK = ".keys"
_GUARD = ".guard"


async def open_local_files(settings: Settings) -> FileStore:
    """Open the folder of `SOURCEBOOK_FILES_URL`: `file:` is HOME/files, `file:///data/files` another one.

    Raises:
        SettingsError: the URL names no folder of this machine.
    """
    url = urlsplit(settings.files_url)
    if url.netloc not in {"", "localhost"} or (url.path and not url.path.startswith("/")):
        raise SettingsError(
            f"SOURCEBOOK_FILES_URL={settings.files_url!r} must be file: or file:///folder.", setting="files_url"
        )
    root = Path(unquote(url.path)) if url.path else settings.home / "files"
    store = LocalFileStore(root)
    await asyncio.to_thread(store.prepare)
    return store


class LocalFileStore:
    """A FileStore in one folder; safe to use from several processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = root / ".staging"
        self._trash = root / ".trash"

    def prepare(self) -> None:
        """Make the root, and remove what a process that died was deleting."""
        self._root.mkdir(parents=True, exist_ok=True)
        (self._root / _KEYS_MARK).touch()
        self._trash.mkdir(parents=True, exist_ok=True)
        for leftover in self._trash.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)

    def staging_folder(self, key: str) -> Path:
        """Return where `key` is staged, whether it is or not."""
        return self._staging / check_key(key)

    async def staging(self, key: str) -> Path:
        folder = self.staging_folder(key)
        await asyncio.to_thread(self._make_staging, folder)
        return folder

    def _make_staging(self, folder: Path) -> None:
        with self._guarded():
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)  # whoever looks for what was abandoned sees that it is in use

    async def publish(self, key: str) -> None:
        await asyncio.to_thread(self._publish, check_key(key))

    def _publish(self, key: PurePosixPath) -> None:
        source, target = self._staging / key, self._root / key
        if target.exists():
            raise Conflict(f"Files are published under {str(key)!r} already.", key=str(key))
        if not source.is_dir():
            raise NotFound(f"Nothing is staged for {str(key)!r}.", key=str(key))
        _flush_folder(source)
        with self._guarded():
            for parent in reversed(key.parents[:-1]):
                self._make_parent(self._root / parent, key)
            try:
                source.rename(target)
            except OSError as error:
                if target.exists():
                    raise Conflict(f"Files are published under {str(key)!r} already.", key=str(key)) from error
                raise
            _flush(target.parent)
            self._remove_empty_staging(key)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keep folders that hold keys as they are, for all other processes."""
        with (self._root / _GUARD).open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def _make_parent(self, folder: Path, key: PurePosixPath) -> None:
        # The mark comes with the folder, in one step: without it, a half-made parent would look like published files.
        if not folder.exists():
            made = self._staging / f"parent-{uuid.uuid4().hex}"
            made.mkdir(parents=True)
            (made / _KEYS_MARK).touch()
            try:
                made.rename(folder)
                _flush(folder.parent)
            except OSError:  # another process was faster
                shutil.rmtree(made, ignore_errors=True)
        if not (folder / _KEYS_MARK).exists():
            raise Conflict(f"{str(key)!r} lies inside published files.", key=str(key))

    async def discard(self, key: str) -> None:
        await asyncio.to_thread(self._discard, check_key(key))

    def _discard(self, key: PurePosixPath) -> None:
        self._remove(self._staging / key)
        with self._guarded():
            self._remove_empty_staging(key)

    def _remove_empty_staging(self, key: PurePosixPath) -> None:
        with contextlib.suppress(OSError):  # one that is not empty, or is gone already
            for parent in key.parents[:-1]:
                (self._staging / parent).rmdir()

    async def local_folder(self, key: str) -> Path:
        folder = self._root / check_key(key)
        if not await asyncio.to_thread(_is_published, folder):
            raise NotFound(f"No files are published under {key!r}.", key=key)
        return folder

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(_is_published, self._root / check_key(key))

    async def keys(self, prefix: str) -> list[str]:
        folder = self._root / check_key(prefix.rstrip("/")) if prefix.rstrip("/") else self._root
        return await asyncio.to_thread(self._keys_below, folder)

    def _keys_below(self, folder: Path) -> list[str]:
        if not (folder / _KEYS_MARK).exists():
            return []
        return sorted(str(found.relative_to(self._root)) for found in _published_below(folder))

    async def delete(self, key: str) -> None:
        folder = self._root / check_key(key)
        if await asyncio.to_thread(_is_published, folder):
            await asyncio.to_thread(self._remove, folder)
            await asyncio.to_thread(self._remove_empty_parents, check_key(key))

    def _remove_empty_parents(self, key: PurePosixPath) -> None:
        """Remove the folders above a key that hold no keys any more."""
        with self._guarded():
            for parent in key.parents[:-1]:
                folder = self._root / parent
                if not folder.is_dir() or [path.name for path in folder.iterdir()] != [_KEYS_MARK]:
                    return
                self._remove(folder)

    async def abandoned(self, seconds: float) -> list[str]:
        return await asyncio.to_thread(self._find_abandoned, time.time() - seconds)

    def _find_abandoned(self, before: float) -> list[str]:
        return sorted(str(path.relative_to(self._staging)) for path in _old_folders(self._staging, before))

    def _remove(self, folder: Path) -> None:
        """Take a folder away in one step, then remove its files."""
        target = self._trash / uuid.uuid4().hex
        with contextlib.suppress(FileNotFoundError):
            folder.rename(target)
        shutil.rmtree(target, ignore_errors=True)


def _old_folders(folder: Path, before: float) -> Iterator[Path]:
    """Yield the uppermost folders below one in which nothing has changed since a time."""
    for child in _children(folder):
        if child.is_dir() and not child.is_symlink():
            if _changed_at(child) < before:
                yield child
            else:
                yield from _old_folders(child, before)


def _changed_at(path: Path) -> float:
    """Return when something in a folder has changed last; times of change, because unpacked files bring old times of writing."""
    times = [_changed_at(child) for child in _children(path)]
    with contextlib.suppress(FileNotFoundError):
        times.append(path.lstat().st_ctime)
    return max(times, default=time.time())


def _children(folder: Path) -> list[Path]:
    if folder.is_symlink():
        return []
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def check_key(key: str) -> PurePosixPath:
    """Return a key as a path.

    Raises:
        InvalidName: it has other characters than are allowed, or leads elsewhere.
    """
    if not key or not all(_PART.match(part) for part in key.split("/")):
        raise InvalidName(
            f"{key!r} cannot name files: use letters, digits and '_+~.-' between slashes, no leading dot.", key=key
        )
    return PurePosixPath(key)


def _is_published(folder: Path) -> bool:
    return folder.is_dir() and not (folder / _KEYS_MARK).exists()


def _published_below(folder: Path) -> Iterator[Path]:
    for child in _children(folder):
        if child.name.startswith(".") or not child.is_dir():
            continue
        if (child / _KEYS_MARK).exists():
            yield from _published_below(child)
        else:
            yield child


def _flush_folder(folder: Path) -> None:
    """Have the disk keep a folder with all its files, so that a power cut after `publish` loses none of them."""
    for path, _, names in os.walk(folder):
        for name in names:
            _flush(Path(path, name))
        _flush(Path(path))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
