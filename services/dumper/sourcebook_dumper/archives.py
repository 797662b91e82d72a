"""Which files are archives, by their first bytes and their names; and how packed bytes are read."""

import bz2
import contextlib
import gzip
import importlib
import lzma
import re
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol

import zstandard

from sourcebook.errors import DownloadRefused

CHUNK_BYTES = 1024 * 1024
_TAR_ENDING = re.compile(r"(?i)\.(?:tar(?:\.(?:gz|bz2|xz|zst|z))?|tgz|tbz2?|txz|tzst|taz)\Z")
_ZSTD_HEAD_BYTES = 18  # the longest header of a frame
_TAR_MARK, _TAR_MARK_AT = b"ustar", 257
# Formats of their own that are packed inside: who reads them wants them as they are.
_WHOLE_ENDINGS = re.compile(
    r"(?i)\.(xls[xm]|docx|pptx|od[tsp]|epub|jar|whl|npz|kmz|apk|bam|bcf|bai|csi|tbi|rds|rda|rdata|mmtf|pickle)\Z"
)
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


class Packing(StrEnum):
    """How a file is packed; a tar file may be packed besides."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"
    LZW = "compress (.Z)"
    ZIP = "zip"
    SEVEN_ZIP = "7z"


_MARKS: tuple[tuple[bytes, Packing], ...] = (
    (b"\x1f\x8b\x08", Packing.GZIP),
    (b"BZh", Packing.BZIP2),
    (b"\xfd7zXZ\x00", Packing.XZ),
    (b"\x28\xb5\x2f\xfd", Packing.ZSTD),
    (b"\x1f\x9d", Packing.LZW),
    (b"PK\x03\x04", Packing.ZIP),
    (b"PK\x05\x06", Packing.ZIP),
    (b"7z\xbc\xaf\x27\x1c", Packing.SEVEN_ZIP),
)
_ENDINGS = {
    ".gz": Packing.GZIP,
    ".tgz": Packing.GZIP,
    ".bgz": Packing.GZIP,
    ".bz2": Packing.BZIP2,
    ".tbz": Packing.BZIP2,
    ".tbz2": Packing.BZIP2,
    ".xz": Packing.XZ,
    ".txz": Packing.XZ,
    ".zst": Packing.ZSTD,
    ".tzst": Packing.ZSTD,
    ".z": Packing.LZW,
    ".taz": Packing.LZW,
    ".zip": Packing.ZIP,
    ".7z": Packing.SEVEN_ZIP,
}


def named_packing(name: str) -> Packing | None:
    """Return how a file is packed, by its ending."""
    return _ENDINGS.get(Path(name).suffix.lower())


def find_packing(path: Path) -> Packing | None:
    """Return how a file is packed, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((packing for mark, packing in _MARKS if start.startswith(mark)), None)


def is_whole(name: str) -> bool:
    """Whether a file is of a format of its own that is packed inside, as a spreadsheet is."""
    return _WHOLE_ENDINGS.search(name) is not None


def names_archive(name: str) -> bool:
    """Whether a file is an archive by its ending."""
    return named_packing(name) is not None or _TAR_ENDING.search(name) is not None


def is_tar(path: Path, packing: Packing | None) -> bool:
    """Whether a file, once unpacked, is a tar file: by its mark, or by its name (old tar files have no mark).

    Raises:
        OSError | BROKEN: it cannot be unpacked.
    """
    if packing in {Packing.ZIP, Packing.SEVEN_ZIP}:
        return False
    if _TAR_ENDING.search(path.name):
        return True
    with open_packed(path, packing) as file:
        return bool(file.read(512)[_TAR_MARK_AT:].startswith(_TAR_MARK))


def strip_endings(name: str) -> str:
    """Return the name of an archive without what says that it is one.

    >>> strip_endings("feeds/gtfs.tar.gz")
    'feeds/gtfs'
    """
    stripped = _TAR_ENDING.sub("", name)
    if stripped == name and named_packing(name) is not None:
        stripped = name[: -len(Path(name).suffix)]
    return stripped if stripped != name and stripped.rpartition("/")[2] else f"{name}.unpacked"


def _open_zstd(path: Path, _mode: str) -> IO[bytes]:
    reader: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(
        path.open("rb"), read_across_frames=True, closefd=True
    )
    return reader


