"""Names the code that makes an upload's documents, so that people can be told when it has changed since."""

import hashlib
from pathlib import Path

from sourcebook.sdk.manifest import UploaderManifest


def digest_code(folder: Path, uploader: UploaderManifest) -> str:
    """Return a digest of a plugin's python files and of what the manifest says of one uploader. Blocks: call it in a thread.

    Modules that are installed elsewhere, and data files that the parser reads, do not count.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256(uploader.model_dump_json().encode())
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(folder)
        if any(part.startswith(".") for part in place.parts) or not path.is_file():
            continue
        digest.update(f"\0{place}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
