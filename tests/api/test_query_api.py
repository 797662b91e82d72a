"""The contract of the query API, on the embedded engines (web-api.md; each test names its section)."""

import asyncio
import gzip
import time
from collections.abc import Callable
from typing import Any

import brotli  # type: ignore[import-untyped] # the package has no type hints
import msgspec
import pytest
import yaml
import zstandard

from sourcebook.errors import EngineUnavailable
from sourcebook.model.release import Api, Release
from sourcebook_api.query import releases, scroll

Genes = Callable[..., Any]
NOT_FOUND = {"code": 404, "success": False, "error": "Not Found."}
BAD = {"code": 400, "success": False, "error": "Bad Request"}
BODY = b'{"_id":"1001","_version":1,"chromosome":"1","name":"cyclin dependent kinase 7",'


def ids(body: Any) -> list[str]:
    return [row["_id"] for row in (body["hits"] if isinstance(body, dict) else body)]


# Section 1: routes and headers


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_section_1_every_route_answers_with_and_without_version(genes: Genes, prefix: str) -> None:
    async def work(gateway: Any) -> None:
        for path in (
            "status",
            "metadata",
            "gene/metadata",
            "metadata/fields",
            "gene/metadata/fields",
            "spec",
            "openapi.json",
        ):
            answer = await gateway.get(f"{prefix}/{path}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json; charset=UTF-8"), (
                path
            )
        for path in ("query", "gene/query", "gene/1000"):
            assert (await gateway.get(f"{prefix}/{path}")).status_code == 200
        assert (await gateway.post(f"{prefix}/query", {"q": ["1000"]})).status_code == 200
        assert (await gateway.post(f"{prefix}/gene/query", {"q": ["1000"]})).status_code == 200
        assert (await gateway.post(f"{prefix}/gene", {"ids": ["1000"]})).status_code == 200
        assert "swagger" in (await gateway.get(f"{prefix}/docs")).text

    genes(work)


