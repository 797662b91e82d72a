"""The OpenAPI 3.1 document of one API: its routes, the parameter table, and the fields of the release it serves. Pure."""

from typing import Any
from urllib.parse import unquote_plus

from sourcebook.hub.documents.record import say_documents
from sourcebook.hub.mappings.model import Properties
from sourcebook.hub.releases.model import Release
from sourcebook_api.query.encode import MEDIA_TYPES
from sourcebook_api.query.examples import Examples
from sourcebook_api.query.params import Operation, Parameter, parameters_of

_JSON_TYPES = {
    "integer": "integer",
    "long": "integer",
    "short": "integer",
    "byte": "integer",
    "float": "number",
    "double": "number",
    "half_float": "number",
    "boolean": "boolean",
}
_RAW = {"$ref": "#/components/schemas/Raw"}
_ERROR = {"$ref": "#/components/schemas/Error"}
_ANY_OBJECT = {"type": "object"}


def describe_api(release: Release, *, api: str, server: str, examples: Examples) -> dict[str, Any]:
    """Return the OpenAPI document of an API.

    Args:
        release: what it serves.
        api: its name.
        server: the path that it is mounted at, empty for the root.
        examples: requests that work on this release.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{api} API",
            "version": release.name,
            "description": _describe_release(release, server, examples),
        },
        "servers": [{"url": server or "/"}],
        "tags": [
            {"name": "annotation", "description": "Documents by id."},
            {"name": "query", "description": "Search."},
            {"name": "metadata", "description": "What this release holds."},
        ],
        "paths": _describe_paths(release.doc_type, examples),
        "components": {"schemas": _describe_schemas(release.mapping)},
    }


_DESCRIPTION = """{documents} of type `{kind}`.

Parameters may stand in the query string, and for POST in a form or a JSON body as well; unknown ones are ignored. Every path
also answers under `/v1`. A list is written with commas; POST bodies may hold real lists. Errors are JSON:
`{{"code": 400, "success": false, "error": "Bad Request", ...}}`.

Try:

