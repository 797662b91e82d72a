"""Recognising documents by their shape must teach the same as walking through each of them."""

import datetime as dt
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook_uploader.infer import Inference
from sourcebook_uploader.parse import RecordMaker
from sourcebook_uploader.shapes import Shape

DAY = "2024-01-31"
scalars = st.sampled_from(
    [1, 2**40, 1.5, -3.0, True, "word", "two words", " edge", DAY, "2024-02-30", "2024-01-31T10:00:00Z", None, ""]
)
LONG, LONG_TEXT, HUGE = "x" * 300, "two words " * 30, "x" * 33_000
strings = st.sampled_from(["word", "two words", "three more words", "", DAY, LONG, LONG_TEXT, HUGE])
lists = st.lists(st.sampled_from(["word", "two words", "", 1, DAY]), max_size=3) | st.lists(strings, max_size=3)
objects = st.dictionaries(st.sampled_from(["p", "q"]), scalars | lists, max_size=2)
documents = st.fixed_dictionaries(
    {"a": scalars}, optional={"s": strings, "b": scalars, "c": lists, "d": objects, 'k"y': scalars}
)


def learn_all(given: list[dict[str, Any]], *, with_shapes: bool) -> tuple[Any, list[bool]]:
    inference = Inference()
    if not with_shapes:
        inference._shapes_left = 0
    plain = [inference.learn(f"id{number}", document) for number, document in enumerate(given)]
    return inference.dump(), plain


@given(st.lists(documents, min_size=1, max_size=4), st.integers(1, 6))
def test_shapes_teach_the_same_as_walks(given: list[dict[str, Any]], repeats: int) -> None:
    repeated = given * repeats
    assert learn_all(repeated, with_shapes=True) == learn_all(repeated, with_shapes=False)


@pytest.mark.parametrize(
    "odd",
    [
        {"a": 1},
        {"a": math.nan},
        {"a": math.inf},
        {"a": "x"},
        {"i": 2**31},
        {"i": 1.0},
        {"i": True},
        {"b": 1},
        {"k": "two words"},
        {"d": "2024-02-01"},
        {"d": "2024-02-30"},
        {"d": "2024-02-01T10:00"},
        {"d": "word"},
        {"l": ["two words"]},
        {"l": [1]},
        {"l": "word"},
        {"o": {"x": "two words"}},
        {"o": {"x": "word", "y": 1}},
        {"o": {}},
        {"o": "word"},
        {"k": {"x": "y"}},
        {"k": LONG},
        {"k": HUGE},
        {"t": LONG},
        {"t": LONG_TEXT},
        {"t": "word"},
        {"t": "other words"},
        {"l": [LONG]},
        {"l": [HUGE]},
        {"k": None},
    ],
    ids=str,
)
def test_what_a_shape_does_not_say_is_still_learned(odd: dict[str, Any]) -> None:
    usual = {"a": 1.5, "i": 1, "b": True, "k": "word", "t": "two words", "d": DAY, "l": ["x"], "o": {"x": "y"}}
    given = [usual, usual, usual, {**usual, **odd}, usual]
    assert learn_all(given, with_shapes=True) == learn_all(given, with_shapes=False)


def test_documents_that_are_alike_are_recognised_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    accepts = Shape.accepts

    def record(self: Shape, document: dict[str, Any]) -> bool:
        answers.append(accepts(self, document))
        return answers[-1]

    monkeypatch.setattr(Shape, "accepts", record)
    dumped, _ = learn_all([{"_id": "x", "k": f"v{number}", "l": ["a", "b"]} for number in range(10)], with_shapes=True)
    assert answers == [True] * 9
    assert {key: child["count"] for key, child in dumped["root"]["children"].items()} == {"_id": 10, "k": 10, "l": 20}


@pytest.mark.parametrize("value", [dt.date(2024, 2, 1), dt.datetime(2024, 2, 1, tzinfo=dt.UTC)], ids=str)
def test_a_date_object_is_stored_as_its_copy_is(value: dt.date) -> None:
    make = RecordMaker(Inference(), drop_nan=False, warn=print).make
    for number in range(3):
        make({"_id": str(number), "d": DAY}, number)
    assert make({"_id": "x", "d": value}, 4) == make({"_id": "x", "d": value.isoformat()}, 5)


@pytest.mark.parametrize("kinds", [1, 2])
def test_no_document_is_compared_twice(monkeypatch: pytest.MonkeyPatch, kinds: int) -> None:
    compared = []
    accepts = Shape.accepts

    def record(self: Shape, document: dict[str, Any]) -> bool:
        compared.append(document["_id"])
        return accepts(self, document)

    monkeypatch.setattr(Shape, "accepts", record)
    make = RecordMaker(Inference(), drop_nan=False, warn=print).make
    for number in range(20):
        odd = {"k": None} if number % 5 == 4 else {"k": "word"}
        make({"_id": str(number), **odd, **({"other": 1} if number % kinds else {})}, number)
    assert len(compared) == len(set(compared)) >= 15


def test_a_shape_that_few_documents_have_is_given_up() -> None:
    inference = Inference()
    inference.learn("0", {"a": "word", "b": "two words"})
    for number in range(200):
        inference.learn(str(number), {"a": 1 if number % 2 else "word", "b": None if number % 3 else "two words"})
    assert not inference._shapes or all(shape.stays_useful() for shape in inference._shapes.values())
    assert inference.dump()["root"]["children"]["a"]["count"] == 201
