"""What is in a release: /metadata, /metadata/fields, /status (docs/contracts/query-api.md, section 6)."""

from datetime import UTC, datetime
from typing import Any

import orjson

from sourcebook.errors import EngineUnavailable
from sourcebook.hub.mappings.model import iterate_fields
from sourcebook.hub.releases.model import Release
from sourcebook.language.requests import ALL_FIELD
from sourcebook_api.query.answer import Answer, json_answer
from sourcebook_api.query.call import Call

_HIDDEN = frozenset({"properties", "normalizer", "dynamic", "copy_to", "enabled", "index", "type"})
_PROBED_ID = "status"  # whether there is such a document does not matter


async def get_status(call: Call) -> Answer:
    """Answer GET /status.

    Raises:
        EngineUnavailable: the index or the documents cannot be read.
        StoreDamaged: the documents are not what was written.
    """
    release = call.opened.release
    count = await call.context.search.count(release.index)
    if count is None and await call.find_new_index():
        count = await call.context.search.count(call.opened.release.index)
    info = await call.context.documents.info(release.collection)
    if count is None or info is None:
        raise EngineUnavailable(f"Release {release.name} cannot be read.", release=release.name)
    await call.get_many([_PROBED_ID])  # a damaged store has a record of its documents, and cannot be read
    return json_answer({"success": True, "status": "green"})


async def get_metadata(call: Call) -> Answer:
    """Answer GET /metadata."""
    options = await call.read_options("metadata")
    described = orjson.dumps(describe_release(call.opened.release), option=orjson.OPT_SORT_KEYS)
    return await call.answer(described, options)


def describe_release(release: Release) -> dict[str, Any]:
    """Return what people may know of a release; keys that start with `_` stay inside."""
    released_at = datetime.fromtimestamp(release.released_at, UTC).isoformat(timespec="seconds")
    data: dict[str, Any] = {
        "biothing_type": release.doc_type,
        "build_date": released_at,
        "build_version": release.name,
        "src": {},
        "stats": {"total": release.count},
        **release.metadata,
        "release": {"name": release.name, "type": release.kind, "released_at": released_at},
    }
    return {key: value for key, value in data.items() if not key.startswith("_")}


async def get_fields(call: Call) -> Answer:
    """Answer GET /metadata/fields."""
    options = await call.read_options("fields")
    fields = describe_fields(call.opened.release)
    wanted = {
        path: field
        for path, field in fields.items()
        if path.startswith(options["prefix"] or "") and (options["search"] or "") in path
    }
    return await call.answer(orjson.dumps(wanted), options)


def describe_fields(release: Release) -> dict[str, dict[str, Any]]:
    """Return every field of a release with its type; the field `all` is ours and left out.

    `ignored` is the number of documents with a value that does not fit and cannot be found, `unmapped_values` that of the values
    of a field that is not in the mapping.
    """
    contributors = _find_contributors(release)
    described: dict[str, dict[str, Any]] = {}
    for path, spec, is_object in iterate_fields(release.mapping):
        if path == ALL_FIELD:
            continue
        field = {key: value for key, value in spec.items() if key not in _HIDDEN and not isinstance(value, dict)}
        field["type"] = "object" if is_object else spec.get("type", "object")
        field["index"] = spec.get("index", spec.get("enabled", True))
        if ALL_FIELD in _as_list(spec.get("copy_to")):
            field["searched_by_default"] = True
        if count := _count_ignored(release, path, spec):
            field["ignored"] = count
        sources = contributors.get(path.partition(".")[0])
        if sources:
            field["source"] = ", ".join(sources)
        described[path] = {key: field[key] for key in sorted(field)}
    for path, told in (release.metadata.get("_unmapped") or {}).items():
        described.setdefault(path, {"index": False, "type": told["type"], "unmapped_values": told["values"]})
    return described


def _count_ignored(release: Release, path: str, spec: dict[str, Any]) -> int:
    """Return the number of documents with values of a field that are not indexed, or not in one of its sub-fields."""
    return max(
        release.ignored.get(name, 0) for name in (path, *(f"{path}.{inner}" for inner in spec.get("fields", {})))
    )


def _find_contributors(release: Release) -> dict[str, list[str]]:
    """Return which sources contribute each root field: the builder says so; without its word, the field of a source's name."""
    named = {name: [name] for name in release.metadata.get("src") or {}}
    return {**named, **(release.metadata.get("_root_keys") or {})}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
