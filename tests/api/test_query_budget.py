"""Small requests for endless work: each ends with its reason, soon, and others are answered meanwhile."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sourcebook_api.query import encode
from sourcebook_api.query.budget import Budget
from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.expression import MAX_CHARACTERS, evaluate, parse_expression
from sourcebook_api.query.shape import make_shape, render_document, shape_document
from sourcebook_api.query.values import RequestValues, parse_parameters

Genes = Callable[..., Any]

MEBIBYTE = 1024 * 1024
DOUBLINGS = {
    "shared lists": "symbol|" + "|".join(["[@,@]"] * 40),
    "flat lists": "symbol|[@,@]" + "|[@,@][]" * 40,
    "texts": "symbol|" + "|".join(["join('', [@,@])"] * 40),
    "joined by themselves": "symbol|" + "|".join(["join(@, ['','','','','',''])"] * 40),
    "as text": "symbol|" + "|".join(["to_string([@,@])"] * 40),
    "objects": "symbol|" + "|".join(["{a: @, b: @}"] * 40),
    "compared": ".|{a: symbol" + "|[@,@]" * 40 + ", b: (name" + "|[@,@]" * 40 + ")}",
    "mapped": "symbol|[@,@,@,@,@,@,@,@]" + "|map(&[@,@], @)" * 40,
}


@pytest.mark.parametrize("name", DOUBLINGS)
def test_an_expression_that_doubles_its_result_is_refused(genes: Genes, name: str) -> None:
    async def work(gateway: Any) -> None:
        for answer in (
            await gateway.get("/gene/1000", jmespath=DOUBLINGS[name]),
            await gateway.get("/query", q="cdk2", jmespath=DOUBLINGS[name]),
            await gateway.post("/gene", {"ids": ["1000"], "jmespath": DOUBLINGS[name]}),
            await gateway.post("/query", {"q": ["1000"], "jmespath": DOUBLINGS[name]}),
        ):
            assert (answer.status_code, answer.json().get("keyword")) == (413, "jmespath"), answer.text[:200]
            assert "more than" in answer.json()["details"]

    genes(work)


def test_comparing_what_is_shared_ends() -> None:
    left, right = "a" + "|[@,@]" * 30, "b" + "|[@,@]" * 30
    expression = parse_expression(f".|{{same: ({left}) == ({right})}}")
    with pytest.raises(QueryError) as error:
        evaluate(expression, {"a": ["x"], "b": ["x"]}, Budget(60, MEBIBYTE))
    assert error.value.status == 413


def test_an_expression_that_takes_long_ends_with_the_time() -> None:
    expression = parse_expression("values|[*].[*].[*]")
    value = [[[number] for number in range(100)] for _ in range(100)]
    with pytest.raises(QueryError) as error:
        evaluate(expression, value, Budget(0, MEBIBYTE))
    assert error.value.status == 503


def test_usual_expressions_work_on_large_documents() -> None:
    value = [{"name": f"n{number}", "tags": ["a", "b"]} for number in range(10_000)]
    found = evaluate(parse_expression("x|[?name=='n7'].tags[] | join(', ', @)"), value, Budget(60, MEBIBYTE))
    assert found == "a, b"


def test_an_expression_has_a_length(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.post("/gene", {"ids": ["1000"], "jmespath": "symbol|" + "a" * (MAX_CHARACTERS + 1)})
        assert (answer.status_code, answer.json()["keyword"]) == (400, "jmespath")

    genes(work)


def shape_of(**options: Any) -> Any:
    return make_shape(parse_parameters("query_post", RequestValues(body={"q": ["x"], **options})), {})


def test_what_options_add_to_one_document_is_bounded() -> None:
    document = {"_id": "1", "parts": [{"n": number} for number in range(10_000)]}
    shape = shape_of(allow_null=[f"parts.added_{number}" for number in range(1000)])
    with pytest.raises(QueryError) as error:
        shape_document(document, shape, Budget(60, MEBIBYTE))
    assert error.value.status == 413
    assert max(map(len, document["parts"])) < 20


def test_flattening_long_paths_is_bounded() -> None:
    document = {"_id": "1", "k" * 100_000: {f"leaf {number}": number for number in range(1000)}}
    with pytest.raises(QueryError) as error:
        shape_document(document, shape_of(dotfield=True), Budget(60, MEBIBYTE))
    assert error.value.status == 413


def test_the_options_of_many_documents_have_one_time_together() -> None:
    shape = shape_of(always_list=["a"], allow_null=["b"])
    with pytest.raises(QueryError) as error:
        render_document(b'{"_id":"1","a":1}', "1", {"_id": "1"}, shape, Budget(-1, MEBIBYTE))
    assert error.value.status == 503


def test_an_option_repeated_counts_once() -> None:
    assert shape_of(always_list=["a"] * 1000, allow_null=["b", "c", "b"]).allow_null == ("b", "c")


def ask_large(tmp_path: Path, serve_documents: Callable[..., Any], **settings: Any) -> Any:
    """Ask for documents that are larger than what is allowed; return status and body by the request."""
    documents = [{"_id": f"d{number}", "n": 1, "text": "x" * 200_000} for number in range(20)]
    ids = [document["_id"] for document in documents]

    async def work(gateway: Any) -> dict[str, Any]:
        answers = {
            "query": await gateway.get("/query", q="n:1", size=20),
            "query for one field": await gateway.get("/query", q="n:1", size=20, fields="n"),
            "ids": await gateway.post("/gene", {"ids": ids}),
            "terms": await gateway.post("/query", {"q": ["1"] * 2, "scopes": ["n"]}),
            "terms that are ids": await gateway.post("/query", {"q": ids}),
            "one": await gateway.get("/gene/d1"),
            "few": await gateway.get("/query", q="n:1", size=5),
        }
        return {name: (answer.status_code, answer.json()) for name, answer in answers.items()}

    return asyncio.run(serve_documents(tmp_path / "home", documents, {"n": {"type": "integer"}}, work, **settings))


def test_an_answer_that_reads_too_much_is_refused_and_says_what_to_do(
    tmp_path: Path, serve_documents: Callable[..., Any]
) -> None:
    answers = ask_large(tmp_path, serve_documents, answer_max_bytes=2_000_000)
    for name in ("query", "query for one field", "ids", "terms", "terms that are ids"):
        status, body = answers[name]
        assert (status, body["error"]) == (413, "Payload Too Large"), name
        assert "SOURCEBOOK_ANSWER_MAX_BYTES" in body["details"]
    assert answers["one"][0] == answers["few"][0] == 200


@pytest.mark.parametrize("name", ["yaml", "msgpack", "html"])
def test_a_format_that_takes_long_is_for_answers_that_are_not_large(
    tmp_path: Path, serve_documents: Callable[..., Any], name: str
) -> None:
    documents = [{"_id": "large", "text": ["word"] * 1_300_000}, {"_id": "small", "text": ["word"] * 1000}]

    async def work(gateway: Any) -> None:
        refused = await gateway.get("/gene/large", format=name)
        assert (refused.status_code, refused.json()["keyword"]) == (413, "format")
        assert "ask for json" in refused.json()["details"]
        assert (await gateway.get("/gene/large")).status_code == 200
        assert (await gateway.get("/gene/small", format=name)).status_code == 200

    asyncio.run(serve_documents(tmp_path / "home", documents, {"text": {"type": "keyword", "index": False}}, work))


def test_yaml_ends_with_the_time() -> None:
    def late() -> None:
        raise QueryError(503)

    with pytest.raises(QueryError):
        encode.encode_body(json.dumps(["word"] * 10_000).encode(), "yaml", late)


def test_costs_are_looked_at_before_anything_runs(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        scopes = [f"field{number}" for number in range(1000)]
        terms = await gateway.post("/query", {"q": ["x"] * 5000, "scopes": scopes, "size": 1})
        assert (terms.status_code, terms.json()["error"]) == (400, "Too Many Lookups Requested.")
        assert "5000000 lookups" in terms.json()["details"]
        facets = await gateway.get("/query", facets="a(b(c))", facet_size=1000)
        assert (facets.status_code, facets.json()["error"]) == (400, "Too Many Facet Values Requested.")
        wild = await gateway.get("/gene/1000", fields=",".join(f"*{number}*" for number in range(100)))
        assert (wild.status_code, wild.json()["keyword"]) == (400, "fields")
        repeated = await gateway.get("/gene/1000", fields=",".join(["sym*"] * 100))
        assert repeated.json()["symbol"] == "CDK2"

    genes(work)


def test_a_client_that_is_refused_learns_when_to_come_again(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_api.query.turns.MAX_WAITING_OF_CLIENT", 0)
    monkeypatch.setattr("sourcebook.backends.tantivy.search.is_quick", lambda *_: False)

    async def work(gateway: Any) -> None:
        answers = await asyncio.gather(*(gateway.get("/query", q="cdk2") for _ in range(20)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert {answer.status_code for answer in answers} == {200, 429}
        assert (refused[0].headers["retry-after"], refused[0].json()["error"]) == ("2", "Too Many Requests")

    genes(work)
