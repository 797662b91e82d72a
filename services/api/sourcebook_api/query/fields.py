"""Which parts of a document `fields` keeps: dotted paths, exclusions and wildcards. Pure."""

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any

from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.params import MAX_WILDCARDS

_EVERYTHING = frozenset({"all", "*"})


class _Match(IntEnum):
    """What a set of patterns says of a path: nothing, something below it, or the path with all below it."""

    OUT = 0
    BELOW = 1
    WHOLE = 2


class _Patterns:
    """Dotted patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._exact = frozenset(item for item in patterns if "*" not in item)
        self._parents = frozenset(parent for item in self._exact for parent in _parents(item))
        self._wild = [item.split("*") for item in patterns if "*" in item]

    def match(self, path: str) -> _Match:
        if path in self._exact or any(_matches(pieces, path) for pieces in self._wild):
            return _Match.WHOLE
        if path in self._parents or any(_may_match_below(pieces[0], path) for pieces in self._wild):
            return _Match.BELOW
        return _Match.OUT


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _matches(pieces: list[str], path: str) -> bool:
    # The first place where each piece fits will do, so this takes linear time, which a regular expression does not.
    head, *middle, tail = pieces
    position, end = len(head), len(path) - len(tail)
    if position > end or not path.startswith(head) or not path.endswith(tail):
        return False
    for piece in middle:
        found = path.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def _may_match_below(head: str, path: str) -> bool:
    below = path + "."
    return below.startswith(head) or head.startswith(below)


class _Fate(IntEnum):
    """What becomes of a value: it goes, it stays as it is, or what is inside it decides."""

    DROPPED = 0
    KEPT = 1
    SEARCHED = 2
    TRIMMED = 3
    """As SEARCHED, but all that is not excluded stays."""


class Selection:
    """What `fields` asks for; without an inclusion everything but the exclusions is kept.

    The fate of each path is remembered, since documents share their paths.
    """

    _MEMORY = 20_000  # paths; documents whose keys are data would fill it without end

    def __init__(self, fields: Sequence[str]) -> None:
        include = [item for item in fields if not item.startswith("-")]
        self._include = None if not include or _EVERYTHING.intersection(include) else _Patterns(include)
        exclude = [item[1:] for item in fields if item.startswith("-") and len(item) > 1]
        self._exclude = _Patterns(exclude) if exclude else None
        self._fates: tuple[dict[str, _Fate], dict[str, _Fate]] = ({}, {})

    @property
    def keeps_everything(self) -> bool:
        """Whether documents stay as they are."""
        return self._include is None and self._exclude is None

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of a document; `_id` always is."""
        kept = self._keep_object(document, "", inside=self._include is None)
        if "_id" in document:
            kept["_id"] = document["_id"]
        return kept

    def _keep_object(self, node: dict[str, Any], prefix: str, *, inside: bool) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        known = self._fates[inside]
        for key, value in node.items():
            path = prefix + key
            fate = known.get(path)
            if fate is None:
                fate = self._decide(path, inside=inside)
            if fate is _Fate.DROPPED:
                continue
            if fate is _Fate.KEPT:
                kept[key] = value
                continue
            found, part = self._keep_part(value, path + ".", inside=fate is _Fate.TRIMMED)
            if found:
                kept[key] = part
        return kept

    def _decide(self, path: str, *, inside: bool) -> _Fate:
        included = _Match.WHOLE if inside or self._include is None else self._include.match(path)
        excluded = _Match.OUT if self._exclude is None else self._exclude.match(path)
        if included is _Match.OUT or excluded is _Match.WHOLE:
            fate = _Fate.DROPPED
        elif included is _Match.BELOW:
            fate = _Fate.SEARCHED
        else:
            fate = _Fate.KEPT if excluded is _Match.OUT else _Fate.TRIMMED
        known = self._fates[inside]
        if len(known) < self._MEMORY:
            known[path] = fate
        return fate

    def _keep_part(self, value: Any, prefix: str, *, inside: bool) -> tuple[bool, Any]:
        if isinstance(value, dict):
            part = self._keep_object(value, prefix, inside=inside)
            return bool(part) or inside, part
        if isinstance(value, list):
            parts = [part for found, part in (self._keep_part(item, prefix, inside=inside) for item in value) if found]
            return bool(parts) or inside, parts
        return inside, value


@lru_cache(maxsize=256)
def select_fields(fields: tuple[str, ...]) -> Selection:
    """Return the selection for `fields`; clients repeat themselves, so the last ones are kept ready.

    Raises:
        QueryError: there are too many wildcards: each is tried on each path of a document.
    """
    if len({item for item in fields if "*" in item}) > MAX_WILDCARDS:
        raise QueryError(keyword="fields", reason=f"At most {MAX_WILDCARDS} different entries may have a wildcard.")
    return Selection(tuple(dict.fromkeys(fields)))
