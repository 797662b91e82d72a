"""Random documents and queries: the engine finds, sorts, counts and pages what straightforward python does."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sourcebook.backends.tantivy.facets import _MARGIN
from sourcebook.backends.tantivy.search import TantivySearchEngine
from sourcebook.hub.documents.record import make_record
from sourcebook.language.requests import Facet, FacetRequest, SearchRequest, SortKey

KEYWORD = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
PROPERTIES: dict[str, dict[str, Any]] = {
    "k": {**KEYWORD, "copy_to": "all"},
    "c": {"type": "keyword"},
    "t": {"type": "text", "copy_to": "all"},
    "n": {"type": "long"},
    "f": {"type": "double"},
    "o": {"properties": {"k": KEYWORD, "n": {"type": "integer"}}},
}
LETTERS = "abAB*é\n:漢"
WORDS = ["red", "green", "blue", "Red", "3.14"]
Document = dict[str, Any]
Predicate = Callable[[Document], bool]


def one_or_more(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, st.lists(values, max_size=3), st.none())


names = st.text(LETTERS, max_size=3)
numbers = st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1, 2**40, 2**53, 2**53 + 1, -(2**53) - 1])
fractions = st.sampled_from([-1e300, -1.5, -0.0, 0.1, 2.0, 5e-324, 1e308]) | st.floats(
    allow_nan=False, allow_infinity=False
)
texts = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)
inner = st.fixed_dictionaries({}, optional={"k": one_or_more(names), "n": one_or_more(st.integers(-3, 3))})
bodies = st.fixed_dictionaries(
    {},
    optional={
        "k": one_or_more(names),
        "c": one_or_more(names),
        "t": one_or_more(texts),
        "n": one_or_more(numbers),
        "f": one_or_more(fractions),
        "o": one_or_more(inner),
    },
)


def values(document: Document, path: str) -> list[Any]:
    """The values of a path as they are indexed: distinct, keywords with a normaliser in lower case."""
    found: list[Any] = [document]
    for key in path.split("."):
        found = [item[key] for holder in found for item in flat(holder) if isinstance(item, dict) and key in item]
    result = [item for holder in found for item in flat(holder) if item is not None]
    if path in {"k", "o.k"}:
        result = [item.lower() for item in result]
    return sorted(set(result))


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield value


def texts_of(document: Document) -> list[list[str]]:
    return [item.lower().split() for item in flat(document.get("t")) if item is not None]


def escape(text: str) -> str:
    return "".join(
        f"\\{character}" if not character.isalnum() or not character.isascii() else character for character in text
    )


def keyword_query(field: str, text: str) -> tuple[str, Predicate]:
    wanted = text.lower() if field != "c" else text
    return f'{field}:"{text.replace(chr(34), "")}"' if "*" not in text else f"{field}:{escape(text)}", (
        lambda document: wanted in values(document, field)
    )


def wildcard_query(field: str, pattern: str) -> tuple[str, Predicate]:
    folded = pattern.lower() if field != "c" else pattern
    expression = re.compile("".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in folded), re.DOTALL)
    written = "".join(part if part in "*?" else escape(part) for part in pattern)
    return f"{field}:{written}", lambda document: any(expression.fullmatch(value) for value in values(document, field))


def bounds_query(field: str, low: Any, high: Any, brackets: str) -> tuple[str, Predicate]:
    def fold(bound: Any) -> Any:
        if bound == "*":  # an open end, in quotes too
            return None
        return bound.lower() if isinstance(bound, str) and field != "c" else bound

    least, most = fold(low), fold(high)

    def holds(value: Any) -> bool:
        above = least is None or (value >= least if brackets[0] == "[" else value > least)
        return above and (most is None or (value <= most if brackets[1] == "]" else value < most))

    def write(bound: Any) -> str:
        return "*" if bound is None else f'"{bound}"' if isinstance(bound, str) else str(bound)

    written = f"{field}:{brackets[0]}{write(low)} TO {write(high)}{brackets[1]}"
    return written, lambda document: any(holds(value) for value in values(document, field))


def phrase_query(words: list[str]) -> tuple[str, Predicate]:
    wanted = [word.lower() for word in words]

    def holds(document: Document) -> bool:
        size = len(wanted)
        return any(text[at : at + size] == wanted for text in texts_of(document) for at in range(len(text)))

    return f't:"{" ".join(words)}"', holds


def default_query(word: str) -> tuple[str, Predicate]:
    def holds(document: Document) -> bool:
        in_texts = any(word.lower() in text for text in texts_of(document))
        return in_texts or word.lower() in values(document, "k") or document["_id"] == word

    return word, holds


brackets = st.sampled_from(["[]", "{}", "[}", "{]"])
keyword_fields = st.sampled_from(["k", "c", "o.k"])
leaf_queries = st.one_of(
    st.builds(keyword_query, keyword_fields, st.text(LETTERS, min_size=1, max_size=3)),
    st.builds(wildcard_query, keyword_fields, st.text("abA*?", min_size=1, max_size=4)),
    st.builds(bounds_query, keyword_fields, st.none() | names, st.none() | names, brackets),
    st.builds(bounds_query, st.sampled_from(["n", "o.n"]), st.none() | numbers, st.none() | numbers, brackets),
    st.builds(bounds_query, st.just("f"), st.none() | fractions, st.none() | fractions, brackets),
    st.builds(phrase_query, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)),
    st.builds(default_query, st.sampled_from([*WORDS, "d1"])),
    st.sampled_from(["k", "c", "n", "f", "o.k", "o.n"]).map(
        lambda field: (f"_exists_:{field}", lambda document: bool(values(document, field)))
    ),
    st.just(("_exists_:o", lambda document: bool(values(document, "o.k") or values(document, "o.n")))),
    st.just(("_exists_:t", lambda document: any(item is not None for item in flat(document.get("t"))))),
    numbers.map(lambda number: (f'n:"{number}"', lambda document: number in values(document, "n"))),
    fractions.map(lambda number: (f'f:"{number}"', lambda document: number in values(document, "f"))),
)


def conjunction(left: tuple[str, Predicate], right: tuple[str, Predicate]) -> tuple[str, Predicate]:
    return f"({left[0]} AND {right[0]})", lambda document: left[1](document) and right[1](document)


def disjunction(left: tuple[str, Predicate], right: tuple[str, Predicate]) -> tuple[str, Predicate]:
    return f"({left[0]} OR {right[0]})", lambda document: left[1](document) or right[1](document)


def negation(query: tuple[str, Predicate]) -> tuple[str, Predicate]:
    return f"(NOT {query[0]})", lambda document: not query[1](document)


def mixture(clauses: list[tuple[str, tuple[str, Predicate]]]) -> tuple[str, Predicate]:
    """Clauses with + and - and neither, which is + by default."""

    def holds(document: Document) -> bool:
        return all(clause[1](document) != (sign == "-") for sign, clause in clauses)

    return f"({' '.join(sign + clause[0] for sign, clause in clauses)})", holds


queries = st.recursive(
    leaf_queries,
    lambda inner: st.one_of(
        st.builds(conjunction, inner, inner),
        st.builds(disjunction, inner, inner),
        st.builds(negation, inner),
        st.lists(st.tuples(st.sampled_from(["+", "-", ""]), inner), min_size=1, max_size=3).map(mixture),
    ),
    max_leaves=5,
)
sort_keys = st.tuples(st.sampled_from(["k", "c", "n", "f", "o.k", "o.n", "_id"]), st.booleans())
sorts = st.lists(sort_keys, min_size=1, max_size=3, unique_by=lambda key: key[0])


class MemoryDocuments:
    """A document store for tests: one collection in memory."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    async def get_many(self, _name: str, ids: list[str], **_: Any) -> list[bytes | None]:
        return [self.bodies.get(item) for item in ids]


