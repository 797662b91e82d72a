"""Inference of types: each rule, and that it equals a plain evaluation of all values at once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook_uploader import infer
from sourcebook_uploader.describe import count_fields, describe_properties, list_warnings
from sourcebook_uploader.fields import LONG_STRING, MAX_PHRASES
from sourcebook_uploader.infer import Inference
from sourcebook_uploader.validate import InvalidValueError

EXACT = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
KEYWORD = {**EXACT, "copy_to": "all"}
WORDS = {"type": "text", "copy_to": "all"}


def learn(*documents: dict[str, Any], inference: Inference | None = None) -> Inference:
    inference = inference or Inference()
    for number, document in enumerate(documents):
        inference.learn(f"id{number}", {"_id": f"id{number}", **document})
    return inference


def type_of(*values: Any) -> str:
    properties = describe_properties(learn(*({"a": value} for value in values)))
    return str(properties["a"]["type"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1], "integer"),
        ([-(2**31), 2**31 - 1], "integer"),
        ([1, 2**31], "long"),
        ([2**40, 1], "long"),
        ([1, 2.5], "float"),
        ([2.5, 2**40], "float"),
        ([True], "boolean"),
        ([True, 1], "keyword"),
        (["abc"], "keyword"),
        ([" abc "], "keyword"),
        ([""], "keyword"),
        (["a b"], "text"),
        (["a", "b c", "d"], "text"),
        (["a b", "c"], "text"),
        (["2024-02-29"], "date"),
        (["2023-02-29"], "keyword"),
        (["2024-01-02T03:04:05.678Z"], "date"),
        (["2024-01-02T03:04+01:00"], "date"),
        (["2024-01-02T25:00"], "keyword"),
        (["2024-01-02 03:04"], "date"),
        (["2023-05-01 10:00:00"], "date"),
        (["2023-05-01 10:00:00.123456+00:00", "2023-05-01"], "date"),
        (["2023-05-01 10:00:00.1"], "text"),  # OpenSearch counts the digits behind a space
        (["2023-05-01 10:00:00", "unknown"], "keyword"),
        (["unknown", "2023-05-01 10:00:00"], "keyword"),
        (["2023-05-01 10:00:00", "last May"], "text"),
        (["last May", "2023-05-01 10:00:00"], "text"),
        (["2023-05-01T10:00:00+99:00"], "keyword"),
        (["2023-05-01T10:00:00+18:00"], "date"),
        (["2023-05-01T10:00:00+18:30"], "keyword"),
        (["2024"], "keyword"),
        (["20240102"], "keyword"),
        (["2024-W01-2"], "keyword"),
        (["2024-01-02", "unknown"], "keyword"),
        (["unknown", "2024-01-02"], "keyword"),
        (["2024-01-02", "un known"], "text"),
        (["2024-01-02", 5], "keyword"),
        ([1, "a"], "keyword"),
        ([[1, 2], 3], "integer"),
        ([[["a b"]]], "text"),
        ([None, 1, [], {}, [None]], "integer"),
    ],
    ids=str,
)
def test_the_type_of_values(values: list[Any], expected: str) -> None:
    assert type_of(*values) == expected


def test_objects_and_lists_of_objects_have_properties() -> None:
    inference = learn({"a": {"b": 1}}, {"a": [{"b": 2, "c": "x"}, {}]}, {"a": []})
    assert describe_properties(inference) == {"a": {"properties": {"b": {"type": "integer"}, "c": KEYWORD}}}
    assert count_fields(inference) == {"a": 2, "a.b": 2, "a.c": 1}


def test_empty_values_say_nothing() -> None:
    assert describe_properties(learn({"a": None, "b": [], "c": {}, "d": {"e": None}})) == {"d": {"properties": {}}}


@pytest.mark.parametrize(("first", "second"), [({"b": 1}, "x"), ("x", {"b": 1}), ([{"b": 1}], [2]), (True, [{"b": 1}])])
def test_an_object_here_and_a_value_there_is_stored_and_not_indexed(first: Any, second: Any) -> None:
    inference = learn({"x": {"a": first}}, {"x": {"a": second, "c": 1}})
    assert describe_properties(inference) == {
        "x": {"properties": {"a": {"type": "object", "enabled": False}, "c": {"type": "integer"}}}
    }
    [warning] = list_warnings(inference)
    assert "Field 'x.a' is an object in some documents and a value in others" in warning
    assert "'id0'" in warning
    assert "'id1'" in warning


def test_a_column_of_categories_can_be_searched_by_word_and_counted_whole() -> None:
    category = {**WORDS, "fields": {"keyword": EXACT}}
    assert describe_properties(learn({"a": "breast cancer"}, {"a": "asthma"})) == {"a": category}
    assert describe_properties(learn({"a": "asthma"}, {"a": ["breast cancer"]})) == {"a": category}
    assert describe_properties(learn({"a": "breast cancer " + "x" * 100})) == {"a": WORDS}


def test_many_different_texts_are_no_categories() -> None:
    many = [{"a": f"number {number}"} for number in range(MAX_PHRASES)]
    assert "fields" in describe_properties(learn(*many, *many))["a"]
    inference = learn(*many, {"a": "one more"}, *many)
    assert describe_properties(inference) == {"a": WORDS}
    assert count_fields(inference) == {"a": 2 * MAX_PHRASES + 1}


def test_the_phrases_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "_MAX_PHRASES", 10)
    inference = learn(*({f"k{number}": f"number {number}"} for number in range(20)))
    assert sum(len(field.phrases) for field in inference.fields()) == 10


def test_categories_of_two_processes_are_counted_together() -> None:
    parts = [learn(*({"a": f"{side} {number}"} for number in range(600))) for side in ("left", "right")]
    merged = Inference()
    for part in parts:
        merged.absorb(orjson.loads(orjson.dumps(part.dump())))
    assert describe_properties(merged) == {"a": WORDS}
    assert not any(field.phrases for field in merged.fields())


def test_a_value_that_no_term_can_hold_is_named_at_the_upload() -> None:
    titin = "M" * 34_350
    [warning] = list_warnings(learn({"p": "MKV"}, {"p": titin}, {"p": titin}))
    assert warning.startswith("Field 'p' has values of more than 32,766 bytes (the first in 'id1')")
    assert list_warnings(learn({"p": "M" * 32_766}, {"p": "Ä" * 16_383})) == []
    assert len(list_warnings(learn({"p": "MKV"}, {"p": "Ä" * 16_384}))) == 1
    assert len(list_warnings(learn({"p": ["MKV"]}, {"p": ["MKV", titin]}))) == 1
    assert list_warnings(learn({"p": "two words"}, {"p": titin})) == []  # a text is indexed word by word


@pytest.mark.parametrize("words", ["x", "two words", "many different " * 8], ids=["keyword", "category", "text"])
def test_long_strings_are_noticed_however_common_the_short_ones_are(words: str) -> None:
    inference = learn(*[{"a": words}] * 3)
    assert not inference.root.children["a"].seen & LONG_STRING
    assert describe_properties(inference)["a"]["copy_to"] == "all"
    learn({"a": words}, {"a": "y" * 257}, {"a": words}, inference=inference)
    assert inference.root.children["a"].seen & LONG_STRING
    assert "copy_to" not in describe_properties(inference)["a"]  # not searched by default
    assert count_fields(inference) == {"a": 6}


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("known", [0.5, 1, "x", True, {"b": 1.5}, None], ids=str)
@pytest.mark.parametrize("place", ["field", "list", "object"])
def test_a_number_that_json_cannot_hold_is_never_plain(odd: float, known: Any, place: str) -> None:
    def make(value: Any) -> dict[str, Any]:
        return {"a": value if place == "field" else [value] if place == "list" else {"c": value}}

    inference = learn(make(known), make(known))
    assert not inference.learn("odd", {"_id": "odd", **make(odd)})
    assert not inference.learn_new("odd", {"_id": "odd", **make(odd)})


@pytest.mark.parametrize("known", [1, 2**40, 0.5, "x"], ids=str)
@pytest.mark.parametrize("odd", [2**63, -(2**63) - 1], ids=str)
def test_an_integer_that_64_bits_cannot_hold_is_never_plain(odd: int, known: Any) -> None:
    for document in ({"a": odd}, {"a": [odd]}):
        inference = learn({"a": known}, {"a": [known]})
        assert not inference.learn("odd", {"_id": "odd", **document})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"Ab": 1}, "'Ab' has upper case"),
        ({"a b": 1}, "'a b' has white space"),
        ({"a-b": 1}, "'a-b' has characters other"),
        ({"x": {"é": 1}}, "'x.é' has characters other"),
        ({"a": [1, "x"]}, "'a' has several types (an integer in 'id0', a string in 'id0'); it is mapped as keyword"),
    ],
)
def test_warnings_name_the_field(document: dict[str, Any], expected: str) -> None:
    [warning] = list_warnings(learn(document))
    assert expected in warning


def test_good_keys_and_widened_types_are_no_warning() -> None:
    assert list_warnings(learn({"a_1.b": [1, 2.5, 2**40]}, {"c": ["x", "y z", "2024-01-02"]})) == []


def test_warnings_are_bounded() -> None:
    [warning] = list_warnings(learn({f"K{number}": 1 for number in range(500)}))
    assert warning.startswith("Field 'K0' has upper case in its key. The same goes for 'K1', 'K2', ")
    assert warning.endswith("'K20' and 479 more.")
    assert len(list_warnings(learn({"A": 1, "B": [1, "x"], "c": [2, "y"]}))) == 2  # one line for each kind


def test_ids_as_keys_do_not_fill_the_memory() -> None:
    documents = ({"name": "x", "genes": {f"gene{n}": {"start": n, "end": n}}} for n in range(20_000))
    inference = learn(*documents)
    assert describe_properties(inference) == {"name": KEYWORD, "genes": {"type": "object", "enabled": False}}
    assert count_fields(inference) == {"name": 20_000, "genes": 20_000}
    [warning] = list_warnings(inference)
    assert "'genes' has" in warning
    assert sum(1 for _ in inference.fields()) < infer.MAX_FIELDS


def test_too_many_root_keys_keep_the_first() -> None:
    inference = learn({"o": {"x": 1}}, *({f"k{n}": n} for n in range(6000)), {"o": {"x": 2, "y": 1}, "k1": 1})
    properties = describe_properties(inference)
    assert len(properties) == infer.MAX_FIELDS - 1
    assert inference.notes
    copy = Inference()
    copy.absorb(inference.dump())
    assert describe_properties(copy) == properties


def test_nan_below_a_closed_object_is_still_found() -> None:
    inference = learn({f"k{n}": n for n in range(6000)}, *({"o": {f"g{n}": n}} for n in range(6000)))
    assert not inference.learn("id", {"_id": "id", "o": {"z": {"y": [float("nan")]}}})


@pytest.mark.parametrize("inside", [{"new": float("nan")}, {"new": (1,)}, {7: 1}], ids=str)
def test_what_is_in_a_closed_object_is_still_checked(inside: dict[Any, Any]) -> None:
    inference = learn(*({"o": {f"g{n}": n}} for n in range(6000)))
    assert inference.learn("fine", {"_id": "fine", "o": {"new": 1}})
    assert not inference.learn("odd", {"_id": "odd", "o": inside})


@pytest.mark.parametrize("odd", [{7: 1}, {"new": float("inf")}], ids=str)
def test_what_is_beyond_the_root_keys_is_still_checked(odd: dict[Any, Any]) -> None:
    inference = learn(*({f"k{n}": n} for n in range(6000)))
    assert not inference.learn("odd", {"_id": "odd", **odd})


@pytest.mark.parametrize("odd", [(1, 2), Decimal("1.5"), {1, 2}], ids=str)
def test_a_value_that_has_to_be_copied_is_not_plain(odd: Any) -> None:
    for document in ({"a": odd}, {"a": [odd]}, {"a": {"b": odd}}):
        assert not learn().learn("odd", {"_id": "odd", **document})


def test_nesting_is_bounded() -> None:
    value: Any = 1
    for _ in range(101):
        value = {"a": value}
    with pytest.raises(InvalidValueError, match="nested more than 100"):
        learn(value)
    learn(value["a"])


def test_an_object_in_one_process_and_a_value_in_another_is_not_indexed() -> None:
    left, right = learn({"a": 1}), learn({"a": {"b": 1}})
    left.absorb(right.dump())
    assert describe_properties(left) == {"a": {"type": "object", "enabled": False}}
    assert len(list_warnings(left)) == 1


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["a", "a b", " a", "2024-01-02", "2024-01-02T03:04:05Z", "2024-13-01", ""]),
)
keys = st.sampled_from(["k1", "k2", "k3"])
leaves = st.dictionaries(
    keys, st.one_of(scalars, st.lists(st.one_of(scalars, st.lists(scalars, max_size=2)), max_size=3))
)
inner = st.dictionaries(st.sampled_from(["o1", "o2"]), st.one_of(leaves, st.lists(leaves, max_size=2)), max_size=2)
some_documents = st.lists(st.builds(lambda a, b: {**a, **b}, leaves, inner), max_size=8)


def evaluate(documents: list[dict[str, Any]]) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Collect the types of all values, the straightforward way."""
    types: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for path, value in [pair for document in documents for key in document for pair in visit(key, document[key])]:
        types[path].add("object" if isinstance(value, dict) else name_type(value))
        counts[path] += 1
    return types, dict(counts)


