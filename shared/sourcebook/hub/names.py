"""Names: what they may contain, and each `build_*_name` beside its `parse_*_name`."""

import re
from typing import NamedTuple

from sourcebook.errors import InvalidName

# What BioThings accepts for a source, and safe in a URL, a file name, a collection and an index name. Dots may not lead.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_VERSION_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it may name a `kind` (source, uploader, build configuration, API).

    Raises:
        InvalidName: it is empty, too long (100), or has other characters than letters, digits, `_`, `-` and inner dots.
    """
    if not _NAME.match(name):
        raise InvalidName(
            f"{name!r} cannot name a {kind}: use 1 to 100 letters, digits, '_', '-' or '.', and no '.' in front.",
            kind=kind,
            name=name,
        )
    return name


def is_upload_id(name: str) -> bool:
    """Whether a name is the id of an upload (`hgnc/genes@0k3v9`); a build's name has neither sign."""
    return "/" in name and "@" in name


def build_version_folder_name(version: str, copy: int = 1) -> str:
    """Return the folder name of a downloaded version; `copy` > 1 for a forced second download of the same version."""
    safe = _VERSION_UNSAFE.sub("_", version).strip(".") or "_"
    return safe[:120] if copy == 1 else f"{safe[:120]}~{copy}"


class CollectionName(NamedTuple):
    """What a collection's name says: its kind (`upload` or `build`), what it is a collection of, and its generation."""

    kind: str
    owner: str
    generation: str


def build_collection_name(kind: str, owner: str, generation: str) -> str:
    """Return the name of a collection; `owner` is `source.uploader` or a build configuration.

    >>> build_collection_name("upload", "hgnc.hgnc", "0k3v9")
    'upload~hgnc.hgnc~0k3v9'
    """
    return f"{kind}~{owner}~{generation}"


def parse_collection_name(name: str) -> CollectionName:
    """Take a collection's name apart.

    Raises:
        InvalidName: it was not made by `build_collection_name`.
    """
    parts = name.split("~")
    if len(parts) != len(CollectionName._fields):
        raise InvalidName(f"{name!r} is not a collection name.", name=name)
    return CollectionName(*parts)


def build_part_collection_name(part: str) -> str:
    """Return the name of the collection that a part of a job makes, for the job to join.

    >>> build_part_collection_name("0k3v9.p1-a0b1c2d3")
    'part~0k3v9~p1-a0b1c2d3'
    """
    job, _, number = part.rpartition(".")
    return build_collection_name("part", job, number)


def build_part_files_key(part: str) -> str:
    """Return the key of the files that a part of a job makes."""
    return f"parts/{part}"


def build_upload_name(source: str, uploader: str) -> str:
    """Return the name of an upload in the state.

    >>> build_upload_name("hgnc", "genes")
    'hgnc/genes'
    """
    return f"{source}/{uploader}"


def parse_upload_name(name: str) -> tuple[str, str]:
    """Return source and uploader of an upload's name; a bare source stands for its default uploader.

    >>> parse_upload_name("hgnc")
    ('hgnc', 'hgnc')
    """
    source, _, uploader = name.partition("/")
    return source, uploader or source


def build_changes_key(new: str, old: str, *, ignore_list_order: bool = False) -> str:
    """Return the key of the files that say how build `new` differs from build `old`.

    >>> build_changes_key("genes_2", "genes_1")
    'changes/genes_2/genes_1'
    """
    return f"changes/{new}/{old}{'~unordered' if ignore_list_order else ''}"


def parse_changes_key(key: str) -> tuple[str, str]:
    """Return the new and the old build of a key that `build_changes_key` made."""
    _, new, old = key.split("/")
    return new, old.removesuffix("~unordered")


def build_upload_changes_key(source: str, uploader: str, generation: str) -> str:
    """Return the key of the files that say how an upload differs from the one before it."""
    return f"{build_upload_changes_prefix(source, uploader)}{generation}"


def build_upload_changes_prefix(source: str, uploader: str) -> str:
    """Return what the keys of all changes of an uploader begin with."""
    return f"changes/uploads/{source}/{uploader}/"
