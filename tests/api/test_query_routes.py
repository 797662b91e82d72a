"""Routes, headers, caching and compression, on the embedded engines (docs/contracts/query-api.md, section 1)."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import brotli  # type: ignore[import-untyped] # the package has no type hints
import pytest
import zstandard

from sourcebook.errors import EngineUnavailable
from sourcebook.hub.releases.model import Api, Release
from sourcebook_api.query import releases

pytestmark = pytest.mark.usefixtures("search_engine")

Genes = Callable[..., Any]
NOT_FOUND = {"code": 404, "success": False, "error": "Not Found."}


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
        assert (await gateway.post("/gene/1000", {})).status_code == 405
        assert (await gateway.post("/nosuch", {})).json() == NOT_FOUND
        unknown = await gateway.ask("GET", "/apis/nosuch/query")
        assert (unknown.status_code, unknown.json()["error"]) == (404, "Not Found.")

    genes(work)


def test_section_1_slashes_at_the_end_change_nothing(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for path in ("/gene/1000/", "/query/?q=cdk2", "/v1/metadata/", "/gene/metadata/fields//"):
            assert (await gateway.get(path)).status_code == 200, path
        for path in ("", "/", "/v1", "/v1/"):
            assert (await gateway.get(path)).headers["location"] == "/apis/genes/docs", path

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


def test_section_1_head_has_the_headers_of_get_and_no_body(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for path in ("/gene/1000", "/gene/nosuch", "/query?size=x", "/metadata", "/docs"):
            get, head = [await gateway.ask(method, f"/apis/genes{path}") for method in ("GET", "HEAD")]
            assert (head.status_code, head.content) == (get.status_code, b""), path
            assert head.headers == get.headers, path

    genes(work)


def test_section_1_files_of_the_console(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for method, name, status in (
            ("GET", "swagger-ui.css", 200),
            ("HEAD", "swagger-ui.css", 200),
            ("GET", "nosuch", 404),
            ("POST", "swagger-ui.css", 405),
            ("OPTIONS", "swagger-ui.css", 204),
        ):
            for base in ("", "/v1"):
                answer = await gateway.ask(method, f"/apis/genes{base}/docs/assets/{name}")
                assert answer.status_code == status, (method, name)
                if status >= 400:
                    assert answer.json()["code"] == status

    genes(work)


def test_section_1_named_queries_may_change_so_their_answers_have_no_etag(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        headers = (await gateway.get("/query", userquery="human")).headers
        assert "etag" not in headers
        assert headers["cache-control"] == "public, max-age=60"

    genes(work)


def test_section_1_answers_that_depend_on_the_clock_have_no_etag(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for options in ({"q": "updated:[now-1d TO now]"}, {"filter": "updated:<now"}):
            answer = await gateway.get("/query", **options)
            assert answer.status_code == 200
            assert "etag" not in answer.headers

    genes(work)


def test_section_1_cache_control(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        await gateway.context.state.put("genes", Api(name="genes", config="genes", release="genes_1", max_age=7))
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
        conftest_release = await gateway.context.state.get(Release, "genes_1")
        etag = (await gateway.get("/gene/1000")).headers["etag"]
        await gateway.context.state.put("genes_2", conftest_release.model_copy(update={"name": "genes_2"}))
        await gateway.context.state.put("genes", Api(name="genes", config="genes", release="genes_2"))
        await asyncio.sleep(releases._FRESH_SECONDS)
        assert (await gateway.get("/gene/1000")).headers["etag"] != etag
        assert (await gateway.get("/metadata")).json()["release"]["name"] == "genes_2"

    genes(work)


def test_section_1_an_api_without_a_release_says_so(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        await gateway.context.state.put("empty", Api(name="empty", config="empty"))
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


def test_section_1_a_silent_state_store_leaves_the_last_release(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        assert (await gateway.get("/gene/1000")).status_code == 200

        async def silent(*_: Any) -> Any:
            raise EngineUnavailable("The state store does not answer.")

        gateway.context.state.get = silent
        await asyncio.sleep(releases._FRESH_SECONDS)
        assert (await gateway.get("/gene/1000")).status_code == 200
        assert (await gateway.ask("GET", "/apis/other/gene/1000")).status_code == 503

    genes(work)


def test_section_1_a_release_whose_data_are_gone_is_503(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        release = await gateway.context.state.get(Release, "genes_1")
        gone = release.model_copy(update={"name": "gone", "collection": "build~gone", "index": "gone"})
        await gateway.context.state.put("gone", gone)
        await gateway.context.state.put("genes", Api(name="genes", config="genes", release="gone"))
        for path in ("/gene/1000", "/query?q=x", "/status"):
            answer = await gateway.ask("GET", f"/apis/genes{path}")
            assert (answer.status_code, answer.json()["error"]) == (503, "Service Unavailable"), path
        await gateway.context.state.put("lost", Api(name="lost", config="genes", release="nosuch"))
        assert (await gateway.ask("GET", "/apis/lost/query")).status_code == 503

    genes(work)


def test_section_1_many_apis_do_not_fill_the_memory(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "_KEPT", 2)

    async def work(gateway: Any) -> None:
        for number in range(5):
            name = f"api{number}"
            await gateway.context.state.put(name, Api(name=name, config="genes", release="genes_1", max_age=number))
            assert (await gateway.ask("GET", f"/apis/{name}/gene/1000")).status_code == 200

    genes(work)
