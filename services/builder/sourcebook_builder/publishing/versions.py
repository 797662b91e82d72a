"""What an address says of itself: `versions.json` and `latest.json`, ours and those that BioThings publishes."""

import hashlib
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from sourcebook.errors import DamagedRelease, DownloadRefused, NotFound
from sourcebook.hub.publishing.model import LATEST_FILE, VERSIONS_FILE, Latest, PublishedVersion, PublishedVersions
from sourcebook_builder.publishing.address import OpenAddress, read_file

MAX_METADATA_BYTES = 64 * 1024 * 1024
_BIOTHINGS_FORMATS = ("1.0",)
ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_versions(address: OpenAddress) -> PublishedVersions | None:
    """Return what `versions.json` lists, or None if nothing was published there yet.

    Raises:
        DamagedRelease: the file cannot be understood.
        DownloadRefused: it is BioThings', whose releases cannot be installed; the message says why.
    """
    try:
        data = await read_file(address, VERSIONS_FILE, max_bytes=MAX_METADATA_BYTES)
    except NotFound:
        return None
    found = parse_json(data, address, VERSIONS_FILE)
    if found.get("format") in _BIOTHINGS_FORMATS:
        await refuse_biothings(address, found)
    return _validate(PublishedVersions, found, address, VERSIONS_FILE)


async def read_latest(address: OpenAddress) -> Latest | None:
    """Return what `latest.json` names, or None if no release is complete yet.

    Raises:
        DamagedRelease: the file cannot be understood.
    """
    try:
        data = await read_file(address, LATEST_FILE, max_bytes=MAX_METADATA_BYTES)
    except NotFound:
        return None
    return _validate(Latest, parse_json(data, address, LATEST_FILE), address, LATEST_FILE)


async def read_metadata(address: OpenAddress, version: PublishedVersion, kind: type[ModelT]) -> tuple[ModelT, bytes]:
    """Return the metadata of a release, checked against the checksum in `versions.json`, and the file itself.

    Raises:
        DamagedRelease: it is missing, another file, or cannot be understood.
    """
    try:
        data = await read_file(address, version.url, max_bytes=MAX_METADATA_BYTES)
    except NotFound as error:
        raise DamagedRelease(
            f"{address.shown}/{version.url} is missing, although {VERSIONS_FILE} lists it. Ask whoever published it to publish "
            "it again.",
            url=f"{address.shown}/{version.url}",
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != version.sha256:
        raise DamagedRelease(
            f"{address.shown}/{version.url} is damaged: expected sha256 {version.sha256}, found {found}.",
            url=f"{address.shown}/{version.url}",
            expected=version.sha256,
            found=found,
        )
    return _validate(kind, parse_json(data, address, version.url), address, version.url), data


def parse_json(data: bytes, address: OpenAddress, path: str) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        DamagedRelease: it is not one.
    """
    try:
        found = orjson.loads(data)
    except ValueError as error:
        raise DamagedRelease(f"{address.shown}/{path} is not JSON: {error}.", url=f"{address.shown}/{path}") from error
    if not isinstance(found, dict):
        raise DamagedRelease(f"{address.shown}/{path} holds no object.", url=f"{address.shown}/{path}")
    return found


def _validate(kind: type[ModelT], found: dict[str, Any], address: OpenAddress, path: str) -> ModelT:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DamagedRelease(
            f"{address.shown}/{path} cannot be understood: {place}: {first['msg']}.", url=f"{address.shown}/{path}"
        ) from error


# BioThings


async def refuse_biothings(address: OpenAddress, found: dict[str, Any]) -> None:
    """Say why none of the releases that BioThings' `versions.json` lists can be installed.

    A full one is a snapshot of an Elasticsearch index. The files of an incremental one are Python pickles: loading one runs
    whatever code is in it. Where the metadata can be read, the message names the files.

    Raises:
        DownloadRefused: always.
        DamagedRelease: the list cannot be understood.
    """
    versions = found.get("versions")
    if not isinstance(versions, list) or not all(isinstance(item, dict) for item in versions):
        raise DamagedRelease(f"{address.shown}/{VERSIONS_FILE} has no list of versions.", url=address.shown)
    listed = [
        {key: item.get(key) for key in ("build_version", "target_version", "require_version", "type")}
        for item in versions
    ]
    newest = listed[-1] if listed else {"build_version": "none", "type": "full"}
    pickles = await _list_pickles(address, newest) if newest["type"] == "incremental" else []
    if newest["type"] == "incremental":
        files = f" ({', '.join(pickles[:3])} ...)" if pickles else ""
        why = f"its files{files} are Python pickles, and loading a pickle runs the code that is in it"
    else:
        why = "it is a snapshot of an Elasticsearch index, which only Elasticsearch can restore"
    raise DownloadRefused(
        f"{address.shown} has {len(listed)} BioThings releases. The newest, {newest['build_version']} ({newest['type']}), "
        f"cannot be installed: {why}. Load the sources themselves, or ask for documents as JSON lines.",
        url=address.shown,
        versions=listed,
        refused=pickles,
    )


async def _list_pickles(address: OpenAddress, version: dict[str, Any]) -> list[str]:
    try:
        data = await read_file(address, f"{version['build_version']}.json", max_bytes=MAX_METADATA_BYTES)
        found = parse_json(data, address, "metadata")
    except (NotFound, DamagedRelease):
        return []
    diff = found.get("diff") or found.get("metadata", {}).get("diff") or {}
    files = diff.get("files") if isinstance(diff, dict) else None
    names = [str(item.get("name")) for item in files or [] if isinstance(item, dict)]
    return [name for name in names if name.endswith(".pyobj")]
