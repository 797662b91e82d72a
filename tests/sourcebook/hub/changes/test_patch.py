"""A patch leads from the old document to the new one, by the library's reading of RFC 6902, and says no more than it must."""

from typing import Any

import jsonpatch
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.hub.changes.patch import compare_documents
from sourcebook.hub.documents.record import canonical_json

scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0, "", "a", "1", "~/"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "b/c", "~d", ""]), inner),
    max_leaves=10,
)
documents = st.dictionaries(st.sampled_from(["A", "b", "c/d", "~e", "", "1"]), values)


def body(document: dict[str, Any]) -> bytes:
    return canonical_json({"_id": "x", **document})


@given(old=documents, new=documents)
def test_a_patch_leads_to_the_new_document(old: dict[str, Any], new: dict[str, Any]) -> None:
    difference = compare_documents(body(old), body(new))
    patched = jsonpatch.apply_patch(orjson.loads(body(old)), orjson.loads(difference.patch))
    assert canonical_json(patched) == body(new)
    assert bool(difference.operations) == (body(old) != body(new))
    assert set(difference.added) == new.keys() - old.keys()
    assert set(difference.removed) == old.keys() - new.keys()
    assert set(difference.changed) == {
        key for key in old.keys() & new.keys() if body({"k": old[key]}) != body({"k": new[key]})
    }


@given(document=documents, order=st.randoms())
def test_the_order_of_lists_may_be_ignored(document: dict[str, Any], order: Any) -> None:
    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffle(item) for key, item in value.items()}
        if isinstance(value, list):
            return order.sample([shuffle(item) for item in value], len(value))
        return value

    shuffled = body(shuffle(document))
    assert not any(compare_documents(body(document), shuffled, ignore_list_order=True))
    more = body({**shuffle(document), "more": [1]})
    assert compare_documents(body(document), more, ignore_list_order=True).added == ["more"]


@pytest.mark.parametrize(
    ("old", "new", "operations"),
    [
        ({"a": {"b": 1}}, {"a": {"b": True}}, [{"op": "replace", "path": "/a/b", "value": True}]),
        ({"a": [1, 2, 3]}, {"a": [1, 9, 2, 3]}, [{"op": "add", "path": "/a/1", "value": 9}]),
        (
            {"a": [1, 2, 3, 4]},
            {"a": [1, 4]},
            [{"op": "remove", "path": "/a/2"}, {"op": "remove", "path": "/a/1"}],
        ),
        ({"a": [{"x": 1, "y": [1]}]}, {"a": [{"x": 1, "y": []}]}, [{"op": "remove", "path": "/a/0/y/0"}]),
        ({"a/b~": 1}, {}, [{"op": "remove", "path": "/a~1b~0"}]),
    ],
    ids=["type", "inserted", "removed", "inside a list", "escaped"],
)
def test_a_patch_is_short(old: dict[str, Any], new: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    assert orjson.loads(compare_documents(body(old), body(new)).patch) == operations
