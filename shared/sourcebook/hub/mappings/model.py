"""A mapping: which field has which type. Its properties are written as OpenSearch writes them."""

import difflib
import reprlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, model_validator

from sourcebook.errors import MappingError

Properties = dict[str, dict[str, Any]]
KEYWORD_NORMALIZER = "keyword_lowercase_normalizer"
EXACT = "keyword"
"""Name of the sub-field in which a text is one term, beside its words: what facets count and sorts sort by."""

# A field that saw both types gets the second: text beats keyword, float beats integer (docs/contracts/pipeline.md, section 4).
# Values of several kinds are written as strings, as within one source.
_WIDER = {
    ("integer", "long"): "long",
    ("integer", "float"): "float",
    ("long", "float"): "float",
    ("float", "double"): "double",
    ("integer", "double"): "double",
    ("long", "double"): "double",
    ("keyword", "text"): "text",
    **{
        (kind, string): string
        for kind in ("integer", "long", "float", "double", "boolean", "date")
        for string in ("keyword", "text")
    },
}


class Mapping(BaseModel):
    """The mapping of one upload: `inferred` at its last run, `committed` is what builds use.

    The committed one follows the inferred one until a person edits it.
    """

    name: str
    inferred: Properties = Field(default_factory=dict)
    committed: Properties | None = None
    edited: bool = False
    """Whether a person committed something else than what was inferred."""
    replaced: Properties | None = None
    """What a person had committed before `run` inferred the mapping again."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Documents (or list items) that have the field, by dotted path, at the last inference."""
    warnings: list[str] = Field(default_factory=list)
    from_plugin: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, data: Any) -> Any:
        # Records of older versions do not say it. What differs may be a person's: it stays.
        if not isinstance(data, dict) or "edited" in data:
            return data
        committed = data.get("committed")
        differs = committed is not None and committed != data.get("inferred", {})
        return {**data, "edited": differs and not data.get("from_plugin", False)}


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
            sources and the types. One where either mapping says so is stored only.
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
        elif _is_closed(known) or _is_closed(spec):
            target[key] = _copy_spec(known if _is_closed(known) else spec)
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
            f"Field {path!r} is {left} in {sources[0]} and {right} in {sources[1]}. Rename the field in a parser, or edit one of "
            'the two mappings (`sourcebook mapping edit`): {"type": "object", "enabled": false} has it stored and not indexed.',
            field=path,
            sources=list(sources),
            types=[left, right],
        )
    winner, other = (known, spec) if left == wider else (spec, known)
    return {**winner, **({"copy_to": other["copy_to"]} if "copy_to" in other else {})}


def _is_closed(spec: dict[str, Any]) -> bool:
    """Whether what is in a field is stored and not indexed, whatever it is."""
    return _is_object(spec) and spec.get("enabled") is False


def _type_name(spec: dict[str, Any]) -> str:
    return str(spec.get("type", "object"))


def _copy_spec(spec: dict[str, Any]) -> dict[str, Any]:
    copy = dict(spec)
    if "properties" in copy:
        copy["properties"] = {key: _copy_spec(inner) for key, inner in copy["properties"].items()}
    return copy


class MappingDifferences(BaseModel):
    """How an inferred mapping differs from a committed one, by dotted path.

    A committed type that also holds what was inferred (text for keyword, long for integer) is not a difference.
    """

    added: list[str] = Field(default_factory=list)
    """Fields that documents have and the committed mapping does not: they cannot be searched."""
    missing: list[str] = Field(default_factory=list)
    """Fields of the committed mapping that no document has."""
    changed: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """Committed and inferred type of fields that became something else."""

    @property
    def count(self) -> int:
        """The number of fields that differ."""
        return len(self.added) + len(self.missing) + len(self.changed)


def compare_mappings(committed: Properties, inferred: Properties) -> MappingDifferences:
    """Return how `inferred` differs from `committed`; what lies inside an object that is not enabled is not compared."""
    differences = MappingDifferences()
    _compare(committed, inferred, "", differences)
    return differences


def _compare(committed: Properties, inferred: Properties, prefix: str, differences: MappingDifferences) -> None:
    differences.added += [prefix + key for key in inferred if key not in committed]
    differences.missing += [prefix + key for key in committed if key not in inferred]
    for key, spec in inferred.items():
        known = committed.get(key)
        if known is None or _is_closed(known):
            continue
        left, right = _type_name(known), _type_name(spec)
        if _is_object(known) and _is_object(spec):
            _compare(known.get("properties", {}), spec.get("properties", {}), f"{prefix}{key}.", differences)
        elif left != right and _WIDER.get((right, left)) != left:
            differences.changed[prefix + key] = (left, right)


