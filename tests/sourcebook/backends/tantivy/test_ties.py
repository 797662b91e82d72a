"""Hits with equal scores or sort values come in `_id` order, however the documents lie in tantivy's segments."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tantivy import Query

from sourcebook.backends.tantivy import sort as tantivy_sort
from sourcebook.backends.tantivy import ties as tantivy_ties
from sourcebook.backends.tantivy.search import TantivySearchEngine
from sourcebook.backends.tantivy.writer import TantivyIndexWriter
from sourcebook.hub.documents.record import make_record
from sourcebook.language.requests import Hit, SearchRequest, SortKey

PROPERTIES: dict[str, dict[str, Any]] = {
    "kind": {"type": "keyword", "normalizer": "keyword_lowercase_normalizer", "copy_to": "all"},
    "tags": {"type": "keyword"},
    "text": {"type": "text", "copy_to": "all"},
    "number": {"type": "integer"},
}
WORDS = ["red", "green", "blue", "grey"]
COUNT = 300
SCORE, KIND, NUMBER = SortKey("_score", descending=True), SortKey("kind"), SortKey("number", descending=True)


def make_documents() -> list[dict[str, Any]]:
    rng = random.Random(7)  # noqa: S311 - no secret
    return [
        {
            "_id": f"d{number:04}",
            "kind": f"k{number % 5}",
            "tags": rng.sample(WORDS, rng.randint(0, 3)),
            "text": " ".join(rng.choices(WORDS, k=rng.randint(1, 6))) + (" rare" if number > COUNT - 10 else ""),
            "number": number % 7,
        }
        for number in range(COUNT)
    ]


class Shuffled:
    """Stands in front of tantivy's writer: documents go into several segments, in any order."""

    def __init__(self, writer: Any, seed: int) -> None:
        self._writer = writer
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._added: list[bytes] = []

    def add_json(self, document: bytes) -> None:
        self._added.append(document)

    def commit(self) -> None:
        self._random.shuffle(self._added)
        for segment in range(5):
            for document in self._added[segment::5]:
                self._writer.add_json(document)
            self._writer.commit()

    def wait_merging_threads(self) -> None:
        self._writer.wait_merging_threads()


class MemoryDocuments:
    async def get_many(self, _name: str, ids: list[str], **_: Any) -> list[bytes]:
        return [b"{}" for _ in ids]


class Indices:
    """The same documents in indices that differ in where they lie."""

    def __init__(self, home: Path) -> None:
        self._runner = asyncio.Runner()
        self._engine = TantivySearchEngine(home, MemoryDocuments())  # type: ignore[arg-type]
        for seed in (1, 2):
            with pytest.MonkeyPatch.context() as patch:
                opened = TantivyIndexWriter.open

                def open_shuffled(writer: Any, opened: Any = opened, seed: int = seed) -> None:
                    opened(writer)
                    writer._writer = Shuffled(writer._writer, seed)

                patch.setattr(TantivyIndexWriter, "open", open_shuffled)
                self._runner.run(self._fill(f"index{seed}"))

    async def _fill(self, name: str) -> None:
        async with self._engine.create(name, collection="c", properties=PROPERTIES, settings={}) as writer:
            await writer.add([make_record(document) for document in make_documents()])
            assert await writer.commit() == COUNT

    def hits(self, query: str | None, *, seed: int = 1, size: int = COUNT, **options: Any) -> list[Hit]:
        request = SearchRequest(query=query, size=size, **options)
        return self._runner.run(self._engine.search(f"index{seed}", request)).hits

    def pages(self, query: str | None, size: int, **options: Any) -> list[str]:
        starts = range(0, COUNT, size)
        return [hit.id for start in starts for hit in self.hits(query, size=size, offset=start, seed=2, **options)]

    def close(self) -> None:
        self._runner.run(self._engine.close())
        self._runner.close()


@pytest.fixture(scope="module")
def indices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indices]:
    made = Indices(tmp_path_factory.mktemp("ties"))
    yield made
    made.close()


