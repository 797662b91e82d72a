"""The main job on real data, in one process: three plugins become one searchable API."""

import asyncio
from pathlib import Path

import orjson
import pytest
from support.genes import build_genes, finish, release_genes

from sourcebook.backends import open_inline_bus
from sourcebook.context import Context, open_context
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.sources import commands as source_commands
from sourcebook.language.requests import FacetRequest, SearchRequest
from sourcebook.settings import Settings

pytestmark = pytest.mark.timeout(180)


async def check(context: Context) -> None:
    built = await build_genes(context)
    assert built.result
    assert built.result["count"] == 44_997
    assert built.result["dropped"]["cpic/cpic"] == 1
    assert any("cpic/cpic: 1 document dropped" in warning and "GBA" in warning for warning in built.warnings)
    release = await release_genes(context, built)
    (body,) = await context.documents.get_many(release.collection, ["CYP2D6"])
    gene = orjson.loads(body or b"{}")
    assert len(gene["cpic"]["pairs"]) == 75
    assert gene["ncbi_gene"][0]["map_location"] == ["22q13.2"]
    found = await context.search.search(
        release.index,
        SearchRequest(
            query="cpic.pairs.drug:warfarin AND ncbi_gene.chromosome:10",
            facets=(FacetRequest("ncbi_gene.type_of_gene"),),
        ),
    )
    assert "CYP2C9" in {hit.id for hit in found.hits}
    assert sum(term.count for term in found.facets["ncbi_gene.type_of_gene"].terms) == found.total
    await check_unchanged(context)


async def check_unchanged(context: Context) -> None:
    again = await finish(context, await source_commands.start_dump(context, "cpic"))
    assert again.result
    assert again.result["unchanged"]
    assert again.children == []
    (upload,) = await source_commands.start_upload(context, "cpic")
    ended = await finish(context, upload)
    assert ended.result
    assert ended.result["unchanged"]


def test_three_gene_sources_become_one_api(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_context(Settings(home=tmp_path), ANONYMOUS, bus=open_inline_bus()) as context:
            await check(context)

    asyncio.run(main())
