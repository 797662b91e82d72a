"""What an OpenSearch index is made of: its name, settings and mapping, and what Sourcebook notes in the mapping's `_meta`.

Documents are stored as they are, but for one character: their `_id`, which OpenSearch does not take inside a document, is called
`~id`. So no document is decoded on its way in or out, and walks have a field to sort by.
"""

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import Any

from sourcebook.errors import InvalidName
from sourcebook.hub.documents.record import Digest
from sourcebook.hub.mappings.model import KEYWORD_NORMALIZER, Properties, iterate_fields
from sourcebook.language.iso_dates import SPACED_FORMAT
from sourcebook.language.requests import ALL_FIELD

FORMAT = 1
META = "sourcebook"
ID_KEY = "~id"
IGNORED_KEY = "~ignored"
"""Where a document says which of its keywords are too long; indices of Sourcebook 0.1 have no such field."""
BODY_KEY = "~body"
"""Where a document stands as it is if not all of it can be indexed."""
HEAD = b'{"_id":'
STORED_HEAD = f'{{"{ID_KEY}":'.encode()
_MAX_NAME_BYTES = 250  # OpenSearch's limit is 255
_NAME = re.compile(r"[A-Za-z0-9_.~-]+\Z")
_CAPITAL = re.compile(r"[A-Z]")
MAX_TERM_BYTES = 32766  # Lucene's limit; without it one long value would have the whole document refused
_DEFAULT_FIELD_LIMIT = 1000
_LOADING = {"number_of_replicas": 0, "auto_expand_replicas": "false", "refresh_interval": "-1"}
_NOTED = ("name", "collection", "generation", "properties", "settings", "count", "digest")
_ENGINE_ID = "_id"  # OpenSearch's own, which it compares as a whole only
_TEXTS = {"text", "match_only_text", "search_as_you_type", "annotated_text"}
_OBJECTS = {"object", "nested"}
# Of these OpenSearch leaves out values that do not fit, and says so in `_ignored`; a boolean it can only refuse.
_MAY_BE_MALFORMED = {
    "integer",
    "long",
    "short",
    "byte",
    "double",
    "half_float",
    "scaled_float",
    "float",
    "date",
    "date_nanos",
    "ip",
}
# What a field has unless its mapping says otherwise.
_DEFAULTS: dict[str | None, dict[str, Any]] = {
    **{kind: {"ignore_malformed": True} for kind in _MAY_BE_MALFORMED},
    "date": {"ignore_malformed": True, "format": f"strict_date_optional_time||{SPACED_FORMAT}||epoch_millis"},
    "keyword": {"ignore_above": MAX_TERM_BYTES},
    # Query strings reach into nested objects as well: nobody writes nested queries in a URL.
    "nested": {"include_in_root": True},
}
_ANALYSIS = {
    "analyzer": {
        "string_lowercase": {"type": "custom", "tokenizer": "keyword", "filter": ["lowercase"]},
        "whitespace_lowercase": {"type": "custom", "tokenizer": "whitespace", "filter": ["lowercase"]},
    },
    "normalizer": {KEYWORD_NORMALIZER: {"type": "custom", "char_filter": [], "filter": ["lowercase"]}},
}


@dataclass(frozen=True, slots=True)
class IndexState:
    """What an index says of itself. It is complete once it has a count."""

    name: str
    collection: str
    generation: str
    properties: Properties
    settings: dict[str, Any]
    count: int | None = None
    digest: str = ""
    id_field: str = ID_KEY
    """Where queries look for ids; indices of Sourcebook 1.0 have only OpenSearch's own field."""
    types: dict[str, str] = field(default_factory=dict, compare=False)
    """The type of each searched leaf, by path."""

    def __post_init__(self) -> None:
        self.types.update(list_leaves(self.properties))

    def completed(self, digest: Digest) -> "IndexState":
        """Return the state once everything is in the index."""
        return replace(self, count=digest.count, digest=digest.hex(), types={})

    def note(self) -> dict[str, Any]:
        """Return the `_meta` that says this."""
        known = {name: getattr(self, name) for name in _NOTED}
        return {META: {"format": FORMAT, "id_field": self.id_field, **known}}


def read_note(meta: dict[str, Any] | None) -> IndexState | None:
    """Return what an index says of itself; None if it is not ours, or of another version."""
    note = (meta or {}).get(META)
    if not isinstance(note, dict) or note.get("format") != FORMAT:
        return None
    return IndexState(**{name: note[name] for name in _NOTED}, id_field=note.get("id_field", _ENGINE_ID))


