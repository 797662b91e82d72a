"""Checksums of the files of the embedded engines, which never change once they are complete."""

from pathlib import Path

from pydantic import BaseModel
from xxhash import xxh3_128

_READ_BYTES = 1 << 18


class StoredFile(BaseModel):
    """What is known of a file that never changes."""

    name: str
    size: int
    checksum: str
    """XXH3 of all its bytes, 128 bits, hexadecimal."""


def describe_file(path: Path) -> StoredFile:
    """Read a file whole, and return what there is to say of it."""
    checksum, size = xxh3_128(), 0
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            checksum.update(view[:count])
            size += count
    return StoredFile(name=path.name, size=size, checksum=checksum.hexdigest())
