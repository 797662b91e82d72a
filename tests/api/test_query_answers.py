"""What the query API answers, on the embedded engines (docs/contracts/query-api.md, sections 2 to 4)."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import yaml
from structlog.testing import capture_logs

from sourcebook.errors import EngineUnavailable

pytestmark = pytest.mark.usefixtures("search_engine")

Genes = Callable[..., Any]
NOT_FOUND = {"code": 404, "success": False, "error": "Not Found."}
BAD = {"code": 400, "success": False, "error": "Bad Request"}
BODY = b'{"_id":"1001","_version":1,"chromosome":"1","name":"cyclin dependent kinase 7",'


def ids(body: Any) -> list[str]:
    return [row["_id"] for row in (body["hits"] if isinstance(body, dict) else body)]


def test_section_2_formats(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        plain = (await gateway.get("/gene/1000")).json()
        as_yaml = await gateway.get("/gene/1000", format="yaml")
        assert as_yaml.headers["content-type"].startswith("text/x-yaml")
        assert yaml.safe_load(as_yaml.text) == plain
        packed = await gateway.get("/gene/1000", format="msgpack")
        assert packed.headers["content-type"] == "application/x-msgpack"
        assert msgspec.msgpack.decode(packed.content) == plain
        page = await gateway.get("/query", q="cdk2", format="html", fields="<script>")
        assert page.headers["content-type"].startswith("text/html")
        assert "<script>" not in page.text
        assert "CDK2" in (await gateway.get("/gene/1000", format="html")).text
        for path in ("/metadata", "/metadata/fields", "/query"):
            assert yaml.safe_load((await gateway.get(path, format="yaml")).text)
        posted = await gateway.post("/gene", {"ids": ["1000"], "format": "yaml"})
        assert yaml.safe_load(posted.text)[0]["symbol"] == "CDK2"

    genes(work)


def test_section_2_errors_carry_the_code_and_what_is_wrong(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.get("/query", size="x")
        assert answer.status_code == 400
        assert answer.json() == {**BAD, "reason": "Expect type int.", "keyword": "size", "alias": "limit"}
        assert (await gateway.get("/gene/1000", size=1001)).json()["max"] == 1000
        window = await gateway.get("/query", **{"from": 9995})
        assert window.json()["error"] == "ValueError"
        assert (await gateway.get("/gene")).json() == {**BAD, "missing": "id"}
        bad = await gateway.ask("POST", "/apis/genes/gene", content=b"{", headers={"Content-Type": "application/json"})
        assert bad.json() == {"code": 400, "success": False, "error": "Invalid JSON body."}

    genes(work)


def test_section_2_raw_and_rawquery(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        raw = (await gateway.get("/query", q="cdk2", raw="")).json()
        assert raw["hits"]["hits"][0]["_source"]["symbol"] == "CDK2"
        assert (await gateway.get("/query", q="cdk2", rawquery="")).json()["query"] == "cdk2"
        assert (await gateway.get("/gene/1000", raw="1")).json()[0]["_source"]["_id"] == "1000"
        assert (await gateway.get("/gene/1000", rawquery="1")).json()["get"]["ids"] == ["1000"]
        assert (await gateway.post("/gene?rawquery", {"ids": ["1000"]})).json()["get"]["ids"] == ["1000"]
        assert (await gateway.post("/gene?raw", {"ids": ["1000"]})).json()[0][0]["_id"] == "1000"
        assert (await gateway.post("/query?rawquery=1", {"q": ["a"]})).json()[0]["query"][0]["text"] == "a"
        assert (await gateway.post("/query?raw=1", {"q": ["1000"]})).json()[0]["hits"]["total"] == 1
        assert (await gateway.get("/query", fetch_all="1", rawquery="1")).json()["in_id_order"] is True

    genes(work)


def test_section_2_post_options_may_sit_in_the_url(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        rows = (await gateway.post("/gene?fields=symbol", {"ids": ["1000"], "fields": "name"})).json()
        assert rows == [{"query": "1000", "_id": "1000", "_version": 1, "symbol": "CDK2"}]

    genes(work)


def test_section_2_userquery_comes_from_the_build_configuration(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        found = (await gateway.get("/query", userquery="human", size=1000, fields="taxid")).json()
        assert {hit["taxid"] for hit in found["hits"]} == {9606}
        assert (await gateway.get("/query", userquery="nosuch")).json()["allowed"] == ["human"]

    genes(work)


def test_section_4_one_document(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.get("/gene/1000", fields="symbol,taxid")
        assert answer.content == b'{"_id":"1000","_version":1,"symbol":"CDK2","taxid":9606}'
        assert (await gateway.get("/gene/1001")).content.startswith(BODY)
        missing = await gateway.get("/gene/nosuch")
        assert (missing.status_code, missing.json()) == (404, NOT_FOUND)
        assert (await gateway.get("/gene/nosuch", fields="symbol")).status_code == 404
        assert (await gateway.get("/gene", id="1000", fields="symbol")).json()["symbol"] == "CDK2"

    genes(work)


def test_section_2_shapes_apply_to_searches_and_batches(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        options = {"fields": "pathway", "jmespath": "pathway|[?id=='b']", "jmespath_exclude_empty": "1"}
        wanted = [{"id": "b", "name": "other thing"}]
        found = (await gateway.get("/query", q="kinase", **options)).json()
        assert [(hit["_id"], hit["pathway"]) for hit in found["hits"]] == [("1000", wanted)]
        rows = (await gateway.post("/gene", {"ids": ["1000", "1001"], **options})).json()
        assert [row.get("pathway") for row in rows] == [wanted, None]
        flat = (await gateway.post("/query?dotfield", {"q": ["1000"], "fields": "pathway.id"})).json()
        assert flat[0]["pathway.id"] == ["a", "b"]
        null = (await gateway.get("/query", q="cdk7", fields="symbol", allow_null="cpic", always_list="symbol")).json()
        assert (null["hits"][0]["cpic"], null["hits"][0]["symbol"]) == (None, ["CDK7"])

    genes(work)


def test_section_3_all_words_of_a_term_must_be_in_one_scope(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = {"q": ["cyclin kinase 7", "cyclin CDK7"], "scopes": ["symbol", "name"], "fields": "symbol"}
        rows = (await gateway.post("/query", body)).json()
        assert [row.get("symbol") for row in rows] == ["CDK7", None]

    genes(work)


def test_section_3_a_curie_is_honoured_for_indexed_fields_only(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        assert (await gateway.get("/gene/symbol:cdk2")).json()["_id"] == "1000"
        assert (await gateway.get("/gene/_id:1000")).json()["_id"] == "1000"
        assert (await gateway.get("/gene/secret:x")).status_code == 404
        assert (await gateway.get("/gene/nosuch:x")).status_code == 404
        several = (await gateway.get("/gene/taxid:9606", fields="taxid", size=3)).json()
        assert [row["taxid"] for row in several] == [9606] * 3
        rows = (await gateway.post("/gene", {"ids": ["symbol:CDK7", "1000", "secret:x"], "fields": "symbol"})).json()
        assert [row.get("_id") for row in rows] == ["1001", "1000", None]

    genes(work)


def test_section_4_a_batch_of_documents(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        rows = (await gateway.post("/gene", {"ids": ["1000", "nosuch", 1001], "fields": "symbol"})).json()
        assert rows == [
            {"query": "1000", "_id": "1000", "_version": 1, "symbol": "CDK2"},
            {"query": "nosuch", "notfound": True},
            {"query": 1001, "_id": "1001", "_version": 1, "symbol": "CDK7"},
        ]
        form = await gateway.ask("POST", "/apis/genes/gene", data={"ids": "1000,1001", "fields": "symbol"})
        assert ids(form.json()) == ["1000", "1001"]
        empty = await gateway.post("/gene", {"ids": []})
        assert (empty.status_code, empty.json()) == (400, {**BAD, "missing": "id", "alias": "ids"})
        many = (await gateway.post("/gene", {"ids": [str(n) for n in range(1000)]})).json()
        assert len(many) == 1000

    genes(work)


def test_section_4_a_search(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = (await gateway.get("/query", q="symbol:cdk2", fields="symbol")).json()
        assert (body["total"], ids(body)) == (1, ["1000"])
        assert list(body) == ["took", "total", "max_score", "hits"]
        assert list(body["hits"][0]) == ["_id", "_score", "symbol"]
        assert body["max_score"] == body["hits"][0]["_score"] > 0
        assert (await gateway.get("/query", q="cdk2", size=0)).json()["hits"] == []
        sorted_body = (await gateway.get("/query", q="*", sort="-taxid,symbol", size=2)).json()
        assert [hit["_score"] for hit in sorted_body["hits"]] == [None, None]
        everything = (await gateway.get("/query")).json()
        assert (everything["total"], len(everything["hits"])) == (30, 10)
        assert (await gateway.get("/query", q="")).json()["total"] == 0
        pages = [ids((await gateway.get("/query", size=10, sort="_id", **{"from": at})).json()) for at in (0, 10, 20)]
        assert [item for page in pages for item in page] == [str(1000 + n) for n in range(30)]
        assert (await gateway.get("/query", q="cdk2", explain="1")).json()["hits"][0]["_explanation"]

    genes(work)


BOTH = ["1000", "1001"]
SYNTAX = {
    "cdk2": ["1000"],
    "1001": ["1001"],
    "_id:1001": ["1001"],
    "symbol:CDK2": ["1000"],
    'name:"cyclin dependent kinase"': BOTH,
    'name:"cyclin kinase"': [],
    'name:"cyclin kinase"~1': BOTH,
    "cyclin kinase": BOTH,
    "cdk2 AND cdk7": [],
    "cdk2 OR cdk7": BOTH,
    "cdk2 || cdk7": BOTH,
    "kinase NOT cdk7": ["1000"],
    "kinase -symbol:cdk7": ["1000"],
    "+kinase !symbol:cdk7": ["1000"],
    "kinase && cdk7": ["1001"],
    "cdk2 OR cdk7 AND nosuch": [],
    "cdk2 OR (cdk7 AND nosuch)": ["1000"],
    "symbol:(cdk2 OR cdk7)": BOTH,
    "kinase AND taxid:[9606 TO 9606]": BOTH,
    "kinase AND taxid:{9606 TO 10090}": [],
    "kinase AND taxid:[* TO 9606}": [],
    "kinase AND taxid:>=9606": BOTH,
    "kinase AND taxid:<9606": [],
    "symbol:cdk*": BOTH,
    "symbol:cdk?": BOTH,
    "symbol:*dk2": ["1000"],
    "symbol:*d*7": ["1001"],
    "symbol:/cdk[2-6]/": ["1000"],
    "symbol:cdk3~1": BOTH,
    "_exists_:cpic.level": ["1000"],
    "_exists_:cpic": ["1000"],
    "*:* AND cdk2": ["1000"],
    "cdk2^3 OR cdk7": BOTH,
    "pathway.id:b": ["1000"],
    "pathway.name:cycle": ["1000"],
    "pathway.\\*:b": ["1000"],
    "taxid:word": [],
    "nosuch:x": [],
}


def test_section_4_a_search_in_vain_names_the_fields_that_were_searched(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        searched = ["_id", "name", "symbol"]
        for options in ({"q": "nosuchword"}, {"q": "nosuchword", "size": "0"}, {"q": "nosuchword", "fetch_all": "1"}):
            assert (await gateway.get("/query", **options)).json()["searched_by_default"] == searched
        for query in ("symbol:nosuchword", "cdk2", "*"):
            assert "searched_by_default" not in (await gateway.get("/query", q=query)).json()

    genes(work)


@pytest.mark.usefixtures("search_engine")
def test_section_3_every_construct_of_the_syntax(genes: Genes) -> None:

    async def work(gateway: Any) -> None:
        for query, wanted in SYNTAX.items():
            found = (await gateway.get("/query", q=query)).json()
            assert sorted(ids(found)) == wanted, query
        boosted = (await gateway.get("/query", q="cdk2^3 OR cdk7")).json()
        assert ids(boosted) == BOTH

    genes(work)


def test_section_3_filters(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        found = (
            await gateway.get("/query", q="gene", filter="taxid:9606", post_filter="chromosome:1", size=100)
        ).json()
        assert found["hits"]
        assert all((hit["taxid"], hit["chromosome"]) == (9606, "1") for hit in found["hits"])
        both = (await gateway.get("/query", facets="chromosome", post_filter="chromosome:1")).json()
        assert len(both["facets"]["chromosome"]["terms"]) == 4

    genes(work)


def test_section_3_a_syntax_error(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.get("/query", q="taxid:(9606")
        assert answer.status_code == 400
        assert answer.json() == {
            "code": 400,
            "success": False,
            "error": "search_phase_execution_exception",
            "root_cause_line_00": "Failed to parse query [taxid:(9606]",
        }
        bad_sort = await gateway.get("/query", sort="nosuch")
        assert (bad_sort.status_code, bad_sort.json()["error"]) == (400, "search_phase_execution_exception")
        assert bad_sort.json()["root_cause_line_00"]

    genes(work)


def test_section_3_a_syntax_error_in_one_term_of_many(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.post("/query", {"q": ["cdk2", "taxid:(9606"], "scopes": []})
        assert (answer.status_code, answer.json()["error"]) == (400, "search_phase_execution_exception")

    genes(work)


def test_section_4_many_terms(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = {"q": ["cdk7", "nosuch", "CDK2", "cyclin"], "scopes": ["symbol", "name"], "fields": "symbol"}
        rows = (await gateway.post("/query", body)).json()
        assert [(row["query"], row.get("symbol"), row.get("notfound")) for row in rows[:3]] == [
            ("cdk7", "CDK7", None),
            ("nosuch", None, True),
            ("CDK2", "CDK2", None),
        ]
        assert next(iter(rows[0])) == "query"
        assert sorted(row["symbol"] for row in rows[3:]) == ["CDK2", "CDK7"]
        by_id = (await gateway.post("/query", {"q": ["1000", 1001, "x"], "fields": "symbol"})).json()
        assert [row.get("symbol") for row in by_id] == ["CDK2", "CDK7", None]
        form = await gateway.ask("POST", "/apis/genes/query", data={"q": "CDK2,CDK7", "scopes": "symbol"})
        assert ids(form.json()) == ["1000", "1001"]

    genes(work)


@pytest.mark.usefixtures("search_engine")
def test_section_3_no_scopes_and_compound_terms(genes: Genes) -> None:

    async def work(gateway: Any) -> None:
        rows = (await gateway.post("/query", {"q": ["symbol:cdk2 AND taxid:9606"], "scopes": []})).json()
        assert ids(rows) == ["1000"]
        rows = (await gateway.post("/query", {"q": [["1000", "CDK2"]], "scopes": [["_id"], "symbol"]})).json()
        assert (rows[0]["query"], rows[0]["_id"]) == (["1000", "CDK2"], "1000")
        rows = (await gateway.post("/query", {"q": [["1000", "CDK7"]], "scopes": [["_id"], "symbol"]})).json()
        assert rows == [{"query": ["1000", "CDK7"], "notfound": True}]
        assert (await gateway.post("/query", {"q": [["1000"]], "scopes": ["_id", "symbol"]})).status_code == 400

    genes(work)


def test_section_2_with_total(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = {
            "q": ["pseudo", "nosuch"],
            "scopes": ["type_of_gene"],
            "size": 2,
            "with_total": True,
            "fields": "symbol",
        }
        answer = (await gateway.post("/query", body)).json()
        assert (answer["max_total"], len(answer["hits"])) == (10, 3)
        assert answer["msg"] == "1 query terms return > 2 hits, using from=2 to retrieve the remaining hits"
        answer = (await gateway.post("/query", {"q": ["1000"], "with_total": 1})).json()
        assert "msg" not in answer
        assert answer["max_total"] == 1

    genes(work)


def test_section_2_too_many_hits(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.post("/query", {"q": ["x"] * 1001, "size": 100})
        assert (answer.status_code, answer.json()["error"]) == (400, "Too Many Hits Requested.")

    genes(work)


def test_section_4_licenses(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        licensed = {"_license": "http://cpic.example/license", "level": "A"}
        assert (await gateway.get("/gene/1000")).json()["cpic"] == licensed
        assert (await gateway.get("/gene/1000", fields="cpic.level")).json()["cpic"] == licensed
        assert "cpic" not in (await gateway.get("/gene/1000", fields="symbol")).json()
        assert (await gateway.get("/query", q="cdk2")).json()["hits"][0]["cpic"] == licensed
        assert (await gateway.post("/gene", {"ids": ["1000"]})).json()[0]["cpic"] == licensed

    genes(work)


def test_section_4_a_broken_engine_is_503_and_a_surprise_is_500_without_internals(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        async def down(*_: Any, **__: Any) -> Any:
            raise EngineUnavailable("opensearch at 10.0.0.7 does not answer")

        async def surprise(*_: Any, **__: Any) -> Any:
            raise RuntimeError("secret inside")

        gateway.context.search.search = down
        answer = await gateway.get("/query", q="x")
        assert (answer.status_code, answer.json()["error"]) == (503, "Service Unavailable")
        assert "10.0.0.7" not in answer.text
        assert "cache-control" not in answer.headers
        gateway.context.search.search = surprise
        with capture_logs() as logs:
            answer = await gateway.ask("GET", "/apis/genes/query?q=x", headers={"X-Request-ID": "r-1"})
        assert [(line["event"], line["request_id"]) for line in logs] == [("unexpected_error", "r-1")]
        assert "RuntimeError: secret inside" in logs[0]["traceback"]
        assert (answer.status_code, answer.json()["error"]) == (500, "Internal Server Error")
        assert "secret" not in answer.text

    genes(work)


def test_section_4_a_slow_batch_ends(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        async def slow(*_: Any, **__: Any) -> Any:
            await asyncio.sleep(30)

        gateway.context.search.search = slow
        started = time.monotonic()
        answer = await gateway.post("/query", {"q": ["a"] * 20, "scopes": ["symbol"]})
        assert answer.status_code == 503
        assert time.monotonic() - started < 5

    genes(work, query_timeout=0.2)


def test_section_7_a_large_batch_leaves_turns_to_others(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        order: list[str] = []

        async def ask(name: str, answer: Any) -> None:
            assert (await answer).status_code == 200
            order.append(name)

        body = {"q": [f"GENE{number}" for number in range(2000)], "scopes": ["symbol"]}
        await gateway.get("/query", q="cdk2")
        await asyncio.gather(
            ask("batch", gateway.post("/query", body)),
            *(ask("one", gateway.get("/gene/1000")) for _ in range(3)),
        )
        assert order == ["one", "one", "one", "batch"]

    genes(work, query_timeout=120)