def visit(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from visit(path, item)
    elif value is not None and value != {}:
        yield path, value
        if isinstance(value, dict):
            for key, item in value.items():
                yield from visit(f"{path}.{key}", item)


def name_type(value: Any) -> str:
    if isinstance(value, str):
        if re.fullmatch(r"\S.* .*\S", value):
            return "text"
        return "date" if re.fullmatch(r"2024-(0\d|1[0-2])-\d\d(T.*)?", value) else "keyword"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "float"
    return "integer" if -(2**31) <= value < 2**31 else "long"


def widest(types: set[str]) -> str:
    if "text" in types:
        return "text"
    groups = [types & {"keyword", "date"}, types & {"integer", "long", "float"}, types & {"boolean"}]
    if "keyword" in types or len([group for group in groups if group]) > 1:
        return "keyword"
    return next(name for name in ("date", "boolean", "float", "long", "integer") if name in types)


def flatten(properties: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for key, spec in properties.items():
        flat[prefix + key] = spec.get("type", "object")
        flat |= flatten(spec.get("properties", {}), f"{prefix}{key}.")
    return flat


@given(some_documents)
def test_inference_equals_the_straightforward_evaluation(documents: list[dict[str, Any]]) -> None:
    types, counts = evaluate(documents)
    inference = learn(*documents)
    assert count_fields(inference) == counts
    assert flatten(describe_properties(inference)) == {
        path: "object" if "object" in found else widest(found) for path, found in types.items()
    }


@settings(max_examples=50)
@given(some_documents, st.integers(0, 8))
def test_two_processes_infer_what_one_does(documents: list[dict[str, Any]], cut: int) -> None:
    merged = Inference()
    for part in (documents[:cut], documents[cut:]):
        merged.absorb(orjson.loads(orjson.dumps(learn(*part).dump())))
    alone = learn(*documents)
    assert flatten(describe_properties(merged)) == flatten(describe_properties(alone))
    assert count_fields(merged) == count_fields(alone)


def test_a_dotted_key_is_the_same_field_as_a_nested_one() -> None:
    inference = learn({"a.b": 1, "a": {"b": "x"}}, {"c.d": 1.5}, {"e": 1, "e.f": 2})
    assert describe_properties(inference) == {
        "a": {"properties": {"b": KEYWORD}},
        "c": {"properties": {"d": {"type": "float"}}},
        "e": {"type": "object", "enabled": False},
    }
    assert count_fields(inference) == {"a": 1, "a.b": 2, "c": 1, "c.d": 1, "e": 2, "e.f": 1}
    several, mixed = list_warnings(inference)
    assert several == (
        "Field 'a.b' has several types (an integer in 'id0', a string in 'id0'); it is mapped as keyword."
    )
    assert "Field 'e' is an object in some documents and a value in others" in mixed