class Indexed:
    """An index over some documents, in one event loop."""

    def __init__(self, home: Path, name: str, contents: list[Document], runner: asyncio.Runner) -> None:
        self.documents = sorted(contents, key=lambda document: document["_id"].encode())
        self._runner = runner
        self._name = name
        store = MemoryDocuments()
        records = [make_record(document) for document in self.documents]
        store.bodies = {key.decode(): value[16:] for key, value in records}
        self._engine = TantivySearchEngine(home, store)  # type: ignore[arg-type]
        runner.run(self._fill(records))

    async def _fill(self, records: list[Any]) -> None:
        async with self._engine.create(self._name, collection="c", properties=PROPERTIES, settings={}) as writer:
            await writer.add(records)
            assert await writer.commit() == len(records)

    def search(self, query: str | None, **options: Any) -> Any:
        return self._runner.run(self._engine.search(self._name, SearchRequest(query=query, **options)))

    def ids(self, query: str | None, **options: Any) -> list[str]:
        return [hit.id for hit in self.search(query, **{"size": 1000, **options}).hits]

    def close(self) -> None:
        self._runner.run(self._engine.drop(self._name))
        self._runner.run(self._engine.close())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


def sorted_ids(documents: list[Document], keys: list[tuple[str, bool]]) -> list[str]:
    ordered = sorted(documents, key=lambda document: document["_id"].encode())
    for field, is_descending in reversed(keys):
        known = [document for document in ordered if values(document, field)]
        pick = max if is_descending else min
        known.sort(key=lambda document: pick(values(document, field)), reverse=is_descending)
        ordered = known + [document for document in ordered if not values(document, field)]
    return [document["_id"] for document in ordered]


