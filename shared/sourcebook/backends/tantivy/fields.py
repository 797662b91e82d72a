"""The fields of a tantivy index: one typed field for each leaf of the mapping that is searched, and the values they hold.

The leaves are numbered in the mapping's order: `f3` is the third leaf. A keyword that had several values in one document has its
greatest in `h3`, for descending sorts (tantivy sorts by the first value, and values are stored in ascending order). Beside them
an index has a few spare fields of each kind: a derived index takes them for leaves that are new, since tantivy cannot add a field
to what is written.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tantivy import Schema, SchemaBuilder

from sourcebook.errors import CannotDerive, MappingError
from sourcebook.hub.mappings.model import EXACT, Properties
from sourcebook.language.query_string import IGNORED_FIELD
from sourcebook.language.requests import ALL_FIELD
from sourcebook.language.words import ANALYZERS, Analyzer

ID_FIELD = "_id"
NUMBER_FIELD = "_rn"
RANDOM_FIELD = "_random"
PRESENT_FIELD = "_present"

MAX_TERM_BYTES = 32766  # OpenSearch's limit for a keyword
MIN_LONG, MAX_LONG = -(2**63), 2**63 - 1


class Kind(Enum):
    """How the values of a leaf are indexed."""

    TEXT = "text"
    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    DATE = "date"
    BOOLEAN = "boolean"


_KINDS = {
    **dict.fromkeys(("text", "match_only_text", "search_as_you_type", "annotated_text"), Kind.TEXT),
    **dict.fromkeys(("keyword", "constant_keyword", "wildcard", "ip", "version"), Kind.KEYWORD),
    **dict.fromkeys(("integer", "long", "short", "byte", "unsigned_long"), Kind.INTEGER),
    **dict.fromkeys(("float", "double", "half_float", "scaled_float"), Kind.FLOAT),
    **dict.fromkeys(("date", "date_nanos"), Kind.DATE),
    "boolean": Kind.BOOLEAN,
}
_UNSEARCHED = {"binary"}
_NORMALIZERS = {"lowercase", "keyword_lowercase_normalizer"}
_WHOLE_TEXT = {"keyword", "string_lowercase"}


# Each costs a byte a document where it is text or keyword.
SPARE_FIELDS = {
    Kind.TEXT: tuple(f"st{number}" for number in range(3)),
    Kind.KEYWORD: tuple(f"sk{number}" for number in range(6)),
    Kind.INTEGER: tuple(f"si{number}" for number in range(4)),
    Kind.FLOAT: tuple(f"sf{number}" for number in range(3)),
}
_SPARE_KINDS = {Kind.DATE: Kind.INTEGER, Kind.BOOLEAN: Kind.INTEGER}
RANGED = {Kind.FLOAT, Kind.DATE}


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One searched field of the mapping."""

    path: str
    source: str
    """Where documents have the value: another path for a multi-field."""
    kind: Kind
    name: str
    """The tantivy field; empty if the value is only copied to another field."""
    has_lowercase: bool = False
    """Keywords only: the values are lower-cased."""
    analyzer: str = "standard"
    max_length: int = MAX_TERM_BYTES
    copy_to: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether an analysed text is one term."""
        return self.analyzer in _WHOLE_TEXT

    @property
    def greatest(self) -> str:
        """The field with the greatest of several values."""
        return f"h{self.name[1:]}"

    @property
    def analyze(self) -> Analyzer:
        """The function that cuts a text into words."""
        return ANALYZERS[self.analyzer]


class FieldTable:
    """The leaves of a mapping, by path.

    `names` are the fields of the leaves where the mapping's order does not tell them: in a derived index.

    Raises:
        MappingError: a type, analyser or normaliser is not known.
    """

    def __init__(self, properties: Properties, names: Mapping[str, str] | None = None) -> None:
        self.leaves: list[Leaf] = []
        self._names = names
        self._add(properties, "")
        self.leaves_searched = [leaf for leaf in self.leaves if leaf.name]
        self._by_path = {leaf.path: leaf for leaf in self.leaves_searched}

    def _add(self, properties: Properties, prefix: str) -> None:
        for key, spec in properties.items():
            path = prefix + key
            if spec.get("enabled") is False:
                continue
            if "properties" in spec:
                self._add(spec["properties"], path + ".")
            elif "type" in spec and spec["type"] not in {"object", "nested"}:
                self._add_leaf(path, spec)

    def _add_leaf(self, path: str, spec: dict[str, Any], source: str = "") -> None:
        if spec["type"] not in _UNSEARCHED and (spec.get("index", True) is not False or "copy_to" in spec):
            name = f"f{len(self.leaves)}" if self._names is None else self._names.get(path, "")
            self.leaves.append(_make_leaf(path, source or path, spec, name))
        for suffix, inner in spec.get("fields", {}).items():
            self._add_leaf(f"{path}.{suffix}", inner, source or path)

    def get(self, path: str) -> Leaf | None:
        """Return the leaf of a path, or None."""
        return self._by_path.get(path)

    @property
    def paths(self) -> list[str]:
        """The paths that are searched."""
        return list(self._by_path)

    def whole(self, path: str) -> Leaf | None:
        """Return the leaf with the whole values of a path, to be counted and sorted: of a text, its sub-field for them."""
        leaf = self.get(path)
        return self.get(f"{path}.{EXACT}") or leaf if leaf is not None and leaf.kind is Kind.TEXT else leaf

    def match(self, pattern: str) -> list[Leaf]:
        """Return the leaves of a path, which may have `*` in it."""
        if "*" not in pattern:
            leaf = self.get(pattern)
            return [] if leaf is None else [leaf]
        # fnmatch would read brackets as classes.
        glob = pattern.replace("[", "[[]").replace("?", "[?]")
        return [leaf for leaf in self.leaves_searched if fnmatch.fnmatchcase(leaf.path, glob)]

    def under(self, path: str) -> list[Leaf]:
        """Return the leaf of a path, or those below it."""
        found, prefix = self.get(path), path + "."
        return [found] if found is not None else [leaf for leaf in self.leaves_searched if leaf.path.startswith(prefix)]


def choose_names(base: FieldTable, properties: Properties, spent: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the field of each leaf of a mapping in an index that is derived, and the fields that may not be taken any more.

    Leaves that the base has keep their field, new ones take a spare one. A field is taken once: documents that were not written
    again may have values of the leaf that it was.

    Args:
        base: the leaves of the base.
        properties: the mapping of the derived index.
        spent: the spare fields that were taken before.

    Raises:
        CannotDerive: a leaf is indexed otherwise than in the base, or there is no spare field for a new one.
    """
    names: dict[str, str] = {}
    taken = list(spent)
    known = {leaf.path: leaf for leaf in base.leaves}
    for leaf in FieldTable(properties).leaves:
        before = known.get(leaf.path)
        if before is None:
            names[leaf.path] = _take_spare(leaf, taken) if leaf.name else ""
        elif _is_alike(before, leaf):
            names[leaf.path] = before.name
        else:
            raise CannotDerive(
                f"Field {leaf.path!r} is indexed differently than before: release the build in full.", field=leaf.path
            )
    return names, taken


