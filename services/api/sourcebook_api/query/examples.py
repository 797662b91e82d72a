"""Requests that work on this release, made from its mapping and one of its documents: for the console. Pure."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sourcebook.hub.mappings.model import iterate_fields
from sourcebook.hub.releases.model import Release
from sourcebook.language.requests import ALL_FIELD

_NUMBERS = frozenset({"integer", "long", "short", "byte", "float", "double"})
_MAX_TEXT = 60  # characters of a value; longer ones make no good example
_SPECIAL = str.maketrans({'"': '\\"', "\\": "\\\\"})

JsonObject = dict[str, Any]


class Example(NamedTuple):
    """What a request shows, and its path with the query string."""

    title: str
    path: str


class Sample(NamedTuple):
    """A field that can be searched, and a value of it."""

    field: str
    value: Any

    @property
    def query(self) -> str:
        """The query that finds the value."""
        return f'{self.field}:"{str(self.value).translate(_SPECIAL)}"'


class Examples:
    """The examples of a release. Without a document, those that need one are left out."""

    def __init__(self, release: Release, document: JsonObject | None) -> None:
        self._type = release.doc_type
        self._document = document or {}
        self._keyword = next(self._samples(release, frozenset({"keyword"})), None)
        self._number = next(self._samples(release, _NUMBERS), None)

    @property
    def document_id(self) -> str | None:
        """The `_id` of a document that is there."""
        return self._document.get("_id")

    @property
    def batch_of_ids(self) -> JsonObject:
        """A body for POST /{type}."""
        return {"ids": [self.document_id or "some-id", "not-there"], "fields": self._some_fields}

    @property
    def batch_of_terms(self) -> JsonObject:
        """A body for POST /query."""
        if self._keyword is None:
            return {"q": [self.document_id or "some-id", "not-there"], "scopes": ["_id"]}
        return {"q": [str(self._keyword.value), "not-there"], "scopes": [self._keyword.field], "size": 1}

    @property
    def requests(self) -> list[Example]:
        """GET requests, the simple ones first."""
        made = [*self._of_document(), Example("Every document", _query(q="*"))]
        if self._keyword is not None:
            made.append(Example(f"Search in {self._keyword.field}", _query(q=self._keyword.query)))
            made.append(Example(f"Who has {self._keyword.field}", _query(q=f"_exists_:{self._keyword.field}", size=3)))
            made.append(Example(f"Count the values of {self._keyword.field}", _query(facets=self._keyword.field)))
        if self._number is not None:
            field, value = self._number
            made.append(Example(f"A range of {field}", _query(q=f"{field}:[{value} TO *]", size=3)))
            made.append(Example(f"Sort by {field}, greatest first", _query(q="*", sort=f"-{field}", size=3)))
        made.append(Example("All hits, page by page", _query(q="*", fetch_all="true", fields="_id")))
        return [*made, Example("What is in this release", "/metadata"), Example("Its fields", "/metadata/fields")]

    def _of_document(self) -> Iterator[Example]:
        if self.document_id is not None:
            path = f"/{quote(self._type)}/{quote(self.document_id, safe='')}"
            yield Example("One document", path)
            yield Example("Some fields of it", f"{path}?{urlencode({'fields': ','.join(self._some_fields)})}")

    @property
    def _some_fields(self) -> list[str]:
        return [key for key in self._document if key != "_id" and "," not in key][:2] or ["_id"]

    def _samples(self, release: Release, kinds: frozenset[str]) -> Iterator[Sample]:
        for path, spec, is_object in iterate_fields(release.mapping):
            if is_object or path == ALL_FIELD or spec.get("type") not in kinds or spec.get("index", True) is False:
                continue
            value = _find_value(self._document, path.split("."))
            if value is not None and len(str(value)) <= _MAX_TEXT and "`" not in str(value):
                yield Sample(path, value)


def _query(**parameters: Any) -> str:
    return f"/query?{urlencode(parameters)}"


def _find_value(node: Any, path: list[str]) -> Any:
    """Return the first value at a path, through lists; None if there is none."""
    if isinstance(node, list):
        return next((found for item in node if (found := _find_value(item, path)) is not None), None)
    if not path:
        return node if isinstance(node, str | int | float) else None
    return _find_value(node.get(path[0]), path[1:]) if isinstance(node, dict) else None
