"""Makes an index look as one that an earlier version wrote."""

from pathlib import Path

import orjson

from sourcebook.backends.tantivy.index import FORMAT, MANIFEST_FILE


def make_outdated(home: Path, index: str, *, by: int = 1) -> None:
    """Give an index the number of an earlier format, or with `by` below zero of a later one."""
    path = home / "search" / index / MANIFEST_FILE
    manifest = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**manifest, "format": FORMAT - by}))
