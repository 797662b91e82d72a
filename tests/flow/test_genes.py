"""The main job on real data, in one process: three plugins become one searchable API."""

import asyncio
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from sourcebook.backends import open_inline_bus
from sourcebook.cli.builds import read_build_config
from sourcebook.context import Context, open_context
from sourcebook.hub import builds, jobs, sources
from sourcebook.hub.apis import get_api
from sourcebook.model.job import Job, JobState
from sourcebook.model.query import FacetRequest, SearchRequest
from sourcebook.model.release import Release
from sourcebook.settings import Settings
from sourcebook.worker import run_queued_jobs

GENES = Path(__file__).parents[2] / "examples" / "genes"

pytestmark = pytest.mark.timeout(180)


async def finish(context: Context, job: Job) -> Job:
    await run_queued_jobs(context, cast("Any", context.bus))
    ended = await jobs.get_job(context, job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error
    return ended


async def load(context: Context) -> Job:
    for name in ("hgnc", "ncbi_gene", "cpic"):
        await sources.add_plugin(context, GENES / name)
        dump = await finish(context, await sources.start_dump(context, name))
        for child in dump.children:
            assert (await jobs.get_job(context, child)).state is JobState.SUCCEEDED
    config = await builds.put_build_config(context, read_build_config(GENES / "build.json"))
    return await finish(context, await builds.start_build(context, config.name))


async def check(context: Context) -> None:
    built = await load(context)
    assert built.result
    assert built.result["count"] == 44_997
    assert built.result["dropped"]["cpic/cpic"] == 1
    assert any("cpic/cpic: 1 document dropped" in warning and "GBA" in warning for warning in built.warnings)
    await finish(context, await builds.start_release(context, built.result["build"]))
    api = await get_api(context, "genes")
    release = await context.catalog.get(Release, api.release or "")
    assert release
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
    again = await finish(context, await sources.start_dump(context, "cpic"))
    assert again.result
    assert again.result["unchanged"]
    assert again.children == []
    (upload,) = await sources.start_upload(context, "cpic")
    ended = await finish(context, upload)
    assert ended.result
    assert ended.result["unchanged"]


def test_three_gene_sources_become_one_api(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_context(Settings(home=tmp_path), bus=open_inline_bus()) as context:
            await check(context)

    asyncio.run(main())
