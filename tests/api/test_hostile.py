"""Hostile input to the query API: a 4xx or an answer, in bounded time, and the service goes on (issue: query API, Verify)."""

import time
from collections.abc import Callable
from typing import Any

Genes = Callable[..., Any]

QUERIES = {
    "ten thousand clauses": " OR ".join(f"a{number}" for number in range(10_000)),
    "ten thousand required clauses": " AND ".join(f"symbol:a{number}" for number in range(10_000)),
    "deep parentheses": "(" * 5000 + "a" + ")" * 5000,
    "deep NOT": "NOT " * 5000 + "a",
    "a regex that explodes": "/(a+)+(a+)+(a+)+(b*)*c/",
    "a regex of nested stars": "symbol:/((((.*)*)*)*)*x/",
    "a regex of huge repetitions": "symbol:/(a{1000}){1000}/",
    "leading wildcards": "name:*e*e*e*e*",
    "wildcards only": "*" * 2000,
    "null bytes": "\x00 a\x00b",
    "an open quote": '"cdk2',
    "an open range": "taxid:[1 TO",
}


def test_section_3_hostile_queries_end_soon_and_break_nothing(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        for name, query in QUERIES.items():
            started = time.monotonic()
            answer = await gateway.post("/query", {"q": [query], "scopes": [], "size": 1})
            assert answer.status_code in {200, 400}, (name, answer.text)
            assert time.monotonic() - started < 5, name
            assert (await gateway.get("/query", q="cdk2")).json()["total"] == 1

    genes(work)


def test_section_2_hostile_requests_are_refused_or_answered(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        json_type = {"Content-Type": "application/json"}
        for path, wanted in {
            "/query?q=%ff%fe%80": 200,
            "/gene/%ff%fe": 404,
            "/gene/%00": 404,
            "/gene/" + "x" * 5000: 404,
            "/query?size=999999999999999999": 400,
            "/query?from=10000": 400,
            "/query?from=9990&size=10": 200,
            "/query?size=0&from=10000": 200,
            "/query?scroll_id=" + "A" * 20_000: 400,
            "/gene/1000?jmespath=.|" + "[" * 3000: 400,
            "/gene/1000?fields=" + ",".join(["*a*b*c*d*e*"] * 1000): 200,
            "/query?facets=" + "a(" * 100: 400,
            "/query?facets=nosuch": 400,
            "/query?" + "a=1&" * 5000: 400,
        }.items():
            answer = await gateway.ask("GET", f"/apis/genes{path}")
            assert answer.status_code == wanted, (path[:60], answer.text[:200])
        for path, body, wanted in [
            ("query", b'{"q":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
            ("query", b'{"q":["' + b"a" * 5_000_000 + b'"]}', 200),
            ("query", b'{"q":[{"a":1}], "scopes":["symbol"]}', 400),
            ("query", b'{"q":[null]}', 400),
            ("query", b'{"q":["a"], "scopes":[1, null, {"a": 2}]}', 400),
            ("query", b'{"q":["\\ud800"]}', 400),
            ("gene", b'{"ids":[["a"], {"b": 1}, null, true, 1.5]}', 400),
            ("gene", b'{"ids":["1000"], "fields":[1, null, {"a": 2}]}', 400),
            ("gene", b"\x00\xff", 400),
        ]:
            answer = await gateway.ask("POST", f"/apis/genes/{path}", content=body, headers=json_type)
            assert answer.status_code == wanted, (body[:60], answer.text[:200])

    genes(work)
