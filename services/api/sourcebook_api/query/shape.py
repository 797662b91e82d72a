"""How the options of a request change one document: fields, licences, lists, nulls, jmespath, flattening. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jmespath
import orjson
from jmespath.exceptions import JMESPathError

from sourcebook_api.query.errors import invalid_jmespath
from sourcebook_api.query.fields import Selection, select_fields

_ID_HEAD = b'{"_id":'
_ID_HEAD_BYTES = len(_ID_HEAD)
ROW_KEYS = ("query", "notfound")
"""What the rows of a batch say of a document, besides keys that start with `_`; see `Shape.marks`."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A jmespath option: the object that holds the field, the field (empty: the object itself), the compiled expression."""

    parent: tuple[str, ...]
    field: str
    compiled: Any


@dataclass(frozen=True, slots=True)
class Shape:
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


def make_shape(options: Mapping[str, Any], licenses: Mapping[str, str], marks: tuple[bytes, ...] = ()) -> Shape:
    """Return the shape that the options ask for; `marks` as in `Shape`.

    Raises:
        QueryError: the jmespath expression cannot be compiled.
    """
    selection = select_fields(tuple(map(str, options["fields"]))) if options["fields"] else None
    return Shape(
        selection=None if selection is None or selection.keeps_everything else selection,
        licenses=licenses or None,
        marks=marks,
        always_list=tuple(map(str, options["always_list"] or ())),
        allow_null=tuple(map(str, options["allow_null"] or ())),
        expression=parse_expression(options["jmespath"]) if options["jmespath"] else None,
        exclude_empty=options["jmespath_exclude_empty"],
        dotfield=options["dotfield"],
        sort_keys=options["_sorted"],
    )


def parse_expression(text: str) -> Expression:
    """Take `field|expression` apart and compile it.

    Raises:
        QueryError: there is no `|`, or the expression is wrong.
    """
    path, bar, source = text.partition("|")
    if not bar:
        raise invalid_jmespath("Write field|expression; an empty field stands for the whole document.")
    parts = tuple(part for part in path.split(".") if part)
    try:
        compiled = jmespath.compile(source)
    except (JMESPathError, RecursionError) as error:
        raise invalid_jmespath(str(error) or "The expression is nested too deeply.") from error
    return Expression(parts[:-1], parts[-1] if parts else "", compiled)


def render_document(body: bytes, document_id: str, head: Mapping[str, Any], shape: Shape) -> bytes | None:
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
    document = shape_document(orjson.loads(body), shape)
    if document is None:
        return None
    for key in (*head, *ROW_KEYS) if "query" in head else head:
        document.pop(key, None)
    rest = orjson.dumps(document, option=orjson.OPT_SORT_KEYS if shape.sort_keys else None)
    return start + (b"}" if rest == b"{}" else b"," + rest[1:])


def _has_key(body: bytes, keys: Iterable[str]) -> bool:
    return any(b'"%s":' % key.encode() in body for key in keys if key[0] == "_" and key != "_id")


def mark_keys(keys: Iterable[str]) -> tuple[bytes, ...]:
    """Return what the JSON of a document with any of these keys has in it."""
    return tuple(orjson.dumps(name) + b":" for name in keys)


def shape_document(document: dict[str, Any], shape: Shape) -> dict[str, Any] | None:
    """Apply all options to a document, in the order of the contract; None if `jmespath_exclude_empty` drops it."""
    if shape.selection is not None:
        document = shape.selection.apply(document)
    for source, url in (shape.licenses or {}).items():
        for node in _objects(document.get(source)):
            node["_license"] = url
    for path in shape.allow_null:
        _add_null(document, path)
    for path in shape.always_list:
        _wrap_in_list(document, path)
    if shape.expression is not None:
        changed = _apply_expression(document, shape.expression, drop_empty=shape.exclude_empty)
        if changed is None:
            return None
        document = changed
    return _flatten(document, shape) if shape.dotfield else document


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _holders(document: dict[str, Any], parents: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the objects at a path, through lists."""
    if not parents:
        yield document
        return
    for node in _objects(document.get(parents[0])):
        yield from _holders(node, parents[1:])


def _add_null(document: dict[str, Any], path: str) -> None:
    *parents, key = path.split(".")
    for holder in _holders(document, tuple(parents)):
        holder.setdefault(key, None)


def _wrap_in_list(document: dict[str, Any], path: str) -> None:
    *parents, key = path.split(".")
    for holder in _holders(document, tuple(parents)):
        if key in holder and not isinstance(holder[key], list):
            holder[key] = [] if holder[key] is None else [holder[key]]


def _apply_expression(document: dict[str, Any], expression: Expression, *, drop_empty: bool) -> dict[str, Any] | None:
    found_any = False
    for holder in list(_holders(document, expression.parent)):
        value = holder.get(expression.field) if expression.field else holder
        if value is None:
            continue
        result = _evaluate(expression, value)
        found_any = found_any or bool(result) or result in (0, False)
        if expression.field:
            holder[expression.field] = result
        else:
            document = _replace_root(document, result)
    return document if found_any or not drop_empty else None


def _evaluate(expression: Expression, value: Any) -> Any:
    try:
        return expression.compiled.search(value)
    except (JMESPathError, RecursionError, ArithmeticError, ValueError, TypeError) as error:
        raise invalid_jmespath(str(error)) from error


def _replace_root(document: dict[str, Any], result: Any) -> dict[str, Any]:
    if result is None:
        result = {}
    if not isinstance(result, dict):
        raise invalid_jmespath("An expression for the whole document must give an object.")
    return {"_id": document.get("_id"), **result}


def _flatten(document: dict[str, Any], shape: Shape) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for path, value in _leaves(document, ""):
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
