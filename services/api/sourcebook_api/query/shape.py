"""How the options of a request change one document: fields, licences, lists, nulls, jmespath, flattening. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sourcebook_api.query.budget import UNLIMITED, Budget
from sourcebook_api.query.errors import invalid_jmespath
from sourcebook_api.query.expression import Expression, evaluate, parse_expression
from sourcebook_api.query.fields import Selection, select_fields

_ID_HEAD = b'{"_id":'
_ID_HEAD_BYTES = len(_ID_HEAD)
ROW_KEYS = ("query", "notfound")
"""What the rows of a batch say of a document, besides keys that start with `_`; see `AnswerShape.marks`."""


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """Everything that changes a document on its way out."""

    selection: Selection | None = None
    licenses: Mapping[str, str] | None = None
    marks: tuple[bytes, ...] = ()
    """A document without any of these bytes has no object to license and no key of a batch's row, so it need not be decoded."""
    always_list: tuple[str, ...] = ()
    allow_null: tuple[str, ...] = ()
    expression: Expression | None = None
    exclude_empty: bool = False
    dotfield: bool = False
    sort_keys: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether stored bytes can go out as they are, licences aside."""
        return not (self.selection or self.always_list or self.allow_null or self.expression or self.dotfield)


def make_shape(options: Mapping[str, Any], licenses: Mapping[str, str], marks: tuple[bytes, ...] = ()) -> AnswerShape:
    """Return the shape that the options ask for; `marks` as in `AnswerShape`.

    Raises:
        QueryError: the jmespath expression cannot be compiled.
    """
    selection = select_fields(tuple(map(str, options["fields"]))) if options["fields"] else None
    return AnswerShape(
        selection=None if selection is None or selection.keeps_everything else selection,
        licenses=licenses or None,
        marks=marks,
        always_list=tuple(dict.fromkeys(map(str, options["always_list"] or ()))),
        allow_null=tuple(dict.fromkeys(map(str, options["allow_null"] or ()))),
        expression=parse_expression(options["jmespath"]) if options["jmespath"] else None,
        exclude_empty=options["jmespath_exclude_empty"],
        dotfield=options["dotfield"],
        sort_keys=options["_sorted"],
    )


def render_document(
    body: bytes, document_id: str, head: Mapping[str, Any], shape: AnswerShape, budget: Budget = UNLIMITED
) -> bytes | None:
    """Return the JSON of one document: `head` first (it holds `_id`), then the shaped rest; None if it is to be dropped.

    Stored bytes are only decoded if something changes them. A key that is in the head is the answer's: the document's own would
    make it stand there twice.
    """
    start = orjson.dumps(head)[:-1]
    if shape.is_plain and not any(mark in body for mark in shape.marks):
        id_end = _ID_HEAD_BYTES + len(orjson.dumps(document_id))
        # Keys are sorted: where the second begins with a lower-case letter, none is `_version` or another of ours.
        if body[id_end + 2 : id_end + 3] > b"_" or not _has_key(body, head):
            return start + body[id_end:]
    budget.check_time()
    document = shape_document(orjson.loads(body), shape, budget)
    if document is None:
        return None
    for key in (*head, *ROW_KEYS) if "query" in head else head:
        document.pop(key, None)
    rest = orjson.dumps(document, option=orjson.OPT_SORT_KEYS if shape.sort_keys else None)
    budget.spend("written", len(rest))
    return start + (b"}" if rest == b"{}" else b"," + rest[1:])


def _has_key(body: bytes, keys: Iterable[str]) -> bool:
    return any(b'"%s":' % key.encode() in body for key in keys if key[0] == "_" and key != "_id")


def mark_keys(keys: Iterable[str]) -> tuple[bytes, ...]:
    """Return what the JSON of a document with any of these keys has in it."""
    return tuple(orjson.dumps(name) + b":" for name in keys)


def shape_document(document: dict[str, Any], shape: AnswerShape, budget: Budget = UNLIMITED) -> dict[str, Any] | None:
    """Apply all options to a document, in the order of the contract; None if `jmespath_exclude_empty` drops it.

    Raises:
        QueryError: the jmespath expression cannot be applied, or the budget does not suffice.
    """
    if shape.selection is not None:
        document = shape.selection.apply(document)
    for source, url in (shape.licenses or {}).items():
        for node in _objects(document.get(source)):
            node["_license"] = url
    for path in shape.allow_null:
        budget.spend("built", len(path) * _add_null(document, path))
        budget.check_time()
    for path in shape.always_list:
        _wrap_in_list(document, path)
        budget.check_time()
    if shape.expression is not None:
        changed = _apply_expression(document, shape.expression, budget, drop_empty=shape.exclude_empty)
        if changed is None:
            return None
        document = changed
    return _flatten(document, shape, budget) if shape.dotfield else document


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _add_null(document: dict[str, Any], path: str) -> int:
    """Add null where a path leads and nothing is; return how many objects it leads to."""
    *parents, key = path.split(".")
    count = 0
    for holder in _holders(document, tuple(parents)):
        holder.setdefault(key, None)
        count += 1
    return count


def _holders(document: dict[str, Any], parents: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the objects at a path, through lists."""
    if not parents:
        yield document
        return
    for node in _objects(document.get(parents[0])):
        yield from _holders(node, parents[1:])


def _wrap_in_list(document: dict[str, Any], path: str) -> None:
    *parents, key = path.split(".")
    for holder in _holders(document, tuple(parents)):
        if key in holder and not isinstance(holder[key], list):
            holder[key] = [] if holder[key] is None else [holder[key]]


def _apply_expression(
    document: dict[str, Any], expression: Expression, budget: Budget, *, drop_empty: bool
) -> dict[str, Any] | None:
    found_any = False
    for holder in list(_holders(document, expression.parent)):
        value = holder.get(expression.field) if expression.field else holder
        if value is None:
            continue
        result = evaluate(expression, value, budget)
        found_any = found_any or bool(result) or result in (0, False)
        if expression.field:
            holder[expression.field] = result
        else:
            document = _replace_root(document, result)
    return document if found_any or not drop_empty else None


def _replace_root(document: dict[str, Any], result: Any) -> dict[str, Any]:
    if result is None:
        result = {}
    if not isinstance(result, dict):
        raise invalid_jmespath("An expression for the whole document must give an object.")
    return {"_id": document.get("_id"), **result}


def _flatten(document: dict[str, Any], shape: AnswerShape, budget: Budget) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for path, value in _leaves(document, ""):
        budget.spend("built", len(path))
        found.setdefault(path, []).append(value)
    lists = frozenset(shape.always_list)
    flat = {path: values[0] if len(values) == 1 and path not in lists else values for path, values in found.items()}
    for path in lists:
        if flat.get(path) == [None] or flat.get(path) == [[]]:
            flat[path] = []
    for path in shape.allow_null:
        flat.setdefault(path, [] if path in lists else None)
    return flat


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not path):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value
