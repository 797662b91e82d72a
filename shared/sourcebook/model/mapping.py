"""A mapping: which field has which type. Its properties are written as OpenSearch writes them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from sourcebook.errors import MappingError

Properties = dict[str, dict[str, Any]]
KEYWORD_NORMALIZER = "keyword_lowercase_normalizer"

# A field that saw both types gets the second: text beats keyword, float beats integer (pipeline.md, section 4).
_WIDER = {
    ("integer", "long"): "long",
    ("integer", "float"): "float",
    ("long", "float"): "float",
    ("float", "double"): "double",
    ("integer", "double"): "double",
    ("long", "double"): "double",
    ("keyword", "text"): "text",
    ("date", "keyword"): "keyword",
    ("date", "text"): "text",
}


class Mapping(BaseModel):
    """The mapping of one upload: `inferred` at its last run, `committed` is what builds use."""

    name: str
    inferred: Properties = Field(default_factory=dict)
    committed: Properties | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    """Documents (or list items) that have the field, by dotted path, at the last inference."""
    warnings: list[str] = Field(default_factory=list)
    from_plugin: bool = False


class FieldEntry(NamedTuple):
    """One field of a mapping: its dotted path, and what the mapping says of it (without its sub-properties)."""

    path: str
    spec: dict[str, Any]
    is_object: bool


def iterate_fields(properties: Properties, prefix: str = "") -> Iterator[FieldEntry]:
    """Yield every field of a mapping, objects before what they hold, in the mapping's order."""
    for key, spec in properties.items():
        path = prefix + key
        inner = spec.get("properties")
        yield FieldEntry(path, {k: v for k, v in spec.items() if k != "properties"}, inner is not None)
        if inner is not None:
            yield from iterate_fields(inner, path + ".")


def merge_properties(named: list[tuple[str, Properties]]) -> Properties:
    """Merge the mappings of several sources; where types differ but one holds the other, the wider one is taken.

    Args:
        named: name of the source and its properties, in the order of the build.

    Raises:
        MappingError: a field is an object here and a value there, or its types cannot be one; the message names the field, the
            sources and the types.
    """
    merged: Properties = {}
    origin: dict[str, str] = {}
    for name, properties in named:
        _merge_into(merged, properties, name, "", origin)
    return merged


def _merge_into(target: Properties, properties: Properties, name: str, prefix: str, origin: dict[str, str]) -> None:
    for key, spec in properties.items():
        path = prefix + key
        known = target.get(key)
        if known is None:
            target[key] = _copy_spec(spec)
            for field in iterate_fields({key: spec}, prefix):
                origin.setdefault(field.path, name)
        elif "properties" in known and "properties" in spec:
            _merge_into(known["properties"], spec["properties"], name, path + ".", origin)
        else:
            target[key] = _merge_leaf(known, spec, path, (origin[path], name))


def _merge_leaf(known: dict[str, Any], spec: dict[str, Any], path: str, sources: tuple[str, str]) -> dict[str, Any]:
    left, right = (_type_name(item) for item in (known, spec))
    if left == right:
        return {**spec, **known, **({"copy_to": "all"} if "copy_to" in known or "copy_to" in spec else {})}
    wider = _WIDER.get((left, right)) or _WIDER.get((right, left))
    if wider is None:
        raise MappingError(
            f"Field {path!r} is {left} in {sources[0]} and {right} in {sources[1]}. Edit one of the two mappings "
            f"(`sourcebook mapping edit`) or rename the field in a parser.",
            field=path,
            sources=list(sources),
            types=[left, right],
        )
    winner, other = (known, spec) if left == wider else (spec, known)
    return {**winner, **({"copy_to": other["copy_to"]} if "copy_to" in other else {})}


def _type_name(spec: dict[str, Any]) -> str:
    return str(spec.get("type", "object"))


def _copy_spec(spec: dict[str, Any]) -> dict[str, Any]:
    copy = dict(spec)
    if "properties" in copy:
        copy["properties"] = {key: _copy_spec(inner) for key, inner in copy["properties"].items()}
    return copy
