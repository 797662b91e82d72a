"""What options make of a document: fields, lists, nulls, jmespath, licences (docs/contracts/query-api.md, sections 2 and 4)."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.hub.documents.record import canonical_json
from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.expression import parse_expression
from sourcebook_api.query.fields import Selection
from sourcebook_api.query.shape import AnswerShape, make_shape, mark_keys, render_document
from sourcebook_api.query.values import RequestValues, parse_parameters

DOCUMENT: dict[str, Any] = {
    "_id": "1017",
    "symbol": "CDK2",
    "accession": {"rna": ["NM_1", "NM_2"], "protein": "NP_1"},
    "pathway": [{"id": "a", "name": "one"}, {"id": "b"}],
    "empty": [],
    "taxid": 9606,
}


def show(
    document: dict[str, Any] = DOCUMENT, licenses: dict[str, str] | None = None, **options: Any
) -> dict[str, Any] | None:
    values = parse_parameters("annotation_get", RequestValues(path={"id": "x"}, query=options))
    body = render_document(
        canonical_json(document),
        document["_id"],
        {"_id": document["_id"]},
        make_shape(values, licenses or {}, mark_keys(licenses or {})),
    )
    if body is None:
        return None
    shown: dict[str, Any] = orjson.loads(body)
    return shown


def kept(fields: str) -> dict[str, Any]:
    shown = show(fields=fields)
    assert shown is not None
    assert shown.pop("_id") == "1017"
    return shown


@pytest.mark.parametrize("fields", ["all", "", "*", "all,symbol"])
def test_section_2_fields_all_or_absent_keeps_everything(fields: str) -> None:
    assert {"_id": "1017", **kept(fields)} == DOCUMENT


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ("symbol", {"symbol": "CDK2"}),
        ("accession", {"accession": DOCUMENT["accession"]}),
        ("accession.rna", {"accession": {"rna": ["NM_1", "NM_2"]}}),
        ("pathway.name", {"pathway": [{"name": "one"}]}),
        ("accession.*", {"accession": DOCUMENT["accession"]}),
        ("*.id", {"pathway": [{"id": "a"}, {"id": "b"}]}),
        ("a*n.r*", {"accession": {"rna": ["NM_1", "NM_2"]}}),
        ("sym*,tax*", {"symbol": "CDK2", "taxid": 9606}),
        ("accession,-accession.rna", {"accession": {"protein": "NP_1"}}),
        ("nosuch", {}),
        ("symbol.below", {}),
        ("empty", {"empty": []}),
        ("-accession,-pathway,-empty", {"symbol": "CDK2", "taxid": 9606}),
        ("-*cc*,-path*", {"empty": [], "symbol": "CDK2", "taxid": 9606}),
        ("-pathway.id,pathway", {"pathway": [{"name": "one"}, {}]}),
    ],
)
def test_section_2_fields(fields: str, wanted: dict[str, Any]) -> None:
    assert kept(fields) == wanted


def test_section_2_documents_whose_keys_are_data_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Selection, "_MEMORY", 3)
    selection = Selection(["a*", "-a5"])
    for _ in range(2):
        assert selection.apply({f"{key}{number}": 1 for key in "ab" for number in range(9)}).keys() == {
            f"a{number}" for number in range(9) if number != 5
        }


def test_section_2_id_is_always_there() -> None:
    assert show(fields="-_id,symbol") == {"_id": "1017", "symbol": "CDK2"}


def test_section_2_wildcards_take_linear_time() -> None:
    assert not Selection(["*a" * 200 + "b"]).apply({"a" * 5000: 1})


def test_section_2_dotfield_flattens_and_lists_what_repeats() -> None:
    assert show(dotfield="") == {
        "_id": "1017",
        "accession.protein": "NP_1",
        "accession.rna": ["NM_1", "NM_2"],
        "empty": [],
        "pathway.id": ["a", "b"],
        "pathway.name": "one",
        "symbol": "CDK2",
        "taxid": 9606,
    }


def test_section_2_always_list_and_allow_null() -> None:
    assert show(fields="symbol", always_list="symbol,accession.rna") == {"_id": "1017", "symbol": ["CDK2"]}
    assert show(fields="symbol", allow_null="name") == {"_id": "1017", "name": None, "symbol": "CDK2"}
    assert show(fields="symbol", allow_null="name", always_list="name") == {"_id": "1017", "name": [], "symbol": "CDK2"}
    shown = show(fields="pathway", allow_null="pathway.name")
    assert shown is not None
    assert shown["pathway"][1] == {"id": "b", "name": None}
    assert show(fields="symbol", dotfield="", allow_null="a.b,c.d", always_list="c.d,symbol") == {
        "_id": "1017",
        "a.b": None,
        "c.d": [],
        "symbol": ["CDK2"],
    }


def test_section_2_jmespath_replaces_a_field() -> None:
    shown = show(fields="pathway", jmespath="pathway|[?id=='b']")
    assert shown == {"_id": "1017", "pathway": [{"id": "b"}]}
    assert show(fields="accession", jmespath="accession.rna|[0]") == {
        "_id": "1017",
        "accession": {"protein": "NP_1", "rna": "NM_1"},
    }
    assert show(fields="pathway", jmespath="pathway.id|length(@)") == {
        "_id": "1017",
        "pathway": [{"id": 1, "name": "one"}, {"id": 1}],
    }


@pytest.mark.parametrize("field", ["", "."])
def test_section_2_jmespath_at_the_root(field: str) -> None:
    assert show(jmespath=field + "|{s: symbol}") == {"_id": "1017", "s": "CDK2"}


def test_section_2_jmespath_runs_last() -> None:
    assert show(fields="symbol", always_list="symbol", jmespath="symbol|length(@)") == {"_id": "1017", "symbol": 1}


def test_section_2_jmespath_exclude_empty() -> None:
    assert show(jmespath="pathway|[?id=='z']", jmespath_exclude_empty="1") is None
    assert show(jmespath="nosuch|[0]", jmespath_exclude_empty="1") is None
    assert show(jmespath="pathway|[?id=='a']", jmespath_exclude_empty="1") is not None


@pytest.mark.parametrize("expression", ["pathway", "pathway|[?", ".|symbol", "symbol|abs(@)", "symbol|nosuch(@)"])
def test_section_2_bad_jmespath(expression: str) -> None:
    with pytest.raises(QueryError) as caught:
        show(jmespath=expression)
    body = caught.value.body
    assert body.pop("details")
    assert body == {
        "code": 400,
        "success": False,
        "error": "Bad Request",
        "reason": "Invalid value for jmespath parameter",
        "keyword": "jmespath",
    }
    assert parse_expression("a.b|c").parent == ("a",)


def test_section_4_licenses_stand_in_the_object_of_their_source() -> None:
    document = {"_id": "1", "cpic": {"level": "A"}, "ncbi": [{"x": 1}, {"x": 2}], "hgnc": "text"}
    licenses = {"cpic": "http://l", "ncbi": "http://n", "hgnc": "http://h", "gone": "http://g"}
    shown = show(document, licenses)
    assert shown == {
        "_id": "1",
        "cpic": {"_license": "http://l", "level": "A"},
        "hgnc": "text",
        "ncbi": [{"_license": "http://n", "x": 1}, {"_license": "http://n", "x": 2}],
    }
    assert show(document, licenses, fields="cpic.level") == {"_id": "1", "cpic": {"_license": "http://l", "level": "A"}}
    assert show(document, licenses, fields="hgnc") == {"_id": "1", "hgnc": "text"}


def test_section_1_keys_are_sorted_at_every_level() -> None:
    document = {"_id": "1", "b": {"z": 1, "a": 2}, "A": 1, "a": 1}
    body = render_document(canonical_json(document), "1", {"_id": "1", "_version": 1}, AnswerShape(allow_null=("Z",)))
    assert body == b'{"_id":"1","_version":1,"A":1,"Z":null,"a":1,"b":{"a":2,"z":1}}'


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc._"), inner, max_size=3),
    max_leaves=10,
)
documents = st.dictionaries(st.sampled_from(["a", "b", "B", "_x", "c.d"]), json_values, max_size=4)


@given(ids, documents)
def test_section_7_stored_bytes_go_out_as_if_they_were_decoded(document_id: str, rest: dict[str, Any]) -> None:
    document = {"_id": document_id, **rest}
    head = {"query": 1, "_id": document_id, "_version": 1}
    body = render_document(canonical_json(document), document_id, head, AnswerShape())
    assert body is not None
    assert orjson.loads(body) == {**head, **document}
    assert body.startswith(b'{"query":1,"_id":')


@given(documents)
def test_section_2_selecting_every_path_keeps_every_value(rest: dict[str, Any]) -> None:
    document = {"_id": "x", **rest}
    assert Selection([*rest]).apply(document) == document
