"""From a request to checked values: places, types and limits of parameters (docs/contracts/query-api.md, section 2)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import orjson

from sourcebook_api.query.errors import QueryError, missing, unreadable_body
from sourcebook_api.query.params import OPERATIONS, Operation, Parameter, parameters_of

_MAX_FIELDS = 2000  # of a query string or form: bounds what one request costs to read
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)\Z")
_TRUE = frozenset({"1", "true", "yes", "y", "t"})
# A quoted text, or anything up to the next separator.
_LIST_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s,+"][^\s,+]*)|"')
_EMPTY: Mapping[str, Any] = {}
_MAX_KEPT = 500  # bytes


@dataclass(frozen=True, slots=True)
class RequestValues:
    """What a request carries, by place; a parameter is looked up in this order."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


def read_query_string(raw: bytes) -> Mapping[str, str]:
    """Return the parameters of a query string; of a repeated one the last counts.

    Raises:
        QueryError: there are too many.
    """
    if not raw:
        return _EMPTY
    try:
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise QueryError(details=f"More than {_MAX_FIELDS} parameters.") from error


def read_body(content_type: str, body: bytes) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Return form values and JSON values of a body.

    Raises:
        QueryError: it is neither JSON nor a form.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body.strip():
        return _EMPTY, _EMPTY
    if kind == "application/x-www-form-urlencoded":
        return read_query_string(body), _EMPTY
    if kind == "multipart/form-data":
        return _read_multipart(content_type, body), _EMPTY
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise unreadable_body() from error
    return _EMPTY, values if isinstance(values, dict) else _EMPTY


def _read_multipart(content_type: str, body: bytes) -> dict[str, str]:
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body
    )
    values: dict[str, str] = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            values[name] = payload.decode("utf-8", "replace")
    return values


