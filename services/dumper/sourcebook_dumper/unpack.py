"""Unpacks archives beside themselves: never outside the folder, never over another file, never more than allowed."""

import contextlib
import errno
import filecmp
import os
import re
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from sourcebook.errors import DownloadInterrupted, DownloadRefused, UnsafeArchive
from sourcebook_dumper.archives import (
    BROKEN,
    CHUNK_BYTES,
    BlockReader,
    Packing,
    Readable,
    find_packing,
    is_cut,
    is_tar,
    is_whole,
    names_archive,
    open_archive,
    open_packed,
    strip_endings,
)
from sourcebook_dumper.progress import Count

_RATIO_COUNTS_FROM = 100 * 1024 * 1024  # small files may be as compressible as they like
_MAX_MEMBERS = 1_000_000
_MAX_DEPTH = 2  # an archive in an archive is unpacked too, one in that is not
_MAX_LINK_BYTES = 4096
_DRIVE = re.compile(r"[A-Za-z]:")
_NAME_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL}


class _Stopped(Exception):
    pass


@dataclass(slots=True)
class Unpacker:
    """Unpacks the archives of one folder. `unpack_all` blocks: call it in a thread.

    Args:
        folder: where the archives are and their members go.
        max_bytes: bound of what all archives together unpack to.
        max_ratio: bound of unpacked to packed size of each, beyond 100 MiB.
        count: is kept up to date.
        stop: ends the work early when set.
        into_folders: give each archive of several files a folder of its own, named after it.
    """

    folder: Path
    max_bytes: int
    max_ratio: int
    count: Count
    stop: threading.Event
    into_folders: bool = False
    warnings: list[str] = field(default_factory=list)
    _downloaded: set[Path] = field(default_factory=set)
    _origins: dict[Path, str] = field(default_factory=dict)
    _links: list[tuple[str, Path, Path, bool]] = field(default_factory=list)
    _members: int = 0
    _archive: Path = Path()
    _root: Path = Path()
    _packed: int = 0
    _unpacked: int = 0

    def unpack_all(self, names: Iterable[str]) -> list[str]:
        """Unpack those of the named files that are archives, by their first bytes; return the names of what came out.

        Raises:
            UnsafeArchive: a member would be written outside the folder or over another file, leads out as a link, is a
                device, or the bounds are exceeded. The message names the member.
            DownloadInterrupted: an archive ends early; it is removed, so that the next try downloads it again.
            DownloadRefused: an archive is broken.
        """
        self._downloaded = {self.folder / name for name in names}
        waiting = [(path, 1) for path in sorted(self._downloaded)]
        made: list[Path] = []
        while waiting and not self.stop.is_set():
            path, depth = waiting.pop(0)
            found = self._unpack(path, depth)
            made += found
            if depth < _MAX_DEPTH:
                waiting += [(member, depth + 1) for member in found]
        return [str(path.relative_to(self.folder)) for path in made]

    def _unpack(self, path: Path, depth: int) -> list[Path]:
        self._archive, self._packed, self._unpacked = path, path.stat().st_size, 0
        name = str(path.relative_to(self.folder))
        try:
            unpack = self._choose(path, depth)
            return unpack(path) if unpack else []
        except _Stopped:
            return []
        except EOFError as error:
            path.unlink(missing_ok=True)
            raise DownloadInterrupted(f"{name} ends early: {error or 'bytes are missing'}.", file=name) from error
        except BROKEN as error:
            raise self._broken(name, error) from error
        except OSError as error:
            if error.errno is None:  # gzip's and bz2's own: not a gzipped file, invalid data
                raise self._broken(name, error) from error
            raise
        finally:
            self._links.clear()

    @staticmethod
    def _broken(name: str, error: Exception) -> DownloadRefused:
        return DownloadRefused(
            f"{name} cannot be unpacked: {str(error).rstrip('.') or type(error).__name__}. Download it again (force), or look "
            "whether the server sends what its name says.",
            file=name,
        )

    def _choose(self, path: Path, depth: int) -> Callable[[Path], list[Path]] | None:
        """Return what unpacks a file, if it is an archive; one inside an archive has to say so by its name too."""
        if is_whole(path.name) or (depth > 1 and not names_archive(path.name)):
            return None
        packing = find_packing(path)
        if packing is None and path.suffix.lower() == ".zip":
            raise zipfile.BadZipFile("File is not a zip file")
        if is_tar(path, packing):
            return self.unpack_tar
        if packing is None:
            if names_archive(path.name) and path.stat().st_size:
                raise zipfile.BadZipFile(f"it is not a {path.suffix} file")
            return None
        return {Packing.ZIP: self.unpack_zip, Packing.SEVEN_ZIP: self.unpack_7z}.get(packing, self.unpack_single)

    def unpack_zip(self, path: Path) -> list[Path]:
        """Unpack a zip file."""
        made = []
        self._enter(path)
        with _open_zip(path) as archive:
            for member in archive.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
                    raise self._unsafe(member.filename, "is a device")
                target = self._target(member.filename)
                if kind == stat.S_IFLNK:
                    with archive.open(member) as source:
                        link = source.read(_MAX_LINK_BYTES).decode(errors="replace")
                    self._note_link(member.filename, target, link)
                elif not member.is_dir():
                    with archive.open(member) as source:
                        made.append(self._write(source, target, member.filename))
        return made + self._make_links()

    def unpack_7z(self, path: Path) -> list[Path]:
        """Unpack a 7z file."""
        if is_cut(path, self.stop):
            raise EOFError("the list of its members, which stands at the end, is not there")
        made = []
        self._enter(path)
        with open_archive(path, format_name="7zip") as archive:
            for member in archive:
                target = self._target(member.pathname)
                if member.issym:
                    self._note_link(member.pathname, target, member.linkpath or "")
                elif member.isfile:
                    made.append(self._write(BlockReader(member.get_blocks()), target, member.pathname))
                elif not member.isdir:
                    raise self._unsafe(member.pathname, "is a device")
        return made + self._make_links()

    def unpack_tar(self, path: Path) -> list[Path]:
        """Unpack a tar file, compressed or not. Of members with one name the last one counts, as with GNU tar."""
        made: dict[Path, None] = {}
        self._enter(path)
        packing = find_packing(path)
        with open_packed(path, packing) as packed, _open_tar(self._bound(packed), path) as archive:
            for member in archive:
                if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    raise self._unsafe(member.name, "is a device")
                target = self._target(member.name)
                source = archive.extractfile(member) if member.isreg() else None
                if source is not None:
                    made[self._write(cast("Readable", source), target, member.name, counted=True, again=True)] = None
                elif member.issym() or member.islnk():
                    self._note_link(member.name, target, member.linkname, from_root=member.islnk())
            while packed.read(CHUNK_BYTES):  # what follows the tar file's end; a packed one may be cut there
                pass
        return [*made, *self._make_links()]

    def _bound(self, source: Readable) -> IO[bytes]:
        return cast("IO[bytes]", _Bounded(source, self))  # `read` is all that a tar stream needs

    def unpack_single(self, path: Path) -> list[Path]:
        """Unpack a file that was compressed by itself; the ending is dropped."""
        self._root = self.folder
        target = self._target(strip_endings(str(path.relative_to(self.folder))))
        with open_packed(path, find_packing(path)) as source:
            return [self._write(source, target, target.name)]

    def _enter(self, path: Path) -> None:
        """Choose where the members of an archive go."""
        self._root = self.folder
        if self.into_folders:
            self._root = self.folder / strip_endings(str(path.relative_to(self.folder)))
            if self._root in self._downloaded:
                self._root = self._root.with_name(f"{self._root.name}.unpacked")

    def _target(self, member: str) -> Path:
        """Return where a member goes; a slash in front of its name is dropped, as tar and unzip do."""
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise self._unsafe(member, f"is one of more than {_MAX_MEMBERS} members")
        name = member.replace("\\", "/").lstrip("/")
        if member.startswith("\\") or "\x00" in name or _DRIVE.match(name) or ".." in name.split("/") or not member:
            raise self._unsafe(member, "leads out of the folder")
        target = self._root / name
        if target in self._downloaded:
            raise self._unsafe(member, "would be written over a downloaded file of that name")
        return target

    def _write(
        self, source: Readable, target: Path, member: str, *, counted: bool = False, again: bool = False
    ) -> Path:
        """Write a member; where another archive has made a file of that name, only if it is the same."""
        origin = str(self._archive.relative_to(self.folder))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            taken = target.exists() and not target.is_dir() and not (again and self._origins.get(target) == origin)
            place = target.with_name(f"{target.name}.{os.getpid()}.new") if taken else target
            with place.open("wb") as file:
                while chunk := source.read(CHUNK_BYTES):
                    if not counted:
                        self.spend(len(chunk))
                    file.write(chunk)
        except OSError as error:
            if error.errno in _NAME_ERRORS:
                raise self._unsafe(member, f"cannot be written: {error.strerror}") from error
            raise
        if taken:
            self._refuse_other(place, target, member)
        self._origins.setdefault(target, origin)
        return target

    def _refuse_other(self, place: Path, target: Path, member: str) -> None:
        if filecmp.cmp(place, target, shallow=False):
            place.unlink()
            return
        owner = self._origins.get(target, "another archive")
        name = str(self._archive.relative_to(self.folder))
        both = f"{name} and {owner} both have" if owner != name else f"{name} twice has"
        raise UnsafeArchive(
            f"{both} a member {member!r}, with different contents. Set dumper.uncompress_into_folders to true in the manifest: "
            "each archive then has a folder of its own. Nothing of this dump is used.",
            archive=name,
            other=owner,
            member=member,
        )

    # Links

    def _note_link(self, member: str, target: Path, link: str, *, from_root: bool = False) -> None:
        """Note a link for the end, when all files are there; one that leads out of the folder is refused.

        A hard link (`from_root`) names another member, a symbolic one a place beside itself.
        """
        start = self._root if from_root else target.parent
        aim = Path(os.path.normpath(start / (link.lstrip("/") if from_root else link)))
        if not aim.is_relative_to(self._root) or (link.startswith("/") and not from_root):
            raise self._unsafe(member, f"is a link out of the folder (to {link!r})")
        self._links.append((member, target, aim, from_root))

    def _make_links(self) -> list[Path]:
        """Make files of the links whose aim is a file of the archive; of others, warn. Links may lead to links."""
        made: list[Path] = []
        waiting, before = list(self._links), -1
        while waiting and len(waiting) != before:
            before = len(waiting)
            for item in waiting[:]:
                member, target, aim, _ = item
                if aim.is_file() and not aim.is_symlink():
                    self.spend(aim.stat().st_size)
                    with aim.open("rb") as source:
                        made.append(self._write(source, target, member, counted=True, again=True))
                    waiting.remove(item)
        for member, _, _, _ in waiting:
            self.warnings.append(
                f"{self._archive.name}: the link {member!r} leads to no file of the archive; it is left out."
            )
        return made

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


@contextlib.contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        # It begins like one (`find_packing`): the list of members at the end is not there.
        raise EOFError(str(error)) from error
    with archive:
        yield archive


@contextlib.contextmanager
def _open_tar(source: IO[bytes], path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar stream; one that ends in the middle ends early, other trouble is as tarfile says."""
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            yield archive
    except tarfile.ReadError as error:
        if "unexpected end of data" in str(error):
            raise EOFError(f"{path.name}: {error}") from error
        raise


class _Bounded:
    """What tarfile reads from: counts every byte, headers too, before tarfile keeps them."""

    def __init__(self, source: Readable, unpacker: Unpacker) -> None:
        self._source = source
        self._unpacker = unpacker

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._unpacker.spend(len(data))
        return data
