"""Equal documents are equal bytes, and the digest does not depend on the order."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.hub.documents.record import (
    Digest,
    canonical_json,
    content_hash,
    make_record,
    read_document,
    record_body,
    record_hash,
    record_key,
    say_documents,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(st.text(max_size=4).filter(lambda key: key != "_id"), values, max_size=5)


@given(document=documents, document_id=st.text(min_size=1, max_size=20))
def test_the_order_of_keys_does_not_matter(document: dict[str, Any], document_id: str) -> None:
    forwards = {"_id": document_id, **document}
    backwards = dict(reversed(forwards.items()))
    body = canonical_json(forwards)
    assert canonical_json(backwards) == body
    assert orjson.loads(body) == forwards
    assert body.startswith(b'{"_id":')
    record = make_record(forwards)
    assert (record_body(record), record_hash(record), read_document(record)) == (body, content_hash(body), forwards)
    assert record[0] == document_id.encode()


def test_keys_before_the_id_do_not_push_it_back() -> None:
    assert canonical_json({"A": 1, "_id": "x", "0": {"b": 1, "a": 2}}) == b'{"_id":"x","0":{"a":2,"b":1},"A":1}'
    assert canonical_json({"_id": "x"}) == b'{"_id":"x"}'


def test_only_ids_longer_than_a_key_can_be_are_shortened() -> None:
    assert record_key("é" * 255 + "x") == ("é" * 255 + "x").encode()
    long = record_key("x" * 512)
    assert len(long) < 511
    assert long != record_key("x" * 511 + "y")


@given(docs=st.lists(documents, max_size=8, unique_by=str), order=st.randoms())
def test_the_digest_depends_on_what_is_there_alone(docs: list[dict[str, Any]], order: Any) -> None:
    records = [make_record({"_id": str(number), **document}) for number, document in enumerate(docs)]
    first, second = Digest(), Digest()
    first.add(value for _, value in records)
    order.shuffle(records)
    middle = len(records) // 2
    second.add(value for _, value in records[:middle])
    second = Digest(second.count, second.hex())
    second.add(value for _, value in records[middle:])
    assert (first.hex(), first.count) == (second.hex(), second.count)
    first.remove(value for _, value in records[middle:])
    first.remove([])
    third = Digest()
    third.add(value for _, value in records[:middle])
    assert (first.hex(), first.count) == (third.hex(), third.count)
    third.join(second.count - first.count, digest_of([value for _, value in records[middle:]]))
    assert (third.hex(), third.count) == (second.hex(), second.count)


def digest_of(values: list[bytes]) -> str:
    digest = Digest()
    digest.add(values)
    return digest.hex()


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 documents"), (1, "1 document"), (2, "2 documents"), (44_997, "44,997 documents")]
)
def test_how_many_documents_there_are_is_said_as_people_say_it(count: int, told: str) -> None:
    assert say_documents(count) == told