def expected_facet(documents: list[Document], field: str, size: int) -> tuple[list[tuple[Any, int]], int, int]:
    counts = Counter(value for document in documents for value in values(document, field))
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:size]
    missing = sum(not values(document, field) for document in documents)
    return shown, sum(counts.values()), missing


def check_facet(facet: Facet, documents: list[Document], field: str, size: int) -> None:
    shown, total, missing = expected_facet(documents, field, size)
    assert [(term.term, term.count) for term in facet.terms] == shown
    assert (facet.total, facet.missing) == (total, missing)
    assert facet.other == total - sum(count for _, count in shown)


# No shrinking: every step would index again.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
QUICK = settings(max_examples=8, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(
    contents=st.lists(bodies, max_size=40),
    asked=st.lists(queries, min_size=10, max_size=30),
    ordered=st.lists(sorts, min_size=5, max_size=10),
)
def test_the_engine_agrees_with_python(
    home: Path, runner: asyncio.Runner, contents: list[Document], asked: list[Any], ordered: list[Any]
) -> None:
    documents = [{"_id": f"d{number}", **body} for number, body in enumerate(contents)]
    index = Indexed(home, "random", documents, runner)
    try:
        for query, holds in asked:
            wanted = [document for document in index.documents if holds(document)]
            assert sorted(index.ids(query)) == sorted(document["_id"] for document in wanted), query
            keys, size = ordered[len(query) % len(ordered)], 1 + len(query) % 5
            check_order_and_pages(index, query, wanted, keys, size)
            for field in ("k", "n", "f", "o.k"):
                found = index.search(query, facets=(FacetRequest(field),), facet_size=size, size=0)
                check_facet(found.facets[field], wanted, field, size)
    finally:
        index.close()


def check_order_and_pages(index: Indexed, query: str, wanted: list[Document], keys: list[Any], size: int) -> None:
    sort = tuple(SortKey(field, descending=is_descending) for field, is_descending in keys)
    expected = sorted_ids(wanted, keys)
    assert index.ids(query, sort=sort) == expected, (query, keys)
    paged = [
        item
        for start in range(0, len(wanted) + 1, size)
        for item in index.ids(query, sort=sort, offset=start, size=size)
    ]
    assert paged == expected, (query, keys)
    by_score = [
        hit for start in range(0, len(wanted) + 1, size) for hit in index.search(query, offset=start, size=size).hits
    ]
    assert [(hit.score, hit.id) for hit in by_score] == sorted(
        ((hit.score, hit.id) for hit in by_score), key=lambda hit: (-hit[0], hit[1].encode())
    )
    assert sorted(hit.id for hit in by_score) == sorted(expected)
    walked: list[str] = []
    token, is_last = None, False
    while not is_last:
        page = index.search(query, in_id_order=True, size=size, after=token)
        walked += [hit.id for hit in page.hits]
        token, is_last = page.next_page, page.next_page is None
        assert page.total == len(wanted)
    assert walked == [document["_id"] for document in wanted]


PRECISE = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1).map(lambda share: share / 3),
    st.sampled_from([0.42291764838969603, 5e-324, -2.2250738585072014e-308, 1e308, -1.7976931348623157e308, 0.1 + 0.2]),
)


