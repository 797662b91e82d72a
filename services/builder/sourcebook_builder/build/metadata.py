"""What /metadata says of a build."""

from datetime import UTC, datetime
from typing import Any

from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.mappings.model import Mapping, compare_mappings, iterate_fields
from sourcebook.hub.sources.model import Dump, Upload

_SHOWN = ("url", "license", "license_url", "author", "description")


def describe_build(
    config: BuildConfig,
    sources: list[tuple[Upload, Dump | None]],
    *,
    total: int,
    version: str,
    mappings: dict[str, Mapping],
) -> dict[str, Any]:
    """Return the `_meta` of a build: BioThings' keys (docs/contracts/query-api.md, section 6), then the configuration's own.

    Hidden, as every key that starts with `_`: `_root_keys` says which source contributes which root key, `_unmapped` which fields
    of documents are not in the mapping, with the inferred type and the number of values.
    """
    src: dict[str, Any] = {}
    root_keys: dict[str, list[str]] = {}
    for upload, dump in sources:
        entry = src.setdefault(upload.source, {"version": upload.version, "stats": {}})
        entry["stats"][upload.uploader] = upload.count
        entry |= {key: upload.metadata[key] for key in _SHOWN if upload.metadata.get(key)}
        if dump is not None:
            entry["download_date"] = _iso(dump.finished_at)
        entry["upload_date"] = _iso(upload.finished_at)
    mapped = {field.path for mapping in mappings.values() for field in iterate_fields(mapping.committed or {})}
    unmapped: dict[str, dict[str, Any]] = {}
    for source, mapping in mappings.items():
        for key in mapping.committed or {}:
            root_keys.setdefault(key, []).append(source)
        for path, told in _find_unmapped(mapping).items():
            if path in mapped:  # by another source
                continue
            known = unmapped.setdefault(path, {**told, "values": 0})
            known["values"] += told["values"]
    return {
        "biothing_type": config.doc_type,
        "src": src,
        "stats": {"total": total},
        "build_version": version,
        "build_date": datetime.now(UTC).isoformat(),
        **config.meta,
        "_root_keys": root_keys,
        "_unmapped": unmapped,
    }


def _find_unmapped(mapping: Mapping) -> dict[str, dict[str, Any]]:
    types = {field.path: field.spec.get("type", "object") for field in iterate_fields(mapping.inferred)}
    missing = compare_mappings(mapping.committed or {}, mapping.inferred).added
    return {path: {"type": types[path], "values": mapping.counts.get(path, 0)} for path in missing}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