@pytest.fixture(params=["as it is", "tight"])
def _limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that every tie is cut, and that a range has more hits than are looked at."""
    if request.param == "tight":
        monkeypatch.setattr(tantivy_ties, "_MARGIN", 1)
        monkeypatch.setattr(tantivy_ties, "_AT_ONCE", 4)
        monkeypatch.setattr(tantivy_sort, "_MAX_SCORE_TIES", 20)


EVERYTHING = ["*", "*:*", "_id:*", "_exists_:_id", "(*)", "* OR text:red", "* *", "* AND *", "(* OR *)^2", "+* kind:k?"]
QUERIES = [
    "*",
    "kind:k3",
    "kind:k3 OR text:rare",
    "tags:red",
    "number:[2 TO 4]",
    "text:red",
    "text:(red OR green OR blue)",
    "red AND green AND blue",
    "_exists_:tags",
    "NOT text:red",
    "kind:k*",
    "kind:k1^3 OR number:>5",
]


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("query", QUERIES)
def test_hits_with_one_score_come_in_id_order_on_every_page(indices: Indices, query: str) -> None:
    hits = indices.hits(query)
    best = [(-(hit.score or 0), hit.id) for hit in hits]
    assert best == sorted(best)
    assert best == [(-(hit.score or 0), hit.id) for hit in indices.hits(query, seed=2)]
    for size in (7, 100):
        assert indices.pages(query, size) == [hit.id for hit in hits]


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("query", EVERYTHING)
def test_a_query_that_finds_everything_has_hits_on_every_page(indices: Indices, query: str) -> None:
    everything = [document["_id"] for document in make_documents()]
    assert sorted(hit.id for hit in indices.hits(query)) == everything
    for options in ({}, {"explain": True}, {"filter": "*"}, {"filter": "_id:*", "post_filter": "* OR text:red"}):
        assert sorted(indices.pages(query, 7, **options)) == everything
        assert all((hit.score or 0) > 0 for hit in indices.hits(query, size=3, **options))


def test_hits_whose_score_is_rounded_otherwise_within_a_range_are_found(
    indices: Indices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def round_down(index: Any, query: Any, low: int, high: int) -> Any:
        return Query.boost_query(within(index, query, low, high), 0.999)

    expected = [hit.id for hit in indices.hits("kind:k3")]
    within = tantivy_ties._within
    monkeypatch.setattr(tantivy_ties, "_MARGIN", 1)
    monkeypatch.setattr(tantivy_ties, "_within", round_down)
    assert [hit.id for hit in indices.hits("kind:k3", size=5, offset=3)] == expected[3:8]


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("query", ["text:red OR kind:k3", "kind:k3", "text:(red OR green) AND number:>2"])
@pytest.mark.parametrize(
    "keys",
    [(SCORE,), (SCORE, KIND), (SCORE, NUMBER, KIND), (KIND, SCORE), (NUMBER, SCORE, KIND), (SortKey("_score"), NUMBER)],
    ids=lambda keys: " ".join(key.field for key in keys),
)
def test_scores_are_a_sort_key_like_any_other(indices: Indices, query: str, keys: tuple[SortKey, ...]) -> None:
    documents = {document["_id"]: document for document in make_documents()}
    scores = {hit.id: hit.score or 0.0 for hit in indices.hits(query)}

    def rank(document_id: str) -> list[Any]:
        values = [scores[document_id] if key.field == "_score" else documents[document_id][key.field] for key in keys]
        return [-value if key.descending else value for key, value in zip(keys, values, strict=True)] + [document_id]

    expected = sorted(scores, key=rank)
    assert [hit.id for hit in indices.hits(query, sort=keys)] == expected
    for size in (9, 100):
        assert indices.pages(query, size, sort=keys) == expected


def test_a_score_that_only_the_last_documents_have_is_found(indices: Indices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tantivy_ties, "_MARGIN", 1)
    hits = indices.hits("text:rare^0 OR kind:k*^0", size=5)
    assert [hit.id for hit in hits] == [f"d{number:04}" for number in range(5)]
    last = indices.hits("kind:k* OR (text:rare^0 AND number:*^9)", size=3)
    assert [hit.id for hit in last] == [f"d{number:04}" for number in range(COUNT - 9, COUNT - 6)]