def add_new_fields(committed: Properties, inferred: Properties) -> Properties:
    """Return `committed` with the fields of `inferred` that it does not have; what it has stays as it is."""
    result = {key: _copy_spec(spec) for key, spec in committed.items()}
    for key, spec in inferred.items():
        known = result.get(key)
        if known is None:
            result[key] = _copy_spec(spec)
        elif "properties" in spec and _is_object(known) and known.get("enabled", True):
            known["properties"] = add_new_fields(known.get("properties", {}), spec["properties"])
    return result


def _is_object(spec: dict[str, Any]) -> bool:
    return _type_name(spec) in _OBJECT_TYPES


# What a person (or a plugin's `mapping` function) may write

NUMBER_TYPES = ("byte", "short", "integer", "long", "half_float", "float", "scaled_float", "double")
FIELD_TYPES = ("keyword", "text", *NUMBER_TYPES, "boolean", "date", "ip", "object", "nested")
_OBJECT_TYPES = ("object", "nested")
_OPTIONS = frozenset(
    (
        *("type", "properties", "index", "copy_to", "normalizer", "analyzer", "search_analyzer"),
        *("fields", "format", "ignore_above", "null_value", "doc_values", "store", "norms"),
        *("enabled", "dynamic", "coerce", "ignore_malformed", "index_options", "scaling_factor", "fielddata"),
    )
)
_BOOLEAN_OPTIONS = ("index", "doc_values", "store", "norms", "enabled", "coerce", "ignore_malformed")
_OLD_TYPES = {
    "string": "keyword or text",
    "str": "keyword or text",
    "int": "integer",
    "bool": "boolean",
    "datetime": "date",
}
_MAX_MAPPING_DEPTH = 100


def check_properties(properties: Any) -> Properties:
    """Return a copy of a mapping's properties that someone wrote, once every type and option in it is known.

    `copy_to: ["all"]` is written as `copy_to: "all"`; an object without `type` stays as it is.

    Raises:
        MappingError: a type, an option or its value is not allowed; the message names the field and what is.
    """
    return _check_fields(properties, "", 0)


def _check_fields(properties: Any, prefix: str, depth: int) -> Properties:
    if not isinstance(properties, dict):
        where = prefix.rstrip(".") or "The mapping"
        raise MappingError(
            f"{where}: properties must be an object of fields, not {reprlib.repr(properties)}.",
            field=prefix.rstrip("."),
        )
    if depth > _MAX_MAPPING_DEPTH:
        raise MappingError(f"Field {prefix[:100]!r}...: nested more than {_MAX_MAPPING_DEPTH} deep.", field=prefix)
    return {key: _check_field(key, spec, f"{prefix}{key}", depth) for key, spec in properties.items()}


def _check_field(key: Any, spec: Any, path: str, depth: int) -> dict[str, Any]:
    if not isinstance(key, str) or not key.strip() or path == "_id":
        raise MappingError(f"{path!r} cannot be a field of a mapping; `_id` is always indexed.", field=path)
    if not isinstance(spec, dict):
        raise MappingError(
            f'Field {path!r}: must be an object such as {{"type": "keyword"}}, not {reprlib.repr(spec)}.', field=path
        )
    for option in spec:
        if option not in _OPTIONS:
            near = difflib.get_close_matches(str(option), _OPTIONS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(_OPTIONS))}."
            raise MappingError(
                f"Field {path!r}: unknown option {option!r}; {hint}", field=path, allowed=sorted(_OPTIONS)
            )
    checked = {**spec, **_check_options(spec, path)}
    if "properties" in spec:
        checked["properties"] = _check_fields(spec["properties"], f"{path}.", depth + 1)
    return checked


def _check_options(spec: dict[str, Any], path: str) -> dict[str, Any]:
    kind = spec.get("type", "object" if "properties" in spec else None)
    if kind not in FIELD_TYPES:
        old = _OLD_TYPES.get(str(kind))
        hint = f"; write {old}" if old else ""
        what = "has no type" if kind is None else f"has the type {reprlib.repr(kind)}"
        raise MappingError(
            f"Field {path!r} {what}{hint}. Allowed are {', '.join(FIELD_TYPES)}.", field=path, allowed=list(FIELD_TYPES)
        )
    if "properties" in spec and kind not in _OBJECT_TYPES:
        raise MappingError(f"Field {path!r} is {kind}, so it cannot have properties; make it an object.", field=path)
    for option in _BOOLEAN_OPTIONS:
        if not isinstance(spec.get(option, True), bool):
            raise MappingError(
                f"Field {path!r}: {option} must be true or false, not {reprlib.repr(spec[option])}.",
                field=path,
                option=option,
            )
    if "copy_to" not in spec:
        return {}
    if spec["copy_to"] not in ("all", ["all"]):
        raise MappingError(f"Field {path!r}: copy_to must be 'all', not {reprlib.repr(spec['copy_to'])}.", field=path)
    return {"copy_to": "all"}
