"""Where parameters are looked for, their types, limits and error bodies (docs/contracts/query-api.md, section 2)."""

from typing import Any

import orjson
import pytest

from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.params import PARAMETERS, Operation
from sourcebook_api.query.reference import write_reference
from sourcebook_api.query.values import (
    Options,
    RequestValues,
    parse_get,
    parse_parameters,
    read_body,
    read_query_string,
    split_grouped,
    split_list,
)


def parse_query(text: str, operation: Operation = "query_get") -> Options:
    return parse_parameters(operation, RequestValues(query=read_query_string(text.encode())))


def refusal(text: str, operation: Operation = "query_get") -> dict[str, Any]:
    with pytest.raises(QueryError) as caught:
        parse_query(text, operation)
    return caught.value.body


BAD = {"code": 400, "success": False, "error": "Bad Request"}


def test_section_2_lookup_order_is_path_query_form_json() -> None:
    values = RequestValues(path={"id": "p"}, query={"id": "q", "size": "2"}, form={"size": "3"}, body={"from": 4})
    options = parse_parameters("annotation_get", values)
    assert (options["id"], options["size"]) == ("p", 2)
    batch = parse_parameters(
        "query_post", RequestValues(query={"size": "2"}, form={"q": "a", "size": "3"}, body={"from": 4})
    )
    assert (batch["size"], batch["from"], batch["q"]) == (2, 4, ["a"])


def test_section_2_a_json_null_counts_as_absent() -> None:
    options = parse_parameters("query_post", RequestValues(body={"q": ["a"], "size": None}))
    assert options["size"] == 10
    assert "size" not in options.given


def test_section_2_unknown_parameters_are_ignored_and_the_last_of_a_repeated_one_counts() -> None:
    assert parse_query("nosuch=1&size=1&size=2")["size"] == 2


@pytest.mark.parametrize(
    ("name", "alias"),
    [(item.name, alias) for item in PARAMETERS for alias in item.aliases if "query_get" in item.where],
)
def test_section_2_every_alias_means_its_parameter(name: str, alias: str) -> None:
    plain = parse_query(f"{name}=1")
    assert parse_query(f"{alias}=1")[name] == plain[name]
    assert name in plain.given


@pytest.mark.parametrize("text", ["", "1", "2.5", "true", "TRUE", "yes", "y", "t"])
def test_section_2_bool_in_a_query_string_is_true(text: str) -> None:
    assert parse_query(f"dotfield={text}")["dotfield"] is True


@pytest.mark.parametrize("text", ["0", "-1", "false", "no", "nonsense"])
def test_section_2_bool_in_a_query_string_is_false(text: str) -> None:
    assert parse_query(f"dotfield={text}")["dotfield"] is False


def test_section_2_bool_in_a_body() -> None:
    for raw, wanted in [(True, True), (False, False), (1, True), (0, False), ("true", True), ("", False)]:
        assert parse_parameters("query_post", RequestValues(body={"q": ["a"], "raw": raw}))["raw"] is wanted
    with pytest.raises(QueryError) as caught:
        parse_parameters("query_post", RequestValues(body={"q": ["a"], "raw": []}))
    assert caught.value.body == {**BAD, "reason": "Expect type bool.", "keyword": "raw"}


@pytest.mark.parametrize("text", ["a", "1.5", "", "1_000", "0x10", "\u0661", "9" * 30])
def test_section_2_int_is_strict(text: str) -> None:
    assert refusal(f"size={text}") == {**BAD, "reason": "Expect type int.", "keyword": "size", "alias": "limit"}


@pytest.mark.parametrize("raw", [1.5, True, "x", [1], {}])
def test_section_2_int_is_strict_in_json(raw: Any) -> None:
    with pytest.raises(QueryError) as caught:
        parse_parameters("query_post", RequestValues(body={"q": ["a"], "size": raw}))
    assert caught.value.body["reason"] == "Expect type int."


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a,b", ["a", "b"]),
        ("a b+c\td", ["a", "b", "c", "d"]),
        ('"cyclin dependent",x', ["cyclin dependent", "x"]),
        (r'"a \"b\" c"', ['a "b" c']),
        (",, a ,,", ["a"]),
        ('"open', ["open"]),
        ("", []),
    ],
)
def test_section_2_lists_split_at_commas_space_and_plus(text: str, wanted: list[str]) -> None:
    assert split_list(text) == wanted


def test_section_2_facets_keep_parentheses_together() -> None:
    assert split_grouped("a(b,c), d+e") == ["a(b,c)", "d", "e"]
    assert parse_query("facets=a(b,c),d")["facets"] == ["a(b,c)", "d"]


def test_section_2_lists_keep_their_items_in_json() -> None:
    options = parse_parameters("query_post", RequestValues(body={"q": [["1017", "CDK2"], 7], "scopes": "a,b"}))
    assert options["q"] == [["1017", "CDK2"], 7]
    assert options["scopes"] == ["a", "b"]
    assert parse_parameters("annotation_post", RequestValues(body={"ids": 5}))["id"] == [5]
    with pytest.raises(QueryError):
        parse_parameters("annotation_post", RequestValues(body={"ids": {"a": 1}}))