_OPENERS: dict[Packing, Callable[[Path, str], Any]] = {
    Packing.GZIP: gzip.open,
    Packing.BZIP2: bz2.open,
    Packing.XZ: lzma.open,
    Packing.ZSTD: _open_zstd,
}


@contextlib.contextmanager
def open_packed(path: Path, packing: Packing | None) -> Iterator[Readable]:
    """Open a file that was packed by itself; one that was not is read as it is."""
    if packing is Packing.LZW:
        with open_archive(path, format_name="raw", filter_name="compress") as entries:
            for entry in entries:
                yield BlockReader(entry.get_blocks())
                return
    if packing is Packing.ZSTD and _is_cut_zstd(path):
        raise EOFError("the last frame has no end")
    opener = _OPENERS.get(packing, Path.open) if packing else Path.open
    with opener(path, "rb") as file:
        yield file


class BlockReader:
    """Reads what an iterator gives in blocks."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if not self._rest:
            self._rest = next(self._blocks, b"")
        end = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:end], self._rest[end:]
        return data


@contextlib.contextmanager
def open_archive(path: Path, **formats: str) -> Iterator[Any]:
    """Open what the system's libarchive reads; the entries are read one after the other.

    Raises:
        DownloadRefused: there is no libarchive, or it cannot read the file.
    """
    try:
        library: Any = importlib.import_module("libarchive")
    except (ImportError, OSError, AttributeError, TypeError) as error:  # the last two: of ctypes, without the library
        raise DownloadRefused(
            f"{path.name}: unpacking 7z and .Z files needs the system library libarchive: install it (Debian: libarchive13).",
            file=path.name,
        ) from error
    try:
        with library.file_reader(str(path), **formats) as entries:
            yield entries
    except library.ArchiveError as error:
        raise DownloadRefused(
            f"{path.name} cannot be unpacked: {error.msg or error}. Download it again (force), or look whether the server sends "
            "what its name says.",
            file=path.name,
        ) from error


# Cut files


def is_cut(path: Path, stop: threading.Event) -> bool:
    """Whether a packed file ends before its end; False for one that is not packed, or broken in another way.

    It is read to its end: ask only where nothing else tells that all bytes have arrived.
    """
    packing = find_packing(path)
    if packing is Packing.ZIP:
        return not zipfile.is_zipfile(path)
    if packing is Packing.SEVEN_ZIP:
        return _is_cut_7z(path)
    if packing is None or packing is Packing.LZW:  # .Z says nowhere where it ends
        return False
    try:
        with open_packed(path, packing) as file:
            while not stop.is_set() and file.read(CHUNK_BYTES):
                pass
    except EOFError:
        return True
    except (*BROKEN, OSError):
        return False
    return False


def _is_cut_zstd(path: Path) -> bool:
    """Whether the last frame has no end (RFC 8878, 3.1), where the library's reader stops without a word."""
    size = path.stat().st_size
    place = 0
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            head = file.read(_ZSTD_HEAD_BYTES)
            if head[1:4] == b"\x2a\x4d\x18":  # a frame to skip: its size stands behind its mark
                place += 8 + int.from_bytes(head[4:8], "little")
                continue
            try:
                place += zstandard.frame_header_size(head)
                has_checksum = zstandard.get_frame_parameters(head).has_checksum
            except zstandard.ZstdError:
                return len(head) < _ZSTD_HEAD_BYTES and place + len(head) >= size
            is_last = False
            while not is_last:
                file.seek(place)
                block = int.from_bytes(file.read(3), "little")
                is_last, is_one_byte = bool(block & 1) or place + 3 > size, (block >> 1) & 3 == 1
                place += 3 + (1 if is_one_byte else block >> 3)
            place += 4 if has_checksum else 0
    return place > size


def _is_cut_7z(path: Path) -> bool:
    """Whether the header at the end, which the one at the start announces, is not there."""
    with path.open("rb") as file:
        start = file.read(32)
    if len(start) < 32:  # noqa: PLR2004 - the size of the header
        return True
    offset, size = struct.unpack_from("<QQ", start, 12)
    return bool(path.stat().st_size < 32 + offset + size)