{links}
"""


def _describe_release(release: Release, server: str, examples: Examples) -> str:
    shown = ((title, unquote_plus(path), f"{server}{path}") for title, path in examples.requests)
    links = "\n".join(f"- {title}: [`{text}`]({link})" for title, text, link in shown)
    return _DESCRIPTION.format(documents=say_documents(release.count), kind=release.doc_type, links=links)


def _describe_paths(doc_type: str, examples: Examples) -> dict[str, Any]:
    by_id = _operation("annotation_get", "annotation", f"Get one {doc_type}", _DOCUMENT_OR_LIST, missing=True)
    if examples.document_id is not None:
        by_id["parameters"][0]["example"] = examples.document_id
    many = _operation("annotation_post", "annotation", f"Get many {doc_type}s", _rows("Row"))
    many["requestBody"] = _describe_body("annotation_post", examples.batch_of_ids)
    search_many = _operation("query_post", "query", "Search for many terms", _BATCH)
    search_many["requestBody"] = _describe_body("query_post", examples.batch_of_terms)
    paths: dict[str, Any] = {
        f"/{doc_type}/{{id}}": {"get": by_id},
        f"/{doc_type}": {"post": many},
        "/query": {
            "get": _operation("query_get", "query", "Search", {"$ref": "#/components/schemas/Result"}),
            "post": search_many,
        },
        "/metadata": {"get": _operation("metadata", "metadata", "What is in this release", _ANY_OBJECT)},
        "/metadata/fields": {"get": _operation("fields", "metadata", "Every field with its type", _ANY_OBJECT)},
        "/status": {"get": {**_plain("Whether this API can answer", "status"), "tags": ["metadata"]}},
        "/spec": {"get": {**_plain("This document", "spec"), "tags": ["metadata"]}},
    }
    return paths


def _operation(
    operation: Operation, tag: str, summary: str, schema: dict[str, Any], *, missing: bool = False
) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation, "tags": [tag], "summary": summary}
    if not operation.endswith("_post"):
        described["parameters"] = [_describe_parameter(item) for item in parameters_of(operation)]
    content: dict[str, Any] = {media.partition(";")[0]: {} for media in MEDIA_TYPES.values()}
    responses: dict[str, Any] = {
        "200": {
            "description": "The answer.",
            "content": {**content, "application/json": {"schema": {"anyOf": [schema, _RAW]}}},
        },
        "304": {"description": "Unchanged since the ETag of If-None-Match."},
        "400": _error("A parameter is wrong; the body says which and why."),
        "503": _error("The search engine is not there, or the query took too long."),
    }
    if operation.endswith("_post"):
        del responses["304"]
        responses["413"] = _error("The body is too large.")
    if missing:
        responses["404"] = _error("There is no such document.")
    described["responses"] = dict(sorted(responses.items()))
    return described


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ERROR}}}


def _plain(summary: str, name: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ANY_OBJECT}}
    responses = {"200": {"description": "The answer.", "content": content}, "503": _error("It cannot answer now.")}
    if name == "spec":
        responses["304"] = {"description": "Unchanged since the ETag of If-None-Match."}
    return {"operationId": name, "summary": summary, "responses": dict(sorted(responses.items()))}


def _describe_parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": "path" if parameter.name == "id" else "query",
        "description": _describe_effect(parameter),
        "schema": parameter_schema(parameter),
    }
    if parameter.required:
        described["required"] = True
    if parameter.kind == "list":
        described |= {"style": "form", "explode": False}
    if parameter.example is not None:
        described["example"] = [parameter.example] if parameter.kind == "list" else parameter.example
    return described


def _describe_effect(parameter: Parameter) -> str:
    if not parameter.aliases:
        return parameter.effect
    return f"{parameter.effect} (also: {', '.join(f'`{alias}`' for alias in parameter.aliases)})"


def parameter_schema(parameter: Parameter) -> dict[str, Any]:
    """Return the JSON Schema of a parameter."""
    match parameter.kind:
        case "int":
            schema: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": parameter.maximum}
        case "bool":
            schema = {"type": "boolean"}
        case "list":
            schema = {"type": "array", "items": {"type": "string"}, "maxItems": parameter.maximum}
            if parameter.required:
                schema["minItems"] = 1
        case _:
            schema = {"type": "string"}
    if parameter.allowed:
        schema["enum"] = list(parameter.allowed)
    if parameter.default is not None:
        schema["default"] = list(parameter.default) if parameter.kind == "list" else parameter.default
    return schema


def _describe_body(operation: Operation, example: dict[str, Any]) -> dict[str, Any]:
    parameters = parameters_of(operation)
    properties = {}
    for parameter in parameters:
        # Bodies name the batch as clients do: ids.
        name = parameter.aliases[0] if parameter.name == "id" else parameter.name
        properties[name] = {**parameter_schema(parameter), "description": _describe_effect(parameter)}
    required = ["ids" if item.name == "id" else item.name for item in parameters if item.required]
    schema = {"type": "object", "properties": properties, "required": required}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": schema, "example": example},
            "application/x-www-form-urlencoded": {"schema": schema},
        },
    }


_DOCUMENT = {"$ref": "#/components/schemas/Document"}
_DOCUMENT_OR_LIST = {"anyOf": [_DOCUMENT, {"type": "array", "items": _DOCUMENT}]}


def _rows(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


_BATCH = {
    "anyOf": [_rows("Row"), {"type": "object", "required": ["max_total", "hits"], "properties": {"hits": _rows("Row")}}]
}


def _describe_schemas(mapping: Properties) -> dict[str, Any]:
    return {
        "Document": {
            "type": "object",
            "description": "A document. Options such as dotfield and jmespath change its shape.",
            "properties": {"_id": {"type": "string"}, "_version": {"type": "integer"}, **_describe_fields(mapping)},
        },
        "Row": {
            "type": "object",
            "description": "One hit of one term, or the word that there is none.",
            "properties": {"query": {}, "notfound": {"type": "boolean"}},
        },
        "Result": {
            "type": "object",
            "properties": {
                "took": {"type": "integer", "description": "Milliseconds."},
                "total": {"type": "integer"},
                "max_score": {"type": ["number", "null"]},
                "hits": {},
                "facets": {"type": "object"},
                "_scroll_id": {"type": "string"},
                "_search_after": {"type": "string"},
            },
        },
        "Raw": {
            "type": ["object", "array"],
            "description": "With `raw` or `rawquery`: the engine's own answer or query, in a form that may change.",
        },
        "Error": {
            "type": "object",
            "required": ["code", "success", "error"],
            "properties": {"code": {"type": "integer"}, "success": {"const": False}, "error": {"type": "string"}},
        },
    }


def _describe_fields(properties: Properties) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for name, spec in properties.items():
        inner = spec.get("properties")
        if inner is not None:
            one: dict[str, Any] = {"type": "object", "properties": _describe_fields(inner)}
        else:
            one = {"type": _JSON_TYPES.get(str(spec.get("type")), "string")}
        # Any field may hold one value or several, and null with allow_null.
        described[name] = {"anyOf": [one, {"type": "array"}, {"type": "null"}]}
    return described
