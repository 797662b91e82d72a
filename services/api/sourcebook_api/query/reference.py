"""The reference page of the query API's parameters, written from the table: `python -m sourcebook_api.query.reference`."""

import sys
from typing import Any

from sourcebook_api.query.params import PARAMETERS, Operation, Parameter

_PLACES: dict[Operation, str] = {
    "query_get": "GET /query",
    "query_post": "POST /query",
    "annotation_get": "GET /{type}/{id}",
    "annotation_post": "POST /{type}",
    "metadata": "/metadata",
    "fields": "/metadata/fields",
}
_HEAD = """# Parameters of the query API

Written from the parameter table by `python -m sourcebook_api.query.reference`; do not edit.

A parameter is looked up in the path, the query string, the form, and the JSON body, in this order. Unknown ones are ignored.

"""


def write_reference() -> str:
    """Return the page as Markdown."""
    rows = ["| name (also) | where | type | default | limit | effect |", "|---|---|---|---|---|---|"]
    rows += [_write_row(parameter) for parameter in PARAMETERS]
    return _HEAD + "\n".join(rows) + "\n"


def _write_row(parameter: Parameter) -> str:
    names = f"`{parameter.name}`" + (f" ({', '.join(parameter.aliases)})" if parameter.aliases else "")
    where = ", ".join(label for operation, label in _PLACES.items() if operation in parameter.where)
    kind = parameter.kind + (", required" if parameter.required else "")
    limit = ", ".join(parameter.allowed) or ("" if parameter.maximum is None else str(parameter.maximum))
    cells = (names, where, kind, _write_default(parameter.default), limit, parameter.effect.replace("|", "\\|"))
    return f"| {' | '.join(cells)} |"


def _write_default(default: Any) -> str:
    if default is None:
        return ""
    return ", ".join(default) if isinstance(default, tuple) else str(default).lower()


if __name__ == "__main__":
    sys.stdout.write(write_reference())
