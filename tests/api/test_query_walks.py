"""Facets, walks over all hits, metadata and the console (docs/contracts/query-api.md, sections 1, 5 and 6)."""

import asyncio
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from sourcebook.errors import EngineUnavailable
from sourcebook.hub.releases.model import Api, Release
from sourcebook_api.query import releases, scroll
from sourcebook_api.query.examples import Examples

pytestmark = pytest.mark.usefixtures("search_engine")

Genes = Callable[..., Any]


def ids(body: Any) -> list[str]:
    return [row["_id"] for row in (body["hits"] if isinstance(body, dict) else body)]


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


@pytest.mark.parametrize(("parameter", "verb"), [("facets", "count the values of"), ("sort", "sort on")])
def test_section_5_a_text_can_be_neither_facet_nor_sort_key_and_the_answer_says_what_can(
    genes: Genes, parameter: str, verb: str
) -> None:
    async def work(gateway: Any) -> None:
        answer = await gateway.get("/query", **{parameter: "name"})
        assert answer.status_code == 400
        assert answer.json()["error"] == "search_phase_execution_exception"
        reason = answer.json()["root_cause_line_00"]
        assert reason.startswith(f"Cannot {verb} [name]: it is a text.")
        assert "keyword, number, date or boolean" in reason

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
        release = await gateway.context.state.get(Release, "genes_1")
        await gateway.context.state.put("genes_2", release.model_copy(update={"name": "genes_2", "index": "gone"}))
        await gateway.context.state.put("genes", Api(name="genes", config="genes", release="genes_2"))
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


