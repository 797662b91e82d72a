"""Clients written for mygene.info work unchanged, over a real socket (issue: query API, Verify)."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("search_engine")

Genes = Callable[..., Any]
ServeWhile = Callable[..., Any]
biothings_client = pytest.importorskip("biothings_client", reason="a development dependency")


@pytest.mark.parametrize("served", [True, False], ids=["alone", "in the gateway"])
def test_section_0_biothings_client_works_unchanged(
    genes: Genes, serve_while: ServeWhile, served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sourcebook_api.query.plan.PAGE_SIZE", 4)

    def use_client(url: str) -> None:
        client = biothings_client.get_client("gene", url=url + ("/v1" if served else "/apis/genes/v1"))
        assert client.getgene("1000", fields="symbol,taxid") == {
            "_id": "1000",
            "_version": 1,
            "symbol": "CDK2",
            "taxid": 9606,
        }
        assert client.getgene("nosuch") is None
        rows = client.getgenes(["1000", "1001", "nosuch"], fields="symbol")
        assert [row.get("symbol") for row in rows] == ["CDK2", "CDK7", None]
        found = client.query("symbol:cdk2", fields="symbol")
        assert (found["total"], found["hits"][0]["_id"]) == (1, "1000")
        many = client.querymany(
            ["CDK2", "CDK7", "nosuch"], scopes="symbol", fields="taxid", returnall=True, verbose=False
        )
        assert ([row.get("_id") for row in many["out"]], many["missing"]) == (["1000", "1001", None], ["nosuch"])
        walked = [hit["_id"] for hit in client.query("taxid:9606", fetch_all=True, fields="symbol", verbose=False)]
        assert len(walked) == len({*walked}) == client.query("taxid:9606", size=0)["total"]
        assert client.metadata()["stats"]["total"] == 30
        assert {"symbol", "pathway.name"} <= {*client.get_fields()}
        assert [*client.get_fields("pathw")] == ["pathway", "pathway.id", "pathway.name"]
        facets = client.query("*", facets="type_of_gene", size=0)["facets"]
        assert facets["type_of_gene"]["total"] == 30

    async def work(gateway: Any) -> None:
        await serve_while(gateway.query_app if served else gateway.app, use_client)

    genes(work, served=served)
