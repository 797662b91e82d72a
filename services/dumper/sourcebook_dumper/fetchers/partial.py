"""A file that is being downloaded: `.<name>.part`, and beside it a note that lets a later try resume it."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import IO, NamedTuple, Self

_CHUNK_BYTES = 1024 * 1024


class Kept(NamedTuple):
    """What an earlier try left: how many bytes, what names their version, and the size of the whole file if it is known."""

    size: int = 0
    validator: str = ""
    total: int | None = None


class PartialFile:
    """Bytes on their way into a file. All methods block; call them in a thread.

    The note holds the url, the server's validator of the content (an ETag, a date) and the size of the whole: only if all
    still hold, what was written before is kept.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")  # no file of a dump has a name with a dot in front
        self.note = target.with_name(f".{target.name}.part.json")
        self._url = url
        self._file: IO[bytes] | None = None
        self._sha256 = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def resume_point(self) -> Kept:
        """Return what an earlier try has left; nothing when it must start from scratch."""
        try:
            noted = json.loads(self.note.read_text())
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return Kept()
        if not size or noted.get("url") != self._url:
            return Kept()
        return Kept(size, noted["validator"], noted.get("total"))

    def begin(self, offset: int, validator: str, total: int | None = None) -> None:
        """Open the file behind its first `offset` bytes; without a validator, nobody will resume it."""
        self.close()
        self._sha256 = hashlib.sha256()
        self.size = offset
        if offset:
            self._hash_kept(offset)
        self._file = self.path.open("r+b" if offset else "wb")
        self._file.seek(offset)
        self._file.truncate()
        if validator:
            self.note.write_text(json.dumps({"url": self._url, "validator": validator, "total": total}))
        else:
            self.note.unlink(missing_ok=True)

    def _hash_kept(self, offset: int) -> None:
        with self.path.open("rb") as file:
            while offset and (chunk := file.read(min(offset, _CHUNK_BYTES))):
                self._sha256.update(chunk)
                offset -= len(chunk)

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        if self._file is None:
            raise RuntimeError("begin was not called")
        self._file.write(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)

    def close(self) -> None:
        """Close the file; what was written stays for a later try."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def forget(self) -> None:
        """Remove what was written: the next try starts from scratch."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far."""
        return self._sha256.hexdigest()