def test_section_5_each_page_restarts_the_expiry(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_api.query.plan.PAGE_SIZE", 4)

    async def work(gateway: Any) -> None:
        page = (await gateway.get("/query", fetch_all="1")).json()
        started, real_time = time.time(), time.time
        for minutes in (9, 18, 27):
            monkeypatch.setattr(time, "time", lambda now=started + 60 * minutes: now)
            page = (await gateway.get("/query", scroll_id=page["_scroll_id"])).json()
            assert page["hits"], minutes
        monkeypatch.setattr(time, "time", real_time)

    genes(work)


def test_section_5_a_page_can_be_asked_for_again(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_api.query.plan.PAGE_SIZE", 20)

    async def work(gateway: Any) -> None:
        token = await gateway.get("/query", fetch_all="1", fields="symbol")
        pages = [(await gateway.get("/query", scroll_id=token.json()["_scroll_id"])).json() for _ in range(2)]
        assert ids(pages[0]) == ids(pages[1])
        for _ in range(2):
            end = await gateway.get("/query", scroll_id=pages[0]["_scroll_id"])
            assert (end.status_code, end.json()) == (200, {"success": False, "error": "No more results to return."})

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


def test_section_6_metadata(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        body = (await gateway.get("/metadata")).json()
        assert body["biothing_type"] == "gene"
        assert body["src"]["cpic"]["license_url"] == "http://cpic.example/license"
        assert body["stats"] == {"total": 30}
        assert (body["release"]["name"], body["release"]["type"]) == ("genes_1", "full")
        assert not [key for key in body if key.startswith("_")]
        assert list(body) == sorted(body)
        assert datetime.fromisoformat(body["build_date"]).tzinfo is not None
        assert datetime.fromisoformat(body["release"]["released_at"]).tzinfo is not None

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


def test_section_6_fields_say_what_is_not_indexed(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        release = await gateway.context.state.get(Release, "genes_1")
        changes = {
            "name": "genes_2",
            "ignored": {"taxid": 3, "pathway.name": 1},
            "metadata": {**release.metadata, "_unmapped": {"extra": {"type": "integer", "values": 7}}},
        }
        await gateway.context.state.put("genes_2", release.model_copy(update=changes))
        await gateway.context.state.put("genes", Api(name="genes", config="genes", release="genes_2"))
        body = (await gateway.get("/metadata/fields")).json()
        assert (body["taxid"]["ignored"], body["pathway.name"]["ignored"]) == (3, 1)
        assert "ignored" not in body["symbol"]
        assert body["extra"] == {"index": False, "type": "integer", "unmapped_values": 7}

    genes(work)


def test_section_6_fields_name_the_sources_that_contribute_them(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        release = await gateway.context.state.get(Release, "genes_1")
        metadata = {**release.metadata, "_root_keys": {"symbol": ["hgnc"], "pathway": ["reactome", "kegg"]}}
        await gateway.context.state.put("genes_2", release.model_copy(update={"name": "genes_2", "metadata": metadata}))
        await gateway.context.state.put("genes", Api(name="genes", config="genes", release="genes_2"))
        body = (await gateway.get("/metadata/fields")).json()
        assert (body["symbol"]["source"], body["pathway.name"]["source"]) == ("hgnc", "reactome, kegg")
        assert body["cpic"]["source"] == "cpic"
        assert "source" not in body["taxid"]

    genes(work)


def test_section_1_the_specification_is_that_of_this_api(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        spec = (await gateway.get("/spec")).json()
        assert spec["openapi"] == "3.1.0"
        assert spec["servers"] == [{"url": "/apis/genes"}]
        assert {"/gene/{id}", "/gene", "/query"} <= {*spec["paths"]}
        assert {"symbol", "pathway"} <= {*spec["components"]["schemas"]["Document"]["properties"]}

    genes(work)


def test_section_1_every_example_of_the_console_works(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        spec = (await gateway.get("/spec")).json()
        for path, methods in spec["paths"].items():
            for method, operation in methods.items():
                url = path.replace("{id}", "1000")
                if method == "get":
                    params = {
                        item["name"]: item["example"] for item in operation.get("parameters", []) if "example" in item
                    }
                    assert params.pop("id", "1000") == "1000"
                    answer = await gateway.get(url, **params)
                else:
                    body = operation["requestBody"]["content"]["application/json"]["example"]
                    answer = await gateway.post(url, body)
                    assert [row.get("notfound") for row in answer.json()] == [None, True]
                assert answer.status_code == 200, (path, method)
        links = re.findall(r"\]\((/[^)]+)\)", spec["info"]["description"])
        assert len(links) == 11
        for link in links:
            answer = await gateway.ask("GET", link)
            assert answer.status_code == 200, link
            assert answer.json().get("total", 1) > 0, link

    genes(work)


def test_section_1_the_console_of_an_empty_or_silent_release_has_fewer_examples(genes: Genes) -> None:
    async def work(gateway: Any) -> None:
        async def silent(*_: Any, **__: Any) -> Any:
            raise EngineUnavailable("The engine does not answer.")

        gateway.context.search.search = silent
        spec = (await gateway.get("/spec")).json()
        assert "/metadata/fields" in spec["info"]["description"]
        assert "Some fields of it" not in spec["info"]["description"]
        assert spec["paths"]["/query"]["post"]["requestBody"]["content"]["application/json"]["example"]

    genes(work)


def test_section_1_examples_escape_what_they_find() -> None:
    mapping = {"a": {"properties": {"b.c": {"type": "keyword"}, "k": {"type": "keyword"}}}, "n": {"type": "long"}}
    release = Release(
        name="r", build="r", config="c", doc_type="a b", collection="r", index="r", count=1, mapping=mapping
    )
    document = {"_id": "x/y?", "a": [{"z": 1}, {"k": 'say "\\"'}], "n": [-5]}
    paths = dict(Examples(release, document).requests)
    assert paths["One document"] == "/a%20b/x%2Fy%3F"
    assert parse_qs(paths["Search in a.k"].partition("?")[2])["q"] == ['a.k:"say \\"\\\\\\""']
    assert parse_qs(paths["A range of n"].partition("?")[2])["q"] == ["n:[-5 TO *]"]


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


def test_section_5_a_walk_over_a_release_that_is_gone_is_stale(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_api.query.plan.PAGE_SIZE", 20)

    async def work(gateway: Any) -> None:
        first = (await gateway.get("/query", fetch_all="1", fields="symbol")).json()
        second = (await gateway.get("/query", q="*", search_after="*", size=2)).json()
        await gateway.context.search.drop("genes_1_index")
        stale = await gateway.get("/query", scroll_id=first["_scroll_id"])
        assert (stale.status_code, stale.json()["details"]) == (400, "Invalid or stale scroll_id.")
        release = await gateway.context.state.get(Release, "genes_1")
        await gateway.context.state.put("genes_2", release.model_copy(update={"name": "genes_2"}))
        await gateway.context.state.put("genes", Api(name="genes", config="genes", release="genes_2"))
        await gateway.context.state.delete(Release, "genes_1")
        await asyncio.sleep(releases._FRESH_SECONDS)
        monkeypatch.setattr(releases.Releases, "by_name", _forgetful(releases.Releases.by_name))
        stale = await gateway.get("/query", q="*", search_after=second["_search_after"])
        assert (stale.status_code, stale.json()["details"]) == (400, "Invalid or stale search_after.")

    genes(work)


def _forgetful(by_name: Callable[..., Any]) -> Callable[..., Any]:
    """Make `Releases.by_name` look at the state each time, as a process does that was started later."""

    async def read(self: releases.Releases, name: str, max_age: int) -> Any:
        self._opened.clear()
        return await by_name(self, name, max_age)

    return read


@pytest.mark.parametrize("kind", ["scroll_id", "search_after"])
@pytest.mark.parametrize("format_name", ["json", "msgpack"])
def test_a_walk_over_large_documents_has_smaller_pages(
    tmp_path: Path, serve_documents: Callable[..., Any], kind: str, format_name: str
) -> None:
    sizes = [20_000] * 30 + [250_000] + [10] * 100 + [20_000] * 5
    documents = [{"_id": f"d{number:03}", "n": 1, "text": "x" * size} for number, size in enumerate(sizes)]

    async def work(gateway: Any) -> None:
        first = {"fetch_all": "1"} if kind == "scroll_id" else {"search_after": "*", "size": "1000"}
        common = {"q": "n:1", "format": format_name}
        answer = await gateway.get("/query", **common, **first)
        seen: list[str] = []
        counts = []
        while "hits" in (page := read_format(answer)):
            assert (answer.status_code, page["total"]) == (200, len(documents)), answer.text[:300]
            seen += ids(page)
            counts.append(len(page["hits"]))
            following = {kind: page[f"_{kind}"], **({"size": "1000"} if kind == "search_after" else {})}
            answer = await gateway.get("/query", **common, **following)
        assert page == {"success": False, "error": "No more results to return."}
        assert seen == [document["_id"] for document in documents]
        assert max(counts) > 30
        assert 1 in counts

    mapping = {"n": {"type": "integer"}}
    asyncio.run(serve_documents(tmp_path / "home", documents, mapping, work, answer_max_bytes=200_000))


def read_format(answer: Any) -> Any:
    return msgspec.msgpack.decode(answer.content) if "msgpack" in answer.headers["content-type"] else answer.json()