@QUICK
@given(fractions_given=st.lists(PRECISE, min_size=20, max_size=200, unique=True))
def test_fractions_are_found_counted_and_sorted_to_their_last_digit(
    home: Path, runner: asyncio.Runner, fractions_given: list[float]
) -> None:
    documents: list[dict[str, Any]] = [
        {"_id": f"d{number:03}", "f": value} for number, value in enumerate(fractions_given)
    ]
    index = Indexed(home, "fractions", documents, runner)
    try:
        for document in documents[:20]:
            value = document["f"]
            equal = [other["_id"] for other in documents if other["f"] == value]
            above = [other["_id"] for other in documents if other["f"] > value]
            assert index.ids(f'f:"{value!r}"') == equal
            assert index.ids(f"f:>{value!r}") == above
            assert index.ids(f"f:[{value!r} TO {value!r}]") == equal
        size = len(documents)
        check_facet(index.search("*", facets=(FacetRequest("f"),), facet_size=size).facets["f"], documents, "f", size)
        ordered = sorted(documents, key=lambda document: document["f"])
        assert index.ids("*", sort=(SortKey("f"),)) == [document["_id"] for document in ordered]
    finally:
        index.close()


@pytest.fixture(scope="module")
def many(home: Path, runner: asyncio.Runner) -> Iterator[Indexed]:
    documents: list[Document] = [
        {
            "_id": f"{number:05}",
            "k": [f"key{number % 7}", f"key{number % 3}"] if number % 2 else f"key{number % 11}",
            "c": f"unique{number * 7919 % 3000:04}",
            "n": number % 13 if number % 5 else None,
            "t": f"word{number % 17} common",
            "o": [{"k": f"a{number % 4}", "n": number % 6}, {"k": f"b{number % 9}"}],
        }
        for number in range(3000)
    ]
    index = Indexed(home, "many", documents, runner)
    yield index
    index.close()


@pytest.mark.parametrize("size", [3, 10, 1000])
def test_facets_with_more_ties_than_are_shown_start_with_the_smallest_terms(many: Indexed, size: int) -> None:
    assert len(many.documents) > size + _MARGIN
    for query, wanted in (
        ("*", many.documents),
        ("t:word3", [document for document in many.documents if "word3 " in document["t"]]),
    ):
        request = FacetRequest("k", (FacetRequest("c"), FacetRequest("n")))
        found = many.search(query, facets=(FacetRequest("c"), request), facet_size=size, size=0)
        check_facet(found.facets["c"], wanted, "c", size)
        check_facet(found.facets["k"], wanted, "k", size)
        for term in found.facets["k"].terms:
            inside = [document for document in wanted if term.term in values(document, "k")]
            check_facet(term.inner["c"], inside, "c", size)
            check_facet(term.inner["n"], inside, "n", size)


def test_inner_facets_of_tied_terms_are_counted(many: Indexed) -> None:
    request = FacetRequest("c", (FacetRequest("k", (FacetRequest("n"),)),))
    found = many.search("*", facets=(request,), facet_size=5, size=0).facets["c"]
    for term in found.terms:
        inside = [document for document in many.documents if document["c"] == term.term]
        check_facet(term.inner["k"], inside, "k", 5)
        for inner_term in term.inner["k"].terms:
            check_facet(inner_term.inner["n"], inside, "n", 5)


@pytest.mark.parametrize(
    "keys",
    [
        [("n", False)],
        [("n", True), ("k", True)],
        [("k", False), ("n", True), ("c", True)],
        [("o.k", True), ("c", False)],
    ],
)
@pytest.mark.parametrize("query", ["*", "common", "t:word3 OR t:word5"])
def test_every_page_of_a_sort_fits_the_next(many: Indexed, keys: list[tuple[str, bool]], query: str) -> None:
    sort = tuple(SortKey(field, descending=is_descending) for field, is_descending in keys)
    is_all = "word" not in query
    wanted = [document for document in many.documents if is_all or {"word3", "word5"} & set(document["t"].split())]
    expected = sorted_ids(wanted, keys)
    for size in (7, 250):
        paged = [item for start in range(0, 500, size) for item in many.ids(query, sort=sort, offset=start, size=size)]
        assert paged[:500] == expected[: len(paged[:500])]
    assert many.ids(query, sort=sort, size=3000) == expected