@pytest.mark.parametrize("item", [["1017"], {"a": 1}, None, []], ids=["list", "object", "null", "empty list"])
def test_section_2_items_of_lists_are_texts_and_numbers(item: Any) -> None:
    cases: tuple[tuple[Operation, str], ...] = (
        ("annotation_post", "ids"),
        ("query_post", "fields"),
        ("query_post", "sort"),
    )
    for operation, name in cases:
        with pytest.raises(QueryError) as caught:
            parse_parameters(operation, RequestValues(body={"q": ["a"], name: ["x", item]}))
        assert caught.value.status == 400
        assert caught.value.body["reason"] == "Expect type list of str, int or float."
    for item_of_compound in (item, [item]):
        if item_of_compound not in ([], ["1017"]):
            with pytest.raises(QueryError):
                parse_parameters("query_post", RequestValues(body={"q": [item_of_compound]}))


def test_section_2_a_query_string_is_utf_8_escaped_or_not() -> None:
    assert read_query_string("q=n\u00e9".encode()) == read_query_string(b"q=n%C3%A9") == {"q": "n\u00e9"}


def test_section_2_missing() -> None:
    assert refusal("", "annotation_post") == {**BAD, "missing": "id", "alias": "ids"}
    assert refusal("", "query_post") == {**BAD, "missing": "q"}
    assert refusal("ids=", "annotation_post") == {**BAD, "missing": "id", "alias": "ids"}


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("size=1001", {"keyword": "size", "max": 1000, "num": 1001, "alias": "limit"}),
        ("from=10001", {"keyword": "from", "max": 10000, "num": 10001, "alias": "skip"}),
        ("facet_size=1001", {"keyword": "facet_size", "max": 1000, "num": 1001}),
        ("sort=" + ",".join("abcdefghijk"), {"keyword": "sort", "max": 10, "size": 11}),
        ("size=-1", {"keyword": "size", "min": 0, "num": -1, "alias": "limit"}),
        (
            "fields=" + ",".join(["a"] * 1001),
            {"keyword": "fields", "max": 1000, "size": 1001, "alias": ["field", "_source", "filter_fields"]},
        ),
        ("format=xml", {"keyword": "format", "allowed": ["json", "yaml", "html", "msgpack"]}),
    ],
)
def test_section_2_limits(text: str, extra: dict[str, Any]) -> None:
    assert refusal(text) == {**BAD, **extra}


@pytest.mark.parametrize("query", [b"", b"fields=a,b&size=3", b"q=" + b"x" * 1000], ids=["none", "short", "long"])
def test_section_7_remembered_parameters_are_those_of_the_request(query: bytes) -> None:
    for document_id in ("a", "b"):
        options = parse_get("annotation_get", {"id": document_id}, query)
        values = RequestValues({"id": document_id}, read_query_string(query))
        assert options == parse_parameters("annotation_get", values)
        assert options.given == parse_parameters("annotation_get", values).given
    for _ in range(2):
        assert parse_get("query_get", {"api": "genes"}, query) == parse_query(query.decode())
        with pytest.raises(QueryError):
            parse_get("query_get", {}, query + b"&size=x")


def test_section_2_bodies() -> None:
    assert read_body("application/json", b'{"q": [1]}') == ({}, {"q": [1]})
    assert read_body("application/x-www-form-urlencoded", b"q=1%2C2&a=") == ({"q": "1,2", "a": ""}, {})
    assert read_body("", b'{"q": 1}') == ({}, {"q": 1})
    assert read_body("application/json", b"  ") == ({}, {})
    assert read_body("application/json", b"[1]") == ({}, {})
    form = b'--x\r\nContent-Disposition: form-data; name="ids"\r\n\r\n1,2\r\n--x--\r\n'
    assert read_body("multipart/form-data; boundary=x", form) == ({"ids": "1,2"}, {})
    assert read_body("multipart/form-data", b"rubbish") == ({}, {})


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"a": NaN}', b"a=1"])
def test_section_2_unreadable_body(body: bytes) -> None:
    with pytest.raises(QueryError) as caught:
        read_body("application/json", body)
    assert caught.value.body == {"code": 400, "success": False, "error": "Invalid JSON body."}


def test_section_2_a_query_string_cannot_hold_endless_parameters() -> None:
    with pytest.raises(QueryError):
        read_query_string(b"a=1&" * 5000)
    assert read_query_string(b"q=%ff%00")["q"] == "�\x00"


def test_the_reference_page_names_every_parameter() -> None:
    page = write_reference()
    for parameter in PARAMETERS:
        assert f"| `{parameter.name}`" in page
        assert all(alias in page for alias in parameter.aliases)
    assert orjson.dumps(page)
