"""Merging sorted streams equals merging dictionaries, whatever the blocks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.hub.documents.merge import deep_merge
from sourcebook.hub.documents.record import Record, content_hash, make_record, read_document, record_body, record_hash
from sourcebook_builder.build.merge import MergeSource, RootKeys, merge_deeply, merge_sources

Documents = dict[str, dict[str, Any]]

# Keys that sort on both sides of "_id", and keys that JSON escapes or that are not ASCII.
KEYS = st.sampled_from(["A", "b", "c", "_z", "0", "key1", "", '"', "\\", "\n", "\x7f", "é", "\U0001f600"])

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=4,
)
documents = st.dictionaries(
    st.text("abcdé", min_size=1, max_size=3),
    st.dictionaries(KEYS, values, max_size=4),
    max_size=12,
)


async def stream(docs: Documents, size: int) -> AsyncIterator[list[Record]]:
    records = sorted(make_record({"_id": key, **body}) for key, body in docs.items())
    for start in range(0, len(records), size):
        yield records[start : start + size]


def merge_all(sources: list[MergeSource]) -> list[Record]:
    async def main() -> list[Record]:
        return [record async for batch in merge_sources(sources) for record in batch]

    return asyncio.run(main())


@given(
    sources=st.lists(st.tuples(documents, st.booleans(), st.integers(1, 5)), min_size=1, max_size=4),
    roots=st.integers(1, 4),
)
def test_the_merged_stream_equals_merged_dictionaries(sources: list[tuple[Documents, bool, int]], roots: int) -> None:
    expected: Documents = {}
    dropped = []
    for number, (docs, deep, _) in enumerate(sources):
        dropped.append(0)
        for key, body in docs.items():
            if key in expected:
                expected[key] = deep_merge(expected[key], body) if deep else {**expected[key], **body}
            elif number < roots:
                expected[key] = body
            else:
                dropped[number] += 1
    opened = [
        MergeSource(str(number), stream(docs, size), is_root=number < roots, merges_deeply=deep)
        for number, (docs, deep, size) in enumerate(sources)
    ]
    merged = merge_all(opened)
    assert [read_document(record) for record in merged] == [
        {"_id": key, **expected[key]} for key in sorted(expected, key=str.encode)
    ]
    assert [source.dropped for source in opened] == dropped
    assert [source.read for source in opened] == [len(docs) for docs, _, _ in sources]


@given(sources=st.lists(documents, min_size=1, max_size=3))
def test_merged_records_are_canonical_and_hashed(sources: list[Documents]) -> None:
    for record in merge_all([MergeSource(str(n), stream(docs, 3)) for n, docs in enumerate(sources)]):
        assert record == make_record(orjson.loads(record_body(record)))
        assert record_hash(record) == content_hash(record_body(record))


def test_examples_of_dropped_documents_are_bounded() -> None:
    root = MergeSource("root", stream({"m": {}}, 1))
    other = MergeSource("other", stream({f"n{number:03}": {} for number in range(50)}, 7), is_root=False)
    assert len(merge_all([root, other])) == 1
    assert other.dropped == 50
    assert other.dropped_examples == [f"n{number:03}" for number in range(10)]


def test_documents_of_more_keys_than_a_struct_has_places_for_are_merged_alike() -> None:
    one, other = ({"a": {f"key{n:03}": n + start for n in range(start, start + 200)}} for start in (0, 100))
    records = merge_all([MergeSource("one", stream(one, 1)), MergeSource("other", stream(other, 1))])
    assert records == [make_record({"_id": "a", **one["a"], **other["a"]})]


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (RootKeys().overwrite, {"_id": "a", "list": [2], "object": {"y": 2}}),
        (merge_deeply, {"_id": "a", "list": [1, 2], "object": {"x": 1, "y": 2}}),
    ],
    ids=["overwrite", "deep"],
)
def test_two_documents_of_one_id(merge: Any, expected: dict[str, Any]) -> None:
    earlier = make_record({"_id": "a", "list": [1], "object": {"x": 1}})[1]
    later = make_record({"_id": "a", "list": [2], "object": {"y": 2}})[1]
    assert read_document((b"a", merge(earlier, later))) == expected


def test_a_step_touches_only_the_sources_that_have_something_there(monkeypatch: pytest.MonkeyPatch) -> None:
    touched = 0
    take = MergeSource.take_until

    def count(self: MergeSource, key: bytes) -> list[Record]:
        nonlocal touched
        touched += 1
        return take(self, key)

    monkeypatch.setattr(MergeSource, "take_until", count)
    many: list[dict[str, Any]] = [{f"{number:03}-{n}": {} for n in range(20)} for number in range(300)]
    records = merge_all([MergeSource(str(number), stream(docs, 5)) for number, docs in enumerate(many)])
    assert [key.decode() for key, _ in records] == sorted(key for docs in many for key in docs)
    assert touched <= 300 * 4  # the blocks: in each step every source was touched once


def test_many_sources_that_share_all_their_ids_are_merged_in_their_order() -> None:
    ids = [f"id{number:02}" for number in range(30)]
    sources = [
        MergeSource(str(place), stream({item: {f"k{place}": 1, "last": place} for item in ids}, 1 + place % 7))
        for place in range(50)
    ]
    records = merge_all(sources)
    expected = {**{f"k{place}": 1 for place in range(50)}, "last": 49}
    assert records == [make_record({"_id": item, **expected}) for item in ids]
