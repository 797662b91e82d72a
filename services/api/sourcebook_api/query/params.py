"""The one table of the query API's parameters: it drives parsing, limits, OpenAPI and the reference page."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

Operation = Literal["query_get", "query_post", "annotation_get", "annotation_post", "metadata", "fields"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
ParameterKind = Literal["str", "int", "bool", "list"]

_QUERY_GET = frozenset[Operation]({"query_get"})
_QUERY_POST = frozenset[Operation]({"query_post"})
_QUERY = _QUERY_GET | _QUERY_POST
_ANNOTATION = frozenset[Operation]({"annotation_get", "annotation_post"})
_ALL = _QUERY | _ANNOTATION

_FORMAT_EFFECT = "The format of the answer; without it, the `Accept` header chooses, else JSON."


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    `maximum` bounds a number, or the length of a list. `grouped`: commas inside parentheses do not split the list.
    `compound`: an item of the list may be a list itself. `aliases` are other names of it; the first that is given counts.
    """

    name: str
    kind: ParameterKind
    where: frozenset[Operation]
    effect: str
    aliases: tuple[str, ...] = ()
    default: Any = None
    maximum: int | None = None
    allowed: tuple[str, ...] = ()
    required: bool = False
    grouped: bool = False
    compound: bool = False
    example: Any = None

    @property
    def alias(self) -> Any:
        """The aliases as error bodies show them: one as a string, several as a list."""
        if not self.aliases:
            return None
        return self.aliases[0] if len(self.aliases) == 1 else list(self.aliases)


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "q",
        "str",
        _QUERY_GET,
        "What to find, in Lucene's query syntax. Absent or `__all__`: every document; empty: none; `__any__`: in random order.",
        example="*",
    ),
    Parameter(
        "q",
        "list",
        _QUERY_POST,
        "The terms to look up, one search each. A list inside the list is a compound term for the list in `scopes`.",
        maximum=5000,
        required=True,
        compound=True,
    ),
    Parameter(
        "scopes",
        "list",
        _QUERY_POST,
        "The fields in which the terms are looked up; an empty list reads each term as a query string.",
        default=("_id",),
        maximum=1000,
        compound=True,
    ),
    Parameter(
        "id",
        "str",
        frozenset[Operation]({"annotation_get"}),
        "The `_id` of a document, or `field:value` for an indexed field.",
        required=True,
    ),
    Parameter(
        "id",
        "list",
        frozenset[Operation]({"annotation_post"}),
        "The ids of the documents.",
        aliases=("ids",),
        maximum=1000,
        required=True,
    ),
    Parameter(
        "fields",
        "list",
        _ALL,
        "Keep only these fields and what is below them; `-x` leaves x out; `*` is any text; `all` keeps everything.",
        aliases=("field", "_source", "filter_fields"),
        maximum=1000,
        example="all",
    ),
    Parameter("size", "int", _ALL, "How many hits to return.", aliases=("limit",), default=10, maximum=1000),
    Parameter("from", "int", _QUERY, "How many hits to skip.", aliases=("skip",), default=0, maximum=10_000),
    Parameter("sort", "list", _QUERY, "Sort by these fields, `-field` for descending, or `_score`.", maximum=10),
    Parameter(
        "facets",
        "list",
        _QUERY_GET,
        "Count the values of these fields over all hits; `a(b)` counts b inside each value of a.",
        aliases=("aggs",),
        maximum=1000,
        grouped=True,
    ),
    Parameter("facet_size", "int", _QUERY_GET, "How many values of a facet to return.", default=10, maximum=1000),
    Parameter("filter", "str", _QUERY, "A query string that hits must match; it does not change scores."),
    Parameter("post_filter", "str", _QUERY, "A query string that hits must match; it does not change facets."),
    Parameter(
        "userquery",
        "str",
        _QUERY_GET,
        "The name of a query that the build configuration defines.",
        aliases=("userfilter",),
    ),
    Parameter("explain", "bool", _QUERY_GET, "Add `_explanation` of the score to each hit.", default=False),
    Parameter(
        "fetch_all",
        "bool",
        _QUERY_GET,
        "Return all hits in pages of up to 1000; each page has a `_scroll_id`.",
        default=False,
    ),
    Parameter("scroll_id", "str", _QUERY_GET, "The `_scroll_id` of the page before."),
    Parameter(
        "search_after", "str", _QUERY_GET, "`*` for the first page, then the `_search_after` of the page before."
    ),
    Parameter("with_total", "bool", _QUERY_POST, "Put `max_total`, `hits` and `msg` around the list.", default=False),
    Parameter(
        "dotfield",
        "bool",
        _ALL,
        "Flatten objects to keys with dots, repeated values to lists.",
        aliases=(),
        default=False,
    ),
    Parameter("always_list", "list", _ALL, "These fields are lists even when they have one value.", maximum=1000),
    Parameter(
        "allow_null", "list", _ALL, "These fields are null when absent (an empty list with always_list).", maximum=1000
    ),
    Parameter(
        "jmespath",
        "str",
        _ALL,
        "`field|expression`: replace the field by what the JMESPath expression makes of it; no field: the whole document.",
    ),
    Parameter("jmespath_exclude_empty", "bool", _ALL, "Drop hits for which jmespath gives nothing.", default=False),
    Parameter("format", "str", _ALL, _FORMAT_EFFECT, default="json", allowed=("json", "yaml", "html", "msgpack")),
    Parameter("raw", "bool", _ALL, "Return the engine's answer as it is.", default=False),
    Parameter("rawquery", "bool", _ALL, "Return the engine's query instead of running it.", default=False),
    Parameter("_sorted", "bool", _ALL, "Sort the keys of objects.", default=True),
    Parameter("search", "str", frozenset[Operation]({"fields"}), "Only fields whose path contains this."),
    Parameter("prefix", "str", frozenset[Operation]({"fields"}), "Only fields whose path starts with this."),
    Parameter(
        "format",
        "str",
        frozenset[Operation]({"metadata", "fields"}),
        _FORMAT_EFFECT,
        default="json",
        allowed=("json", "yaml", "html", "msgpack"),
    ),
)

MAX_WINDOW = 10_000
MAX_BATCH_HITS = 100_000
MAX_BATCH_LOOKUPS = 100_000
"""Terms times scopes of one POST."""
MAX_BUCKETS = 1_000_000
"""Values of all facets of a request, those inside others counted each time."""
MAX_WILDCARDS = 50
"""Different entries of `fields` with a `*`."""
PAGE_SIZE = 1000


@cache
def parameters_of(operation: Operation) -> tuple[Parameter, ...]:
    """Return the parameters that an operation takes, in the table's order."""
    return tuple(parameter for parameter in PARAMETERS if operation in parameter.where)
