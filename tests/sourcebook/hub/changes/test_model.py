"""A change is complete or refused; two mappings are compared path by path."""

import pytest
from pydantic import ValidationError

from sourcebook.hub.changes.model import Change, ChangeKind, FieldChange, diff_properties
from sourcebook.hub.mappings.model import Properties

HASH = "0" * 32


@pytest.mark.parametrize(
    "contents",
    [
        {"op": "add"},
        {"op": "add", "hash": HASH, "patch": []},
        {"op": "add", "doc": {"_id": "a"}},
        {"op": "update", "hash": HASH},
        {"op": "update", "hash": HASH, "doc": {"_id": "a"}, "patch": []},
        {"op": "delete", "hash": HASH},
        {"op": "delete", "doc": {"_id": "a"}},
        {"op": "delete", "patch": []},
        {"op": "move", "hash": HASH, "patch": []},
        {"op": "delete", "more": 1},
        {"op": "add", "hash": "../../x", "doc": {"_id": "a"}},
    ],
    ids=str,
)
def test_a_change_that_is_not_complete_is_refused(contents: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Change.model_validate({"_id": "a", **contents})


def test_a_change_is_written_as_it_is_read() -> None:
    change = Change(op=ChangeKind.UPDATE, id="a", hash=HASH, patch=[{"op": "remove", "path": "/x"}])
    assert Change.model_validate_json(change.model_dump_json(by_alias=True, exclude_none=True)) == change


def test_mappings_are_compared_leaf_by_leaf() -> None:
    old: Properties = {
        "gone": {"type": "keyword"},
        "kept": {"properties": {"x": {"type": "keyword"}, "wider": {"type": "integer"}}},
        "turned": {"type": "keyword"},
        "group": {"properties": {"a": {"type": "date"}}},
        "list": {"properties": {"a": {"type": "date"}}},
    }
    new: Properties = {
        "kept": {"properties": {"x": {"type": "keyword"}, "wider": {"type": "long"}, "more": {"type": "text"}}},
        "turned": {"properties": {"inner": {"type": "keyword"}}},
        "group": {"type": "object", "properties": {"a": {"type": "date"}}},
        "list": {"type": "nested", "properties": {"a": {"type": "date"}}},
        "fresh": {"properties": {"b": {"type": "boolean"}}},
    }
    changes = diff_properties(old, new)
    assert changes.added == {
        "kept.more": {"type": "text"},
        "turned.inner": {"type": "keyword"},
        "fresh.b": {"type": "boolean"},
    }
    assert changes.removed == ["gone"]
    assert changes.changed == {
        "kept.wider": FieldChange(old={"type": "integer"}, new={"type": "long"}),
        "turned": FieldChange(old={"type": "keyword"}, new={"type": "object"}),
        "list": FieldChange(old={"type": "object"}, new={"type": "nested"}),
    }
    assert changes
    assert not diff_properties(new, new)