def _is_alike(left: Leaf, right: Leaf) -> bool:
    fields = ("source", "kind", "has_lowercase", "analyzer", "max_length", "copy_to")
    same = all(getattr(left, name) == getattr(right, name) for name in fields)
    return same and bool(left.name) == bool(right.name)


def _take_spare(leaf: Leaf, taken: list[str]) -> str:
    # A whole text is one term, a spare text is cut into words.
    names = () if leaf.kind is Kind.TEXT and leaf.is_whole else SPARE_FIELDS[_SPARE_KINDS.get(leaf.kind, leaf.kind)]
    for name in names:
        if name not in taken:
            taken.append(name)
            return name
    raise CannotDerive(
        f"Field {leaf.path!r} is new, and the index has no spare field of its kind left: release the build in full.",
        field=leaf.path,
    )


def _make_leaf(path: str, source: str, spec: dict[str, Any], name: str) -> Leaf:
    kind = _KINDS.get(spec["type"])
    analyzer, normalizer = spec.get("analyzer", "standard"), spec.get("normalizer")
    if kind is None:
        raise _cannot_index(path, "type", spec["type"], list(_KINDS))
    if kind is Kind.TEXT and analyzer not in ANALYZERS:
        raise _cannot_index(path, "analyzer", analyzer, list(ANALYZERS))
    if kind is Kind.KEYWORD and normalizer is not None and normalizer not in _NORMALIZERS:
        raise _cannot_index(path, "normalizer", normalizer, sorted(_NORMALIZERS))
    targets = spec.get("copy_to", ())
    return Leaf(
        path=path,
        source=source,
        kind=kind,
        name=name if spec.get("index", True) is not False else "",
        has_lowercase=normalizer is not None,
        analyzer=analyzer,
        max_length=int(spec.get("ignore_above", MAX_TERM_BYTES)),
        copy_to=(targets,) if isinstance(targets, str) else tuple(targets),
    )


def _cannot_index(path: str, what: str, value: str, known: list[str]) -> MappingError:
    return MappingError(
        f"Field {path!r} has the {what} {value!r}, which the embedded search engine does not have. Known are "
        f"{', '.join(known)}. Change the mapping, or set SOURCEBOOK_SEARCH_URL to an OpenSearch.",
        field=path,
        allowed=known,
    )


_SPARE_LEAVES = tuple(
    Leaf(path=name, source="", kind=kind, name=name) for kind, names in SPARE_FIELDS.items() for name in names
)


def build_schema(table: FieldTable) -> Schema:
    """Return the tantivy schema of a mapping."""
    builder = SchemaBuilder()
    builder.add_text_field(ID_FIELD, tokenizer_name="raw", index_option="basic")
    builder.add_unsigned_field(NUMBER_FIELD, indexed=True, fast=True)
    builder.add_unsigned_field(RANDOM_FIELD, fast=True)
    builder.add_text_field(PRESENT_FIELD, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(IGNORED_FIELD, fast=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(ALL_FIELD, tokenizer_name="whitespace")
    for leaf in (*table.leaves_searched, *_SPARE_LEAVES):
        _add_field(builder, leaf)
    return builder.build()


def _add_field(builder: SchemaBuilder, leaf: Leaf) -> None:
    if leaf.kind is Kind.TEXT:
        option = ("raw", "basic") if leaf.is_whole else ("whitespace", "position")
        builder.add_text_field(leaf.name, tokenizer_name=option[0], index_option=option[1])
    elif leaf.kind is Kind.KEYWORD:
        builder.add_text_field(leaf.name, fast=True, tokenizer_name="raw", index_option="basic")
        builder.add_text_field(leaf.greatest, fast=True, tokenizer_name="raw", index_option="basic")
    else:
        # Fractions and dates are asked for by range, which the column answers; a list of documents for each of their many values
        # would cost a tenth of the indexing. Whole numbers are identifiers often enough: those are looked up one by one.
        builder.add_integer_field(leaf.name, indexed=leaf.kind not in RANGED, fast=True)
        builder.add_integer_field(leaf.greatest, fast=True)