def test_section_1_status(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.get("/status")
        assert answer.json() == {"success": True, "status": "green"}
        head = await gateway.ask("HEAD", "/apis/genes/status")
        assert (head.status_code, head.content) == (200, b"")

        async def broken(_name: str) -> int:
            raise EngineUnavailable("The engine at 10.0.0.7 is down.")

        gateway.context.search.count = broken
        down = await gateway.get("/status")
        assert (down.status_code, down.headers["content-type"]) == (503, "application/json; charset=UTF-8")
        assert "10.0.0.7" not in down.text

    genes(work)


def test_section_1_unknown_paths_and_methods(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for path in ("/nosuch", "/nosuch/1", "/gene/", "/v2/query", "/v1/v1/query", "/metadata/nosuch"):
            answer = await gateway.get(path)
            assert answer.status_code in {400, 404}, path
            assert answer.json()["success"] is False
        assert (await gateway.get("/nosuch")).json() == NOT_FOUND
        assert (await gateway.ask("DELETE", "/apis/genes/gene/1000")).status_code == 405
        assert (await gateway.post("/metadata", {})).status_code == 405
        unknown = await gateway.ask("GET", "/apis/nosuch/query")
        assert (unknown.status_code, unknown.json()["error"]) == (404, "Not Found.")

    genes(work)


def test_section_1_path_tricks_in_names_are_not_found(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for name in ("%2e%2e", "..%2f..", "%00", "a%2Fb", "%ff", "x" * 500):
            for path in (f"/apis/{name}/query", f"/apis/genes/gene/{name}", f"/apis/genes/{name}/1"):
                answer = await gateway.ask("GET", path)
                assert (answer.status_code, answer.json()["code"]) == (404, 404), path

    genes(work)


def test_section_1_options_and_cors(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for path in ("/query", "/gene/1000", "/nosuch/at/all"):
            answer = await gateway.ask("OPTIONS", f"/apis/genes{path}")
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["access-control-allow-origin"] == "*"
        for path in ("/query", "/gene/1000", "/gene/nosuch", "/query?size=x"):
            headers = (await gateway.ask("GET", f"/apis/genes{path}")).headers
            assert headers["access-control-allow-origin"] == "*"
            assert {"access-control-allow-methods", "access-control-allow-headers", "access-control-max-age"} <= {
                *headers
            }

    genes(work)


def test_section_1_cache_control(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        await gateway.context.catalog.put("genes", Api(name="genes", config="genes", release="genes_1", max_age=7))
        for path in ("/query?q=cdk2", "/gene/1000", "/metadata", "/gene/nosuch"):
            assert (await gateway.ask("GET", f"/apis/genes{path}")).headers["cache-control"] == "public, max-age=7", (
                path
            )
        for query in ("q=__any__", "q=%5f_any__", "fetch_all=1", "search_after=*", "scroll_id=x"):
            headers = (await gateway.ask("GET", f"/apis/genes/query?{query}")).headers
            assert not {"cache-control", "etag"} & {*headers}, query

        posted = await gateway.post("/gene", {"ids": ["1000"]})
        assert posted.headers["cache-control"] == "public, max-age=7"

    genes(work)


def test_section_1_conditional_get(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for path in ("/gene/1000", "/query?q=cdk2", "/metadata", "/spec"):
            url = f"/apis/genes{path}"
            etag = (await gateway.ask("GET", url)).headers["etag"]
            again = await gateway.ask("GET", url, headers={"If-None-Match": f'"x", {etag}'})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
            other = await gateway.ask(
                "GET", url + ("&size=1" if "?" in url else "?size=1"), headers={"If-None-Match": etag}
            )
            assert other.status_code == 200
        assert "etag" not in (await gateway.get("/gene/nosuch")).headers

    genes(work)


@pytest.mark.parametrize(
    ("accepted", "name", "unpack"),
    [
        ("gzip", "gzip", gzip.decompress),
        ("gzip, deflate, br", "br", brotli.decompress),
        ("gzip, br, zstd", "zstd", lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body)),
        ("identity", None, bytes),
        ("gzip;q=0", None, bytes),
    ],
)
def test_section_1_compression(genes: Genes, accepted: str, name: str | None, unpack: Callable[[bytes], bytes]) -> None:
    async def work(gateway: Any) -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"accept-encoding", accepted.encode()), (b"host", b"localhost")]
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/apis/genes/query",
            "query_string": b"q=gene",
            "headers": headers,
        }
        await gateway.app({**scope, "root_path": ""}, receive, send)
        found = dict(sent[0]["headers"])
        assert found.get(b"content-encoding", b"").decode() == (name or "")
        assert unpack(sent[1]["body"]).startswith(b'{"took":')
        small = await gateway.ask("GET", "/apis/genes/gene/1000", headers={"Accept-Encoding": accepted})
        assert "content-encoding" not in small.headers

    genes(work)


def test_section_1_a_new_release_is_seen_at_once(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        conftest_release = await gateway.context.catalog.get(Release, "genes_1")
        etag = (await gateway.get("/gene/1000")).headers["etag"]
        await gateway.context.catalog.put("genes_2", conftest_release.model_copy(update={"name": "genes_2"}))
        await gateway.context.catalog.put("genes", Api(name="genes", config="genes", release="genes_2"))
        await asyncio.sleep(releases._FRESH_SECONDS)
        assert (await gateway.get("/gene/1000")).headers["etag"] != etag
        assert (await gateway.get("/metadata")).json()["release"]["name"] == "genes_2"

    genes(work)


def test_section_1_an_api_without_a_release_says_so(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        await gateway.context.catalog.put("empty", Api(name="empty", config="empty"))
        answer = await gateway.ask("GET", "/apis/empty/query")
        assert answer.status_code == 503
        assert "no release yet" in answer.json()["details"]

    genes(work)


def test_section_1_an_api_served_alone_is_at_the_root(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for prefix in ("", "/v1"):
            assert (await gateway.ask_served("GET", f"{prefix}/gene/1000")).json()["symbol"] == "CDK2"
            assert (await gateway.ask_served("POST", f"{prefix}/query", json={"q": ["1000"]})).status_code == 200
        assert (await gateway.ask_served("GET", "/")).headers["location"] == "/docs"
        assert (await gateway.ask_served("GET", "/hub/jobs")).status_code == 404

    genes(work, served=True)


# Section 2: formats and options


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


# Section 4: answers


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
        async def down(*_: Any) -> Any:
            raise EngineUnavailable("opensearch at 10.0.0.7 does not answer")

        async def surprise(*_: Any) -> Any:
            raise RuntimeError("secret inside")

        gateway.context.search.search = down
        answer = await gateway.get("/query", q="x")
        assert (answer.status_code, answer.json()["error"]) == (503, "Service Unavailable")
        assert "10.0.0.7" not in answer.text
        assert "cache-control" not in answer.headers
        gateway.context.search.search = surprise
        answer = await gateway.get("/query", q="x")
        assert (answer.status_code, answer.json()["error"]) == (500, "Internal Server Error")
        assert "secret" not in answer.text

    genes(work)


def test_section_4_a_slow_batch_ends(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        async def slow(*_: Any) -> Any:
            await asyncio.sleep(30)

        gateway.context.search.search = slow
        started = time.monotonic()
        answer = await gateway.post("/query", {"q": ["a"] * 20, "scopes": ["symbol"]})
        assert answer.status_code == 503
        assert time.monotonic() - started < 5

    genes(work, query_timeout=0.2)


# Section 5: facets and walks


def test_section_5_facets(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = (await gateway.get("/query", facets="type_of_gene,chromosome", facet_size=3)).json()
        assert body["hits"] == []
        assert body["facets"]["type_of_gene"] == {
            "_type": "terms",
            "terms": [{"count": 20, "term": "protein-coding"}, {"count": 10, "term": "pseudo"}],
            "other": 0,
            "missing": 0,
            "total": 30,
        }
        facet = body["facets"]["chromosome"]
        assert (len(facet["terms"]), facet["missing"], facet["total"]) == (3, 1, 29)
        assert facet["other"] + sum(item["count"] for item in facet["terms"]) == 29

    genes(work)


def test_section_5_nested_facets(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = (await gateway.get("/query", aggs="type_of_gene(taxid)", q="*")).json()
        pseudo = next(item for item in body["facets"]["type_of_gene"]["terms"] if item["term"] == "pseudo")
        assert sorted((item["term"], item["count"]) for item in pseudo["taxid"]["terms"]) == [(9606, 6), (10090, 4)]

    genes(work)


def test_section_5_fetch_all(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_api.query.plan.PAGE_SIZE", 7)

    async def work(gateway: Any) -> None:
        page = (await gateway.get("/query", q="gene", fetch_all="1", fields="symbol")).json()
        assert (page["total"], len(page["hits"])) == (28, 7)
        seen = []
        while "hits" in page:
            seen += ids(page)
            assert {*page["hits"][0]} == {"_id", "_score", "symbol"}
            page = (await gateway.get("/query", scroll_id=page["_scroll_id"])).json()
        assert page == {"success": False, "error": "No more results to return."}
        assert seen == [str(1000 + n) for n in range(2, 30)]

    genes(work)


def test_section_5_a_walk_sees_one_release_to_its_end(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_api.query.plan.PAGE_SIZE", 20)

    async def work(gateway: Any) -> None:
        first = (await gateway.get("/query", fetch_all="1", fields="symbol")).json()
        release = await gateway.context.catalog.get(Release, "genes_1")
        await gateway.context.catalog.put("genes_2", release.model_copy(update={"name": "genes_2", "index": "gone"}))
        await gateway.context.catalog.put("genes", Api(name="genes", config="genes", release="genes_2"))
        await asyncio.sleep(releases._FRESH_SECONDS)
        second = (await gateway.get("/query", scroll_id=first["_scroll_id"])).json()
        assert len(ids(first)) + len(ids(second)) == 30

    genes(work)


def test_section_5_stale_scrolls(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(gateway: Any) -> None:
        for token in ("rubbish", "%00", ""):
            answer = await gateway.get("/query", scroll_id=token)
            assert token == "" or answer.json()["details"] == "Invalid or stale scroll_id."
        page = (await gateway.get("/query", fetch_all="1")).json()
        monkeypatch.setattr(scroll, "SCROLL_SECONDS", -1)
        answer = await gateway.get("/query", scroll_id=page["_scroll_id"])
        assert (answer.status_code, answer.json()["error"]) == (400, "ValueError")
        assert answer.json()["details"] == "Invalid or stale scroll_id."

    genes(work)


def test_section_5_search_after(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        page = (await gateway.get("/query", q="gene", search_after="*", size=11)).json()
        seen = []
        while "hits" in page:
            seen += ids(page)
            after = page["_search_after"]
            page = (await gateway.get("/query", q="gene", search_after=after, size=11)).json()
        assert seen == [str(1000 + n) for n in range(2, 30)]
        assert (await gateway.get("/query", q="other", search_after=after)).status_code == 400
        assert (await gateway.get("/query", q="gene", search_after="rubbish")).status_code == 400

    genes(work)


# Section 6: metadata


def test_section_6_metadata(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = (await gateway.get("/metadata")).json()
        assert body["biothing_type"] == "gene"
        assert body["src"]["cpic"]["license_url"] == "http://cpic.example/license"
        assert body["stats"] == {"total": 30}
        assert (body["release"]["name"], body["release"]["type"]) == ("genes_1", "full")
        assert not [key for key in body if key.startswith("_")]

    genes(work)


def test_section_6_fields(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = (await gateway.get("/metadata/fields")).json()
        assert body["name"] == {"index": True, "searched_by_default": True, "type": "text"}
        assert body["pathway"]["type"] == "object"
        assert body["secret"]["index"] is False
        assert body["cpic.level"] == {"index": True, "source": "cpic", "type": "keyword"}
        assert "all" not in body
        assert [*(await gateway.get("/metadata/fields", prefix="pathway.")).json()] == ["pathway.id", "pathway.name"]
        assert [*(await gateway.get("/metadata/fields", search="axi")).json()] == ["taxid"]

    genes(work)


def test_section_1_the_specification_is_that_of_this_api(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        spec = (await gateway.get("/spec")).json()
        assert spec["openapi"] == "3.1.0"
        assert spec["servers"] == [{"url": "/apis/genes"}]
        assert {"/gene/{id}", "/gene", "/query"} <= {*spec["paths"]}
        assert {"symbol", "pathway"} <= {*spec["components"]["schemas"]["Document"]["properties"]}
        for path, methods in spec["paths"].items():
            for method, operation in methods.items():
                url = path.replace("{id}", "1000")
                if method == "get":
                    params = {
                        item["name"]: item["example"] for item in operation.get("parameters", []) if "example" in item
                    }
                    answer = await gateway.get(url, **params)
                else:
                    answer = await gateway.post(url, operation["requestBody"]["content"]["application/json"]["example"])
                assert answer.status_code == 200, (path, method)

    genes(work)


def test_section_1_the_console_works_offline(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for base in ("", "/apis/genes"):
            page = await gateway.ask("GET", f"{base}/docs")
            assert "http://" not in page.text
            assert "https://" not in page.text
            for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
                assert f"{base}/docs/assets/{name}" in page.text
                assert (await gateway.ask("GET", f"{base}/docs/assets/{name}")).status_code == 200
        assert (await gateway.ask("GET", "/apis/genes/docs/assets/../../../x")).status_code == 404

    genes(work)
