"""Random documents and queries, through HTTP: what plain Python makes of them (docs/contracts/query-api.md, sections 3 and 5).

The engine has property tests of its own, down to its corners; here the whole path is tried, from the URL to the JSON.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sourcebook_api.query import plan

PAGE_SIZE = 4  # small, so that answers have several pages

Document = dict[str, Any]
Predicate = Callable[[Document], bool]
Query = tuple[str, Predicate]
Served = Callable[..., Any]

KEYWORD = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
MAPPING: dict[str, dict[str, Any]] = {
    "symbol": {**KEYWORD, "copy_to": "all"},
    "name": {"type": "text", "copy_to": "all"},
    "kind": {"type": "keyword"},
    "number": {"type": "integer"},
    "active": {"type": "boolean"},
    "day": {"type": "date"},
    "part": {"properties": {"kind": {"type": "keyword"}, "number": {"type": "integer"}}},
}
WORDS = ("red", "green", "Blue", "kinase")
DAYS = ("2020-01-31", "2021-06-15", "2023-12-01")
NUMBERS = range(-3, 4)


def one_or_more(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, max_size=3)


words, numbers, days = st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.sampled_from(DAYS)
parts = st.fixed_dictionaries({}, optional={"kind": one_or_more(words), "number": numbers})
bodies = st.fixed_dictionaries(
    {},
    optional={
        "symbol": one_or_more(words),
        "name": st.lists(words, min_size=1, max_size=4).map(" ".join),
        "kind": one_or_more(words),
        "number": one_or_more(numbers),
        "active": st.booleans(),
        "day": days,
        "part": one_or_more(parts),
    },
)
corpora = st.lists(bodies, min_size=1, max_size=25).map(
    lambda made: [{"_id": f"id{position:02d}", **body} for position, body in enumerate(made)]
)


def values(node: Any, *path: str) -> Iterator[Any]:
    if isinstance(node, list):
        for item in node:
            yield from values(item, *path)
    elif not path:
        yield node
    elif isinstance(node, dict) and path[0] in node:
        yield from values(node[path[0]], *path[1:])


def has(path: str, wanted: Callable[[Any], bool]) -> Predicate:
    return lambda document: any(wanted(value) for value in values(document, *path.split(".")))


def holds_a_value(node: Any) -> bool:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
    return True if inner is None else any(map(holds_a_value, inner))


def words_of(document: Document) -> list[str]:
    texts = [*values(document, "symbol"), *values(document, "name")]
    return [word for text in texts for word in text.lower().split()]


def phrase(wanted: list[str]) -> Query:
    expected = [word.lower() for word in wanted]

    def holds(document: Document) -> bool:
        found = next(values(document, "name"), "").lower().split()
        return any(found[at : at + len(expected)] == expected for at in range(len(found)))

    return f'name:"{" ".join(wanted)}"', holds


def number_range(low: int, high: int) -> Query:
    return f"number:[{low} TO {high}}}", has("number", lambda value: low <= value < high)


fields = st.sampled_from(["symbol", "name", "kind", "number", "active", "day", "part", "part.kind"])
leaves: st.SearchStrategy[Query] = st.one_of(
    words.map(lambda word: (word, lambda document: word.lower() in words_of(document))),
    words.map(lambda word: (f"symbol:{word}", has("symbol", lambda value: value.lower() == word.lower()))),
    words.map(lambda word: (f"kind:{word}", has("kind", lambda value: value == word))),
    words.map(lambda word: (f"part.kind:{word}", has("part.kind", lambda value: value == word))),
    st.lists(words, min_size=1, max_size=2).map(phrase),
    numbers.map(lambda number: (f"part.number:{number}".replace(":-", ":\\-"), has("part.number", number.__eq__))),
    st.tuples(numbers, numbers).map(lambda bounds: number_range(*bounds)),
    numbers.map(lambda number: (f"number:>={number}", has("number", lambda value: value >= number))),
    days.map(lambda day: (f"day:[{day} TO *]", has("day", lambda value: value >= day))),
    st.sampled_from(["r*", "*e?", "kin*se"]).map(
        lambda pattern: (f"symbol:{pattern}", has("symbol", lambda value: Path(value.lower()).match(pattern)))
    ),
    st.booleans().map(lambda flag: (f"active:{str(flag).lower()}", has("active", lambda value: value is flag))),
    fields.map(lambda field: (f"_exists_:{field}", has(field, holds_a_value))),
    st.just(("*", lambda _: True)),
)


def combine(inner: st.SearchStrategy[Query]) -> st.SearchStrategy[Query]:
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda pair: (f"({pair[0][0]} AND {pair[1][0]})", lambda d: pair[0][1](d) and pair[1][1](d))),
        pairs.map(lambda pair: (f"({pair[0][0]} OR {pair[1][0]})", lambda d: pair[0][1](d) or pair[1][1](d))),
        pairs.map(lambda pair: (f"({pair[0][0]} NOT {pair[1][0]})", lambda d: pair[0][1](d) and not pair[1][1](d))),
        inner.map(lambda query: (f"(NOT {query[0]})", lambda d: not query[1](d))),
    )


queries = st.recursive(leaves, combine, max_leaves=4)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(corpus=corpora, asked=st.lists(st.tuples(queries, queries), min_size=4, max_size=8))
def test_section_3_the_whole_path_agrees_with_python(
    serve_documents: Served, corpus: list[Document], asked: list[tuple[Query, Query]]
) -> None:
    async def work(gateway: Any) -> None:
        for (query, matches), (restriction, passes) in asked:
            wanted = [document for document in corpus if matches(document)]
            await compare_search(gateway, query, wanted)
            filtered = [document["_id"] for document in wanted if passes(document)]
            for parameter in ("filter", "post_filter"):
                body = (await gateway.get("/query", q=query, size=100, **{parameter: restriction})).json()
                assert sorted(ids(body)) == filtered, (parameter, query, restriction)
            for first in ({"fetch_all": "1"}, {"search_after": "*"}):
                assert await walk(gateway, query, first) == [document["_id"] for document in wanted], query
        await compare_batch(gateway, [query for (query, _), _ in asked], [matches for (_, matches), _ in asked], corpus)

    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "PAGE_SIZE", PAGE_SIZE)
        asyncio.run(serve_documents(Path(home), corpus, MAPPING, work))


def ids(body: Any) -> list[str]:
    return [hit["_id"] for hit in body["hits"]]


async def compare_search(gateway: Any, query: str, wanted: list[Document]) -> None:
    parameters = {"q": query, "facets": "kind(number),active,part.kind", "facet_size": 100}
    body = (await gateway.get("/query", size=100, **parameters)).json()
    assert (body.get("total"), sorted(ids(body))) == (len(wanted), [item["_id"] for item in wanted]), query
    for hit in body["hits"]:
        assert {**hit, "_score": 0} == {**next(d for d in wanted if d["_id"] == hit["_id"]), "_score": 0}
    for field in ("kind", "active", "part.kind"):
        compare_facet(body["facets"][field], field, wanted)
    for bucket in body["facets"]["kind"]["terms"]:
        inside = [document for document in wanted if bucket["term"] in values(document, "kind")]
        compare_facet(bucket["number"], "number", inside)
    pages = [
        (await gateway.get("/query", q=query, size=3, sort="_id", **{"from": at})).json() for at in range(0, 27, 3)
    ]
    assert [item for page in pages for item in ids(page)] == [item["_id"] for item in wanted]


def compare_facet(facet: Any, field: str, wanted: list[Document]) -> None:
    found = [set(values(document, *field.split("."))) for document in wanted]
    counts = Counter(value for distinct in found for value in distinct)
    assert {item["term"]: item["count"] for item in facet["terms"]} == counts
    assert [item["count"] for item in facet["terms"]] == sorted(counts.values(), reverse=True)
    assert (facet["total"], facet["other"]) == (counts.total(), 0)
    assert facet["missing"] == sum(not distinct for distinct in found)


async def walk(gateway: Any, query: str, first: dict[str, str]) -> list[str]:
    """Return the ids of all pages, in the order in which they came."""
    (name,) = first
    token, parameter = ("_scroll_id", "scroll_id") if name == "fetch_all" else ("_search_after", "search_after")
    page = (await gateway.get("/query", q=query, **first)).json()
    seen: list[str] = []
    while page.get("hits"):
        assert len(page["hits"]) <= PAGE_SIZE
        seen += ids(page)
        page = (await gateway.get("/query", q=query, **{parameter: page[token]})).json()
    return seen


async def compare_batch(gateway: Any, asked: list[str], matches: list[Predicate], corpus: list[Document]) -> None:
    rows = (await gateway.post("/query", {"q": asked, "scopes": [], "size": 100, "fields": "_id"})).json()
    expected = [[document["_id"] for document in corpus if predicate(document)] for predicate in matches]
    for query in {*asked}:
        times = asked.count(query)
        found = sorted(row["_id"] for row in rows if row["query"] == query and "notfound" not in row)
        assert found == sorted(expected[asked.index(query)] * times), query
