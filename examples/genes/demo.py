"""`make demo`: start the stack, load the three gene sources, build, index, serve, and ask a few questions."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from sourcebook.cli.builds import read_build_config
from sourcebook.cli.progress import follow_jobs
from sourcebook.context import Context, open_context
from sourcebook.errors import SourcebookError
from sourcebook.hub import builds, sources
from sourcebook.settings import load_settings
from sourcebook.supervisor import run_stack

HERE = Path(__file__).parent
SOURCES = ("hgnc", "ncbi_gene", "cpic")
QUERIES = (
    "/gene/CYP2D6?fields=symbol,name,ncbi_gene.map_location,cpic.pairs.drug",
    "/query?q=cpic.pairs.drug:warfarin&fields=symbol,name&size=3",
    "/query?q=ncbi_gene.chromosome:22 AND name:receptor&size=0&facets=ncbi_gene.type_of_gene",
    "/metadata",
)
console = Console(soft_wrap=True, highlight=False)


async def load(context: Context) -> None:
    """Register the plugins, download and parse them, merge them, and release the build as API `genes`."""
    for name in SOURCES:
        await sources.add_plugin(context, HERE / name)
    dumps = [await sources.start_dump(context, name) for name in SOURCES]
    await follow_jobs(context, dumps)
    config = await builds.put_build_config(context, read_build_config(HERE / "build.json"))
    (built,) = await follow_jobs(context, [await builds.start_build(context, config.name)])
    build = (built.result or {})["build"]
    await follow_jobs(context, [await builds.start_release(context, build)])


async def ask(url: str) -> None:
    """Print sample queries with their answers, and check what the README promises."""
    async with httpx.AsyncClient(base_url=f"{url}/apis/genes", trust_env=False, timeout=30) as client:
        for query in QUERIES:
            console.print(f"\n[bold]curl '{url}/apis/genes{query.replace(' ', '%20')}'[/]")
            answer = await client.get(query)
            if not answer.is_success:
                raise SystemExit(f"The gateway answered {answer.status_code}: {answer.text[:600]}")
            console.print(answer.text[:600] + (" ..." if len(answer.text) > 600 else ""), markup=False)
        total = (await client.get("/query?q=*&size=0")).json()["total"]
        gene: dict[str, Any] = (await client.get("/gene/CYP2D6")).json()
    pairs = len(gene.get("cpic", {}).get("pairs", []))
    console.print(f"\n{total:,} genes; CYP2D6 carries {pairs} CPIC pairs and its NCBI record: {'ncbi_gene' in gene}.")
    if (total, pairs, "ncbi_gene" in gene) != (44_997, 75, True):
        raise SystemExit("The demo did not give the documents that it should: 44,997 genes, 75 pairs, one NCBI record.")


async def show(url: str, context: Context, *, once: bool) -> None:
    """Load, ask, and stay up unless `once`."""
    await load(context)
    await ask(url)
    if not once:
        console.print(f"\nThe API is at {url}/apis/genes/ , the console at {url}/docs . Ctrl-C stops everything.")
        await asyncio.Event().wait()


async def main(*, once: bool) -> None:
    """Run the demo until it is done, or until Ctrl-C."""
    settings = load_settings()
    async with run_stack(settings, report=lambda text: console.print(f"[dim]{text}[/]")) as stack:
        async with open_context(settings) as context:
            work = asyncio.create_task(show(stack.url, context, once=once))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, work.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await work


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the sample queries")
    try:
        asyncio.run(main(once=parser.parse_args().once))
    except SourcebookError as error:
        console.print(f"[red]error[/] {error.message}")
        sys.exit(error.exit_code)
