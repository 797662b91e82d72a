"""Which fields are searched by a word without a field name: those that a mapping copies into the field `all`, and `_id`."""

import difflib
from collections.abc import Sequence

from sourcebook.errors import MappingError
from sourcebook.hub.mappings.model import Properties, iterate_fields
from sourcebook.language.requests import ALL_FIELD


def list_default_fields(properties: Properties) -> list[str]:
    """Return the fields of a mapping that are searched by default, sorted; `_id`, which always is, comes first."""
    copied = (entry.path for entry in iterate_fields(properties) if _is_copied(entry.spec.get("copy_to")))
    return ["_id", *sorted(copied)]


def choose_default_fields(properties: Properties, chosen: Sequence[str] | None) -> Properties:
    """Return a mapping in which only the chosen fields are searched by default; None leaves it as it is.

    Args:
        properties: the mapping of a build.
        chosen: dotted paths; an object stands for all fields in it.

    Raises:
        MappingError: there is no such field.
    """
    if chosen is None:
        return properties
    fields = [entry.path for entry in iterate_fields(properties)]
    for path in chosen:
        if path not in fields:
            near = difflib.get_close_matches(path, fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else "`sourcebook mapping show` lists those that there are."
            raise MappingError(
                f"search_by_default names {path!r}, which is not a field of the build's mapping; {hint}", field=path
            )
    return _choose(properties, "", frozenset(chosen), is_inside=False)


def _choose(properties: Properties, prefix: str, chosen: frozenset[str], *, is_inside: bool) -> Properties:
    result: Properties = {}
    for key, spec in properties.items():
        path = prefix + key
        is_chosen = is_inside or path in chosen
        result[key] = {option: value for option, value in spec.items() if option != "copy_to"}
        if "properties" in spec:
            result[key]["properties"] = _choose(spec["properties"], f"{path}.", chosen, is_inside=is_chosen)
        elif is_chosen and spec.get("type", "object") not in {"object", "nested"}:
            result[key]["copy_to"] = ALL_FIELD
    return result


def _is_copied(target: object) -> bool:
    return target == ALL_FIELD or (isinstance(target, list) and ALL_FIELD in target)
