"""What /metadata says of a build."""

from datetime import UTC, datetime
from typing import Any

from sourcebook.model.build import BuildConfig
from sourcebook.model.dump import Dump
from sourcebook.model.mapping import Properties
from sourcebook.model.upload import Upload

_SHOWN = ("url", "license", "license_url", "author", "description")


def describe_build(
    config: BuildConfig,
    sources: list[tuple[Upload, Dump | None]],
    *,
    total: int,
    version: str,
    mappings: dict[str, Properties],
) -> dict[str, Any]:
    """Return the `_meta` of a build: BioThings' keys (web-api.md, section 6), then the configuration's own.

    `_root_keys` (hidden, as every key that starts with `_`) says which source contributes which root key.
    """
    src: dict[str, Any] = {}
    root_keys: dict[str, list[str]] = {}
    for upload, dump in sources:
        entry = src.setdefault(upload.source, {"version": upload.release, "stats": {}})
        entry["stats"][upload.uploader] = upload.count
        entry |= {key: upload.metadata[key] for key in _SHOWN if upload.metadata.get(key)}
        if dump is not None:
            entry["download_date"] = _iso(dump.finished_at)
        entry["upload_date"] = _iso(upload.finished_at)
    for source, properties in mappings.items():
        for key in properties:
            root_keys.setdefault(key, []).append(source)
    return {
        "biothing_type": config.doc_type,
        "src": src,
        "stats": {"total": total},
        "build_version": version,
        "build_date": datetime.now(UTC).isoformat(),
        **config.meta,
        "_root_keys": root_keys,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
