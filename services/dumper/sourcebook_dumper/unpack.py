"""Unpacks archives beside themselves: never outside the folder, never more than allowed."""

import bz2
import errno
import gzip
import lzma
import re
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, cast

from sourcebook.errors import DownloadRefused, UnsafeArchive
from sourcebook_dumper.progress import Count

_CHUNK_BYTES = 1024 * 1024
_RATIO_COUNTS_FROM = 100 * 1024 * 1024  # small files may be as compressible as they like
_MAX_MEMBERS = 1_000_000
_MAX_DEPTH = 2  # an archive in an archive is unpacked too, one in that is not
_DRIVE = re.compile(r"[A-Za-z]:")
_TAR_ENDING = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)\Z", re.IGNORECASE)
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
_NAME_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL}


class _Stopped(Exception):
    pass


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(slots=True)
class Unpacker:
    """Unpacks the archives of one folder. `unpack_all` blocks: call it in a thread.

    Args:
        folder: where the archives are and their members go.
        max_bytes: bound of what all archives together unpack to.
        max_ratio: bound of unpacked to packed size of each, beyond 100 MiB.
        count: is kept up to date.
        stop: ends the work early when set.
    """

    folder: Path
    max_bytes: int
    max_ratio: int
    count: Count
    stop: threading.Event
    _downloaded: set[Path] = field(default_factory=set)
    _members: int = 0
    _archive: Path = Path()
    _packed: int = 0
    _unpacked: int = 0

    def unpack_all(self, names: Iterable[str]) -> list[str]:
        """Unpack those of the named files that are archives, by their ending; return the names of what came out.

        Raises:
            UnsafeArchive: a member would be written outside the folder or over a downloaded file, is a link or device, or
                the bounds are exceeded. The message names the member.
            DownloadRefused: an archive is broken.
        """
        self._downloaded = {self.folder / name for name in names}
        waiting = [(path, 1) for path in sorted(self._downloaded)]
        made: list[Path] = []
        while waiting and not self.stop.is_set():
            path, depth = waiting.pop(0)
            found = self._unpack(path)
            made += found
            if depth < _MAX_DEPTH:
                waiting += [(member, depth + 1) for member in found]
        return [str(path.relative_to(self.folder)) for path in made]

    def _unpack(self, path: Path) -> list[Path]:
        unpack = _unpacker_for(path.name)
        if unpack is None:
            return []
        self._archive, self._packed, self._unpacked = path, path.stat().st_size, 0
        name = str(path.relative_to(self.folder))
        try:
            return unpack(self, path)
        except _Stopped:
            return []
        except _BROKEN as error:
            raise DownloadRefused(
                f"{name} cannot be unpacked: {error or type(error).__name__}. Download it again (force), or look whether the "
                "server sends what its name says.",
                file=name,
            ) from error
        except OSError as error:
            if error.errno is None:  # gzip's and bz2's own: not a gzipped file, invalid data
                raise DownloadRefused(f"{name} cannot be unpacked: {error}.", file=name) from error
            raise

    def unpack_zip(self, path: Path) -> list[Path]:
        """Unpack a zip file."""
        made = []
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise self._unsafe(member.filename, "is a link or device")
                target = self._target(member.filename)
                if not member.is_dir():
                    with archive.open(member) as source:
                        made.append(self._write(source, target, member.filename))
        return made

    def unpack_tar(self, path: Path) -> list[Path]:
        """Unpack a tar file, compressed or not."""
        made = []
        with _open_packed(path) as packed, tarfile.open(fileobj=self._bound(packed), mode="r|") as archive:
            for member in archive:
                if not (member.isreg() or member.isdir()):
                    raise self._unsafe(member.name, "is a link or device")
                target = self._target(member.name)
                source = archive.extractfile(member) if member.isreg() else None
                if source is not None:
                    made.append(self._write(source, target, member.name, counted=True))
        return made

    def _bound(self, source: _Readable) -> IO[bytes]:
        return cast("IO[bytes]", _Bounded(source, self))  # `read` is all that a tar stream needs

    def unpack_single(self, path: Path) -> list[Path]:
        """Unpack a file that was compressed by itself; the ending is dropped."""
        target = self._target(str(path.relative_to(self.folder).with_suffix("")))
        with _open_packed(path) as source:
            return [self._write(source, target, target.name)]

    def _target(self, member: str) -> Path:
        """Return where a member goes."""
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise self._unsafe(member, f"is one of more than {_MAX_MEMBERS} members")
        name = member.replace("\\", "/")
        if not name or "\x00" in name or name.startswith("/") or _DRIVE.match(name) or ".." in name.split("/"):
            raise self._unsafe(member, "leads out of the folder")
        target = self.folder / name
        if target in self._downloaded:
            raise self._unsafe(member, "would be written over a downloaded file of that name")
        return target

    def _write(self, source: _Readable, target: Path, member: str, *, counted: bool = False) -> Path:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    if not counted:
                        self.spend(len(chunk))
                    file.write(chunk)
        except OSError as error:
            if error.errno in _NAME_ERRORS:
                raise self._unsafe(member, f"cannot be written: {error.strerror}") from error
            raise
        return target

    def spend(self, size: int) -> None:
        """Count unpacked bytes against the bounds."""
        if self.stop.is_set():
            raise _Stopped
        self.count.done += size
        self._unpacked += size
        name = self._archive.name
        if self.count.done > self.max_bytes:
            raise UnsafeArchive(
                f"{name} and the archives beside it unpack to more than {self.max_bytes} bytes; SOURCEBOOK_UNPACK_MAX_BYTES "
                "raises the bound.",
                archive=name,
            )
        if self._unpacked > max(_RATIO_COUNTS_FROM, self.max_ratio * self._packed):
            raise UnsafeArchive(
                f"{name} unpacks to more than {self.max_ratio} times its size, as a zip bomb does; SOURCEBOOK_UNPACK_MAX_RATIO "
                "raises the bound.",
                archive=name,
            )

    def _unsafe(self, member: str, why: str) -> UnsafeArchive:
        name = self._archive.name
        return UnsafeArchive(
            f"{name}: the member {member!r} {why}. Nothing of this dump is used.", archive=name, member=member
        )


def is_archive(name: str) -> bool:
    """Whether a file is unpacked, by its ending."""
    return _unpacker_for(name) is not None


def _unpacker_for(name: str) -> Callable[[Unpacker, Path], list[Path]] | None:
    if _TAR_ENDING.search(name):
        return Unpacker.unpack_tar
    ending = Path(name).suffix.lower()
    if ending == ".zip":
        return Unpacker.unpack_zip
    return Unpacker.unpack_single if ending in _OPENERS else None


_OPENERS: dict[str, Callable[[Path, str], Any]] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".bz2": bz2.open,
    ".tbz": bz2.open,
    ".tbz2": bz2.open,
    ".xz": lzma.open,
    ".txz": lzma.open,
}


def _open_packed(path: Path) -> IO[bytes]:
    opened: IO[bytes] = _OPENERS.get(path.suffix.lower(), open)(path, "rb")
    return opened


class _Bounded:
    """What tarfile reads from: counts every byte, headers too, before tarfile keeps them."""

    def __init__(self, source: _Readable, unpacker: Unpacker) -> None:
        self._source = source
        self._unpacker = unpacker

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._unpacker.spend(len(data))
        return data
