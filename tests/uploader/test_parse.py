"""What the parser process refuses, warns of, converts and reports, without starting a process."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from textwrap import dedent
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.errors import DocumentError, DuplicateId, SourcebookError
from sourcebook.hub.documents.record import make_record, read_document
from sourcebook_uploader.infer import Inference
from sourcebook_uploader.parse import REPORTED_ERRORS, ParserSpec, RecordMaker, run_parser
from sourcebook_uploader.validate import RESERVED_KEYS, InvalidValueError, check_id, is_plain, to_plain


def parse(folder: Path, parser: str, **spec: Any) -> list[dict[str, Any]]:
    """Run a parser in this process and return its reports."""
    (folder / "parser.py").write_text(dedent(parser))
    reports: list[dict[str, Any]] = []
    place = str(folder)
    run_parser(
        ParserSpec(folder=place, parser="parser:load_data", data_folder=place, scratch=place, **spec), reports.append
    )
    return reports


def refuse_warning(where: str, what: str) -> None:
    pytest.fail(f"{where}: {what}")


def make(document: Any, *, drop_nan: bool = False) -> tuple[bytes, dict[str, Any]]:
    maker = RecordMaker(Inference(drop_nan=drop_nan), drop_nan=drop_nan, warn=refuse_warning)
    record = maker.make(document, 1)
    return record[0], read_document(record)


@pytest.mark.parametrize(
    ("document", "kind", "expected"),
    [
        ("{'a': 1}", DocumentError, "Document 3 has no _id"),
        ("{'_id': ''}", DocumentError, "Document 3 has an empty _id"),
        ("{'_id': 'x' * 600}", DocumentError, "600 bytes"),
        ("{'_id': ['x']}", DocumentError, "a list"),
        ("{'_id': True}", DocumentError, "a bool"),
        ("{'_id': 'x', 'a': {'b': [{}, {'c': float('nan')}]}}", DocumentError, "(_id 'x'): a.b[1].c is nan"),
        ("{'_id': 'x', 'a': [float('-inf')]}", DocumentError, "a[0] is -inf"),
        ("{'_id': 'x', 'a': b'raw'}", DocumentError, "a is a bytes"),
        ("{'_id': 'x', 'a': object()}", DocumentError, "a is an object"),
        ("{'_id': 'x', 'a': {1: 2}}", DocumentError, "a has the key 1 (int)"),
        ("{'_id': 'x', 'a': {'': 2}}", DocumentError, "a has the key ''"),
        ("{'_id': 'x', 'a': [2**63]}", DocumentError, "a[0] is 9223372036854775808; whole numbers go"),
        ("{'_id': 'x', 'a': '\\ud800'}", DocumentError, "a has half a surrogate pair"),
        ("{'_id': '\\ud800'}", DocumentError, "half a surrogate pair"),
        ("['x']", DocumentError, "Document 3 is a list"),
        ("None", DocumentError, "Document 3 is a NoneType"),
        ("{'_id': 'one'}", DuplicateId, "_id 'one' more than once (documents 1, 3)"),
    ],
)
def test_a_bad_document_is_named(tmp_path: Path, document: str, kind: type[SourcebookError], expected: str) -> None:
    reports = parse(
        tmp_path,
        f"""
        def load_data(data_folder):
            yield {{"_id": "one", "same": "x"}}
            yield {{"_id": "two", "same": "x"}}
            yield {document}
    """,
    )
    assert expected in reports[-1]["message"]
    assert REPORTED_ERRORS[reports[-1]["code"]] is kind


@pytest.mark.parametrize(
    "value", ["a = []; a.append(a)", "a = {}; a['a'] = a", "a = []\n    for _ in range(300): a = [a]"]
)
def test_a_document_that_is_too_deep_is_refused(tmp_path: Path, value: str) -> None:
    reports = parse(tmp_path, f"def load_data(data_folder):\n    {value}\n    yield {{'_id': 'x', 'a': a}}\n")
    assert reports[-1]["code"] == "document"
    assert "nested" in reports[-1]["message"]


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Scalar:
    """Looks like a numpy scalar."""

    __module__ = "numpy"

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value


class datetime64(Scalar):  # noqa: N801 - numpy's name
    __module__ = "numpy"

    def __str__(self) -> str:
        return str(self.value)


class longdouble(Scalar):  # noqa: N801 - numpy's name
    __module__ = "numpy"

    def tolist(self) -> Any:
        return self


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2024-01-02T03:04:05+00:00"),
        ((1, (2, 3)), [1, [2, 3]]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, 10}), [10, 2]),
        (Decimal("1.5"), 1.5),
        (Level.HIGH, 3),
        (Text("x"), "x"),
        (Scalar(5), 5),
        (Scalar([1.5, 2.5]), [1.5, 2.5]),
        (datetime64("2024-01-02"), "2024-01-02"),
        ({Text("k"): [{"d": dt.date(2024, 1, 2)}]}, {"k": [{"d": "2024-01-02"}]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_become_json(value: Any, expected: Any) -> None:
    _, document = make({"_id": "x", "a": value, "b": {"c": value}})
    assert document == {"_id": "x", "a": expected, "b": {"c": expected}}
    assert not is_plain(value)


@pytest.mark.parametrize(
    "value", [Color.RED, 1j, longdouble(1), range(3), dt.time(1), b"x", bytearray(b"x"), math.sqrt]
)
def test_other_objects_are_refused(value: Any) -> None:
    with pytest.raises(DocumentError, match=r"\(_id 'x'\): a\[0\] is an? .*, which JSON cannot hold"):
        make({"_id": "x", "a": [value]})


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, Scalar(math.nan), datetime64("NaT"), Decimal("NaN")],
    ids=lambda value: type(value).__name__,
)
def test_nan_is_refused_or_dropped(value: Any) -> None:
    with pytest.raises(DocumentError, match=r'a is (nan|inf).*"nan": "drop"'):
        make({"_id": "x", "a": value})
    assert make({"_id": "x", "a": value, "b": [value, 1]}, drop_nan=True)[1] == {"_id": "x", "b": [1]}


@pytest.mark.parametrize("value", [0, 17, -5, 2**70])
def test_a_number_as_id_is_warned_of_once(value: int) -> None:
    warnings: list[str] = []
    maker = RecordMaker(Inference(), drop_nan=False, warn=lambda _, text: warnings.append(text))
    original = {"_id": value, "a": 1}
    if value >= 2**63:
        with pytest.raises(DocumentError, match="_id is 1180591620717411303424; whole numbers go from"):
            maker.make(original, 1)
        return
    records = [maker.make(original, number) for number in (1, 2)]
    assert [record[0] for record in records] == [str(value).encode()] * 2
    assert len(warnings) == 1
    assert original == {"_id": value, "a": 1}


def test_ids_of_512_bytes_are_allowed() -> None:
    assert check_id("é" * 256, 1) == "é" * 256
    key, document = make({"_id": "é" * 256})
    assert len(key) < 512
    assert document == {"_id": "é" * 256}
    with pytest.raises(DocumentError, match="513 bytes"):
        make({"_id": "é" * 256 + "x"})


def test_subclasses_of_dict_are_documents() -> None:
    class Ordered(dict[str, Any]):
        pass

    assert make(Ordered(_id="x", a=Ordered(b=1)))[1] == {"_id": "x", "a": {"b": 1}}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1).filter(str.strip), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_json_values_stay_as_they_are(value: Any) -> None:
    assert is_plain(value)
    assert to_plain(value) == value
    assert orjson.dumps(to_plain(value)) == orjson.dumps(value)


def may_be_root(key: str) -> bool:
    return bool(key.strip()) and key.partition(".")[0] not in {"_id", *RESERVED_KEYS}


@given(
    st.dictionaries(st.text(min_size=1).filter(may_be_root), json_values, max_size=5), st.text(min_size=1, max_size=100)
)
def test_the_canonical_json_of_a_record_is_the_document(fields: dict[str, Any], identifier: str) -> None:
    document = {**fields, "_id": identifier}
    maker = RecordMaker(Inference(), drop_nan=False, warn=refuse_warning)
    record = maker.make(document, 1)
    assert read_document(record) == document
    assert record == make_record({"_id": identifier, **dict(reversed(fields.items()))})


def test_reports_tell_runs_and_the_end(tmp_path: Path) -> None:
    reports = parse(
        tmp_path,
        """
        def load_data(data_folder):
            for number in range(1000):
                yield {"_id": f"{number:04d}"}
        """,
        run_bytes=50_000,
    )
    runs = [report for report in reports if report["kind"] == "run"]
    assert len(runs) > 2
    assert sum(run["total"] for run in runs) == 1000
    assert bytes.fromhex(runs[0]["first"]) == b"0000"
    assert reports[-1]["kind"] == "done"
    assert reports[-1]["documents"] == 1000


def test_a_disk_that_is_full_is_no_fault_of_the_parser(tmp_path: Path) -> None:
    reports = parse(
        tmp_path, "def load_data(folder):\n    __import__('shutil').rmtree(folder)\n    yield {'_id': 'a'}\n"
    )
    assert reports[-1]["code"] == "engine_unavailable"


def test_paths_of_invalid_values_are_kept_apart_from_reasons() -> None:
    with pytest.raises(InvalidValueError) as caught:
        to_plain({"a": [{"b": b""}]})
    assert (caught.value.path, caught.value.reason.split(",")[0]) == ("a[0].b", "is a bytes")


@pytest.mark.parametrize("key", ["_version", "_score", "_all", "all", "_ignored", "_source", "all.x", "_id.x"])
def test_a_reserved_root_key_is_refused_in_whichever_document(key: str) -> None:
    maker = RecordMaker(Inference(), drop_nan=False, warn=refuse_warning)
    maker.make({"_id": "a", "v": 1}, 1)
    maker.make({"_id": "b", "v": 1, "nested": {"all": 1, "_version": 2}}, 2)
    with pytest.raises(DocumentError, match=r"Document 3 .*meaning of its own") as caught:
        maker.make({"_id": "c", "v": 1, key: None}, 3)
    assert caught.value.details["path"] == key


def test_a_reserved_key_is_refused_when_there_are_too_many_fields() -> None:
    maker = RecordMaker(Inference(), drop_nan=False, warn=refuse_warning)
    for number in range(11):
        maker.make({"_id": "a", **{f"k{number}_{key}": 1 for key in range(500)}}, number)
    with pytest.raises(DocumentError, match="'_score'"):
        maker.make({"_id": "a", "_score": 1.0}, 12)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"\ufeff_id": "a", "name": "x"},
            r"its keys are '\\ufeff_id', 'name'\. The file begins with a byte-order mark",
        ),
        ({"ID ": "a"}, "its keys are 'ID '. Is it 'ID '"),
        ({}, "its keys are none. Give each"),
        ({f"k{number}": 1 for number in range(25)}, "'k19' and 5 more. Give each"),
    ],
)
def test_a_document_without_an_id_names_its_keys(document: dict[str, Any], words: str) -> None:
    maker = RecordMaker(Inference(), drop_nan=False, warn=refuse_warning)
    with pytest.raises(DocumentError, match=f"Document 1 has no _id; .*{words}" if document else words):
        maker.make(document, 1)


@pytest.mark.parametrize(
    ("value", "words"),
    [(2**63, "is 9223372036854775808; whole"), (-(2**63) - 1, "-9223372036854775809;"), (2**9999, "of 10000 bits;")],
    ids=["above", "below", "huge"],
)
def test_an_integer_that_does_not_fit_names_the_range(value: int, words: str) -> None:
    maker = RecordMaker(Inference(), drop_nan=False, warn=refuse_warning)
    with pytest.raises(DocumentError, match=words):
        maker.make({"_id": "a", "n": value}, 1)
    maker.make({"_id": "a", "n": [2**63 - 1, -(2**63)]}, 2)
