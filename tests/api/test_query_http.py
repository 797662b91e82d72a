"""HTTP as the standards have it: methods, conditions, packed bodies, preflights, formats by `Accept`."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import yaml

Genes = Callable[..., Any]

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/apis/genes/query", "GET, HEAD, POST, OPTIONS"),
        ("PUT", "/apis/genes/gene/1000", "GET, HEAD, OPTIONS"),
        ("POST", "/apis/genes/gene/1000", "GET, HEAD, OPTIONS"),
        ("POST", "/apis/genes/metadata", "GET, HEAD, OPTIONS"),
        ("PATCH", "/apis/genes/gene", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/apis/genes/docs/assets/swagger-ui.css", "GET, HEAD, OPTIONS"),
        ("DELETE", "/hub/sources", "GET"),
        ("PUT", "/hub/jobs", "GET"),
    ],
)
def test_a_method_that_is_not_there_is_answered_with_those_that_are(
    genes: Genes, method: str, path: str, allowed: str
) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.ask(method, path)
        assert answer.status_code == 405, answer.text
        assert answer.headers["allow"] == allowed
        assert answer.json()

    genes(work)


def test_any_version_is_enough_for_a_condition_of_a_star(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        star = {"If-None-Match": "*"}
        found = await gateway.ask("GET", "/apis/genes/gene/1000", headers=star)
        assert (found.status_code, found.content) == (304, b"")
        assert found.headers["etag"]
        missing = await gateway.ask("GET", "/apis/genes/gene/nosuch", headers=star)
        assert missing.status_code == 404
        walk = await gateway.ask("GET", "/apis/genes/query?q=*&fetch_all=true", headers=star)
        assert walk.status_code == 200

    genes(work)


def test_a_condition_holds_without_the_mark_of_a_weak_tag(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        etag = (await gateway.get("/gene/1000")).headers["etag"]
        for known in (etag, etag.removeprefix("W/"), f'"other", {etag}'):
            answer = await gateway.ask("GET", "/apis/genes/gene/1000", headers={"If-None-Match": known})
            assert answer.status_code == 304, known
        other = await gateway.ask("GET", "/apis/genes/gene/1000", headers={"If-None-Match": '"other"'})
        assert other.status_code == 200

    genes(work)


def test_a_packed_body_is_read_within_the_limit(genes: Genes) -> None:
    body = b'{"ids": ["1000"], "fields": "symbol"}'
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    async def send(gateway: Any, content: Any, path: str = "/apis/genes/gene", **more: str) -> Any:
        return await gateway.ask("POST", path, content=content, headers={**headers, **more})

    async def in_chunks(packed: bytes) -> Any:
        for start in range(0, len(packed), 7):
            yield packed[start : start + 7]

    async def work(gateway: Any) -> None:
        packed = gzip.compress(body)
        for content in (packed, gzip.compress(body[:10]) + gzip.compress(body[10:]), in_chunks(packed)):
            assert (await send(gateway, content)).json()[0]["symbol"] == "CDK2"
        bomb = await send(gateway, gzip.compress(b" " * 10_000_000))
        assert bomb.status_code == 413
        assert "SOURCEBOOK_REQUEST_MAX_BYTES" in bomb.json()["details"]
        for damaged in (packed[:-9], b"no gzip", zlib.compress(body)):
            refused = await send(gateway, damaged)
            assert (refused.status_code, refused.json()["code"]) == (400, 400), damaged
            assert "gzip" in refused.json()["details"]
        unknown = await send(gateway, body, **{"Content-Encoding": "br"})
        assert (unknown.status_code, unknown.headers["accept-encoding"]) == (415, "gzip")
        assert "gzip" in unknown.json()["details"]
        hub = await send(gateway, gzip.compress(b'{"folder": "/nosuch"}'), path="/hub/plugins")
        assert "/nosuch" in hub.json()["message"]
        assert (await send(gateway, b"x", path="/hub/plugins")).json()["code"] == "invalid_request"

    genes(work)


def test_a_page_of_another_site_may_send_any_header(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        asked = {"Origin": "http://a.example", "Access-Control-Request-Headers": "x-trace, authorization"}
        answer = await gateway.ask("OPTIONS", "/apis/genes/query", headers=asked)
        allowed = answer.headers["access-control-allow-headers"].split(", ")
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
        assert set(allowed) == {"*", "Authorization"}
        hub = await gateway.ask("OPTIONS", "/hub/sources", headers=asked)
        assert "access-control-allow-headers" not in hub.headers

    genes(work)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/csv", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/html;q=0, application/json;q=0.1", "application/json"),
        ("text/x-yaml", "text/x-yaml"),
        ("application/yaml;q=nonsense, application/msgpack", "application/x-msgpack"),
        (BROWSER, "text/html"),
    ],
)
@pytest.mark.parametrize("path", ["/gene/1000", "/gene/1000?fields=symbol", "/query?q=cdk2", "/metadata/fields"])
def test_accept_chooses_the_format(genes: Genes, path: str, accept: str, media: str) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.ask("GET", f"/apis/genes{path}", headers={"Accept": accept})
        assert answer.headers["content-type"].partition(";")[0] == media
        assert "Accept" in answer.headers["vary"].split(", ")

    genes(work)


def test_the_parameter_wins_against_accept_and_the_page_leads_to_json(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        path = "/apis/genes/gene/1000?fields=symbol"
        plain = await gateway.ask("GET", path)
        chosen = await gateway.ask("GET", f"{path}&format=json", headers={"Accept": BROWSER})
        assert chosen.json() == plain.json()
        page = await gateway.ask("GET", path, headers={"Accept": BROWSER})
        assert "?fields=symbol&amp;format=json" in page.text
        assert page.headers["etag"] != plain.headers["etag"]
        packed = await gateway.ask("GET", path, headers={"Accept": "application/msgpack"})
        assert msgspec.msgpack.decode(packed.content) == plain.json()
        listed = await gateway.ask(
            "POST", "/apis/genes/gene", json={"ids": ["1000"]}, headers={"Accept": "application/yaml"}
        )
        assert yaml.safe_load(listed.text)[0]["symbol"] == "CDK2"

    genes(work)


def test_errors_are_json_whatever_is_accepted(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.ask("GET", "/apis/genes/gene/nosuch", headers={"Accept": BROWSER})
        assert (answer.status_code, answer.json()["code"]) == (404, 404)

    genes(work)