class Options(dict[str, Any]):
    """The value of every parameter of an operation; `given` names those that the request carries."""

    def __init__(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        super().__init__(values)
        self.given = given


def parse_parameters(operation: Operation, values: RequestValues) -> Options:
    """Return the value of every parameter of an operation, checked; defaults where nothing is given.

    Raises:
        QueryError: a parameter is missing, has the wrong type, is too large or not allowed.
    """
    table = _TABLES[operation]
    places = [place for place in (values.path, values.query, values.form, values.body) if place]
    found = dict(table.defaults)
    given = set()
    for name in {table.names[key]: None for place in places for key in place if key in table.names}:
        parameter = table.parameters[name]
        raw, place = _look_up(parameter, places)
        if raw is not None:
            found[name] = _check_limits(parameter, _convert(parameter, raw, in_query=place is values.query))
            given.add(name)
    for parameter in table.required:
        if found[parameter.name] is None:
            raise missing(parameter.name, parameter.alias)
    return Options(found, frozenset(given))


def parse_get(operation: Operation, path: Mapping[str, str], query_string: bytes) -> Options:
    """Return the values of a GET request's parameters; clients repeat themselves, so those of short query strings are kept.

    Raises:
        QueryError: as `parse_parameters`.
    """
    if len(query_string) > _MAX_KEPT:
        return parse_parameters(operation, RequestValues(path, read_query_string(query_string)))
    kept = _parse_kept(operation, query_string, "id" in path)
    return Options({**kept, "id": path["id"]}, kept.given) if "id" in path else kept


@lru_cache(maxsize=512)
def _parse_kept(operation: Operation, query_string: bytes, has_id: bool) -> Options:
    path = {"id": ""} if has_id else _EMPTY
    return parse_parameters(operation, RequestValues(path, read_query_string(query_string)))


class _Table:
    """The parameters of an operation, ready to be looked up: requests carry few of them."""

    def __init__(self, operation: Operation) -> None:
        parameters = parameters_of(operation)
        self.parameters = {item.name: item for item in parameters}
        self.names = {name: item.name for item in parameters for name in (item.name, *item.aliases)}
        self.defaults = {item.name: item.default for item in parameters}
        self.required = [item for item in parameters if item.required]


_TABLES: dict[Operation, _Table] = {operation: _Table(operation) for operation in OPERATIONS}


def _look_up(parameter: Parameter, places: list[Mapping[str, Any]]) -> tuple[Any, Mapping[str, Any]]:
    for place in places:
        for name in (parameter.name, *parameter.aliases):
            found = place.get(name)
            if found is not None:
                return found, place
    return None, _EMPTY


def _convert(parameter: Parameter, raw: Any, *, in_query: bool) -> Any:
    match parameter.kind:
        case "bool":
            value: Any = _to_bool(raw, empty_is_true=in_query)
        case "int":
            value = _to_int(raw)
        case "list":
            value = _to_list(raw, grouped=parameter.grouped)
            if not all(_is_item(item, compound=parameter.compound) for item in value or ()):
                raise _refusal(parameter, reason="Expect type list of str, int or float.")
        case _:
            value = _to_text(raw)
    if value is None:
        raise _refusal(parameter, reason=f"Expect type {parameter.kind}.")
    return value


def _refusal(parameter: Parameter, **data: Any) -> QueryError:
    return QueryError(**data, keyword=parameter.name, **({"alias": parameter.alias} if parameter.alias else {}))


def _check_limits(parameter: Parameter, value: Any) -> Any:
    if parameter.allowed and value not in parameter.allowed:
        raise QueryError(keyword=parameter.name, allowed=list(parameter.allowed))
    if parameter.required and not value and parameter.kind == "list":
        raise missing(parameter.name, parameter.alias)
    alias: dict[str, Any] = {"alias": parameter.alias} if parameter.alias else {}
    number, measure = (len(value), "size") if parameter.kind == "list" else (value, "num")
    if parameter.maximum is not None and number > parameter.maximum:
        raise QueryError(keyword=parameter.name, max=parameter.maximum, **{measure: number, **alias})
    if parameter.kind == "int" and value < 0:
        raise QueryError(keyword=parameter.name, min=0, num=value, **alias)
    return value


def _to_bool(raw: Any, *, empty_is_true: bool) -> bool | None:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, int | float):
        return raw > 0
    if not isinstance(raw, str):
        return None
    text = raw.strip().lower()
    if not text:
        return empty_is_true
    return float(text) > 0 if _NUMBER.match(text) else text in _TRUE


def _to_int(raw: Any) -> int | None:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and _INTEGER.match(raw.strip()):
        return int(raw)
    return None


def _to_text(raw: Any) -> str | None:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return str(raw)
    return None


def _to_list(raw: Any, *, grouped: bool) -> list[Any] | None:
    if isinstance(raw, str):
        return split_grouped(raw) if grouped else split_list(raw)
    if isinstance(raw, list):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return [raw]
    return None


def _is_item(value: Any, *, compound: bool) -> bool:
    if compound and isinstance(value, list):
        return all(_is_item(part, compound=False) for part in value)
    return isinstance(value, str | int | float)


def split_list(text: str) -> list[str]:
    """Split at commas, white space and `+`; what stands in double quotes stays together.

    >>> split_list('1017, "cyclin dependent"+CDK2')
    ['1017', 'cyclin dependent', 'CDK2']
    """
    items: list[str] = []
    for match in _LIST_ITEM.finditer(text):
        quoted, plain = match.groups()
        item = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        if item:
            items.append(item)
    return items


def split_grouped(text: str) -> list[str]:
    """Split at commas, white space and `+` that are not inside parentheses.

    >>> split_grouped("a(b,c), d")
    ['a(b,c)', 'd']
    """
    items, current, depth = [], "", 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth <= 0 and (character in ",+" or character.isspace()):
            items.append(current)
            current = ""
        else:
            current += character
    return [item for item in (*items, current) if item]
