"""Facets, walks over all hits, metadata and the console (web-api.md, sections 5, 6 and 1)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sourcebook.model.release import Api, Release
from sourcebook_api.query import releases, scroll

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


def test_section_5_a_walk_over_a_release_that_is_gone_is_stale(genes: Genes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_api.query.plan.PAGE_SIZE", 20)

    async def work(gateway: Any) -> None:
        first = (await gateway.get("/query", fetch_all="1", fields="symbol")).json()
        second = (await gateway.get("/query", q="*", search_after="*", size=2)).json()
        await gateway.context.search.drop("genes_1_index")
        stale = await gateway.get("/query", scroll_id=first["_scroll_id"])
        assert (stale.status_code, stale.json()["details"]) == (400, "Invalid or stale scroll_id.")
        release = await gateway.context.catalog.get(Release, "genes_1")
        await gateway.context.catalog.put("genes_2", release.model_copy(update={"name": "genes_2"}))
        await gateway.context.catalog.put("genes", Api(name="genes", config="genes", release="genes_2"))
        await gateway.context.catalog.delete(Release, "genes_1")
        await asyncio.sleep(releases._FRESH_SECONDS)
        monkeypatch.setattr(releases.Releases, "by_name", _forgetful(releases.Releases.by_name))
        stale = await gateway.get("/query", q="*", search_after=second["_search_after"])
        assert (stale.status_code, stale.json()["details"]) == (400, "Invalid or stale search_after.")

    genes(work)


def _forgetful(by_name: Callable[..., Any]) -> Callable[..., Any]:
    """Make `Releases.by_name` look at the catalogue each time, as a process does that was started later."""

    async def read(self: releases.Releases, name: str, max_age: int) -> Any:
        self._opened.clear()
        return await by_name(self, name, max_age)

    return read