def build_engine_name(prefix: str, name: str) -> str:
    """Return the name of an index in the cluster, where capital letters are not allowed.

    >>> build_engine_name("sourcebook", "Genes~Genes_2024~0k3v9")
    'sourcebook~+genes~+genes_2024~0k3v9'

    Raises:
        InvalidName: it has characters that no index of ours has.
    """
    if not _NAME.match(name):
        raise InvalidName(f"{name!r} cannot name an index.", name=name)
    folded = f"{prefix}~{_CAPITAL.sub(lambda match: '+' + match[0].lower(), name)}"
    if len(folded) <= _MAX_NAME_BYTES:
        return folded
    digest = hashlib.sha256(name.encode()).hexdigest()[:40]
    return f"{folded[: _MAX_NAME_BYTES - len(digest) - 1]}~{digest}"


def build_index_body(state: IndexState) -> dict[str, Any]:
    """Return the body that creates an index: fast to load, with nothing of the replicas yet."""
    index: dict[str, Any] = {
        "codec": "best_compression",
        "mapping": {"total_fields": {"limit": _count_limit(state.properties)}},
        **state.settings.get("extra", {}),
        "number_of_shards": state.settings.get("shards") or 1,
        **_LOADING,
    }
    index["analysis"] = _merge(_ANALYSIS, index.get("analysis", {}))
    return {"settings": {"index": index}, "mappings": build_mapping(state)}


def build_clone_body(state: IndexState) -> dict[str, Any]:
    """Return the body that clones an index: open to writes again."""
    limit = {"total_fields": {"limit": _count_limit(state.properties)}}
    return {"settings": {"index": {**_LOADING, "blocks": {"write": False}, "mapping": limit}}}


def build_mapping(state: IndexState) -> dict[str, Any]:
    """Return the mapping of an index."""
    properties = translate_properties(state.properties)
    properties.setdefault(ALL_FIELD, {"type": "text"})
    properties[IGNORED_KEY] = {"type": "keyword"}
    properties[ID_KEY] = {"type": "keyword", **({"index": False} if state.id_field == _ENGINE_ID else {})}
    return {"dynamic": False, "_meta": state.note(), "properties": properties}


def translate_properties(properties: Properties) -> Properties:
    """Return a mapping as OpenSearch gets it."""
    return {key: _translate_field(spec) for key, spec in properties.items()}


def final_settings(state: IndexState) -> dict[str, Any]:
    """Return the settings of an index that is filled: it takes no further writes."""
    extra = state.settings.get("extra", {})
    return {
        "index": {
            **_replicas(state.settings),
            "refresh_interval": extra.get("refresh_interval"),
            "blocks": {"write": True},
        }
    }


def _replicas(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings for copies: what was asked for, else one where there is more than one node, now or later."""
    extra, asked = settings.get("extra", {}), settings.get("replicas")
    if "auto_expand_replicas" in extra:
        return {"auto_expand_replicas": extra["auto_expand_replicas"]}
    if "number_of_replicas" in extra or asked is not None:
        return {"number_of_replicas": extra.get("number_of_replicas", asked)}
    return {"auto_expand_replicas": "0-1"}


def list_leaves(properties: Properties) -> dict[str, str]:
    """Return the type of each leaf that is searched, by path; other fields of a value (multi-fields) included."""
    leaves: dict[str, str] = {}
    hidden: tuple[str, ...] = ()
    for entry in iterate_fields(properties):
        if entry.path.startswith(hidden) and hidden:
            continue
        if entry.spec.get("enabled") is False:
            hidden = (*hidden, f"{entry.path}.")
        elif not entry.is_object:
            _add_leaf(leaves, entry.path, entry.spec)
    return leaves


def is_text(type_name: str | None) -> bool:
    """Whether values of a type are cut into words, so that they can be neither counted nor sorted."""
    return type_name in _TEXTS


def _add_leaf(leaves: dict[str, str], path: str, spec: dict[str, Any]) -> None:
    kind = spec.get("type")
    if kind is not None and kind not in _OBJECTS and kind != "binary" and spec.get("index", True) is not False:
        leaves[path] = kind
    for suffix, inner in spec.get("fields", {}).items():
        _add_leaf(leaves, f"{path}.{suffix}", inner)


def _translate_field(spec: dict[str, Any]) -> dict[str, Any]:
    written = dict(spec)
    if "properties" in spec:
        written["properties"] = translate_properties(spec["properties"])
    if "fields" in spec:
        written["fields"] = translate_properties(spec["fields"])
    kind = spec.get("type")
    for key, value in _DEFAULTS.get(kind, {}).items():
        written.setdefault(key, value)
    if kind == "float":
        # A fraction of 32 bits would come back as another number: 1.1 as 1.100000023841858 in a facet.
        written["type"] = "double"
    if kind is not None and kind not in _OBJECTS and kind not in _TEXTS and spec.get("index", True) is False:
        written.setdefault("doc_values", False)
    return written


def _count_limit(properties: Properties) -> int:
    count = sum(1 + len(entry.spec.get("fields", {})) for entry in iterate_fields(properties))
    return max(_DEFAULT_FIELD_LIMIT, 2 * count)


def _merge(ours: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = {kind: {**parts, **given.get(kind, {})} for kind, parts in ours.items()}
    return {**given, **merged}
