"""`make demo`: start the stack, load the three gene sources, build, index, serve, and ask a few questions.

`make demo RELEASE=2` begins with an earlier release of CPIC, then updates it: what changed is built, indexed and told.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
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
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.releases import answers as release_answers
from sourcebook.hub.releases import commands as release_commands
from sourcebook.hub.sources import commands as source_commands
from sourcebook.hub.builds.model import Build
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases.notes import render_notes
from sourcebook.hub.sources.model import Plugin
from sourcebook.settings import load_settings
from sourcebook.supervisor import run_stack

HERE = Path(__file__).resolve().parent
FIRST = 1
SOURCES = ("hgnc", "ncbi_gene", "cpic")
QUERIES = (
    "/query?q=cdk2&fields=symbol,name&size=2",
    "/gene/CYP2D6?fields=symbol,name,ncbi_gene.map_location,cpic.pairs.drug",
    "/query?q=cpic.pairs.drug:warfarin&fields=symbol,name&size=3",
    "/query?q=ncbi_gene.chromosome:22 AND name:receptor&size=0&facets=ncbi_gene.type_of_gene",
    "/metadata",
)
# What the second release of CPIC changes.
CHANGING = (
    "/query?q=cpic.pairs.drug:atorvastatin&fields=symbol&sort=symbol",
    "/query?q=cpic.pairs.rxnorm:83367&fields=symbol&sort=symbol",
)
console = Console(soft_wrap=True, highlight=False)


async def load(context: Context, cpic: Path) -> None:
    """Register the plugins, download and parse them, merge them, and release the build as API `genes`."""
    for name in SOURCES:
        await source_commands.add_plugin(context, HERE / name)
    await context.state.put("cpic", Plugin(name="cpic", folder=str(cpic)))
    dumps = [await source_commands.start_dump(context, name) for name in SOURCES]
    await follow_jobs(context, dumps)
    await build_commands.put_build_config(context, read_build_config(HERE / "build.json"))
    await build_and_release(context)


async def build_and_release(context: Context) -> Job:
    """Build the configuration `genes` and release the build; return the job of the release."""
    (built,) = await follow_jobs(context, [await build_commands.start_build(context, "genes")])
    build: Build = await build_answers.get_build(context, (built.result or {})["build"])
    say_kind("Build", build.name, "incremental" if build.incremental else "full", build.reason)
    (released,) = await follow_jobs(context, [await build_commands.start_release(context, build.name)])
    result = released.result or {}
    say_kind("Release", result["release"], result["kind"], result["reason"])
    return released


def say_kind(what: str, name: str, kind: str, reason: str) -> None:
    """Print whether something was made in full or by its changes, and why."""
    console.print(f"{what} {name}: {kind}{f' ({reason})' if reason else ''}", markup=False)


def copy_earlier_cpic(home: Path) -> Path:
    """Return a copy of the plugin that downloads the release of 2023."""
    folder = home / "demo" / "cpic"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "cpic", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["dumper"]["data_url"] = "cpic_pairs_2023.csv"
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=4))
    return folder


async def update(context: Context) -> None:
    """Let CPIC's manifest name the newer file; download, parse, build and release what changed, and print the notes."""
    console.print("\n[bold]CPIC publishes a new release.[/]")
    await context.state.put("cpic", Plugin(name="cpic", folder=str(HERE / "cpic")))
    await follow_jobs(context, [await source_commands.start_dump(context, "cpic")])
    released = await build_and_release(context)
    name = (released.result or {})["release"]
    await release_commands.set_note(
        context, name, "CPIC of pypgx 0.27.0: statins for four more genes; RxNorm and ATC codes are new."
    )
    console.print(f"\n[bold]sourcebook release notes {name}[/]")
    console.print(render_notes(await release_answers.read_notes(context, name), "text"), markup=False)


async def ask(url: str, queries: tuple[str, ...], expected_pairs: int) -> None:
    """Print queries with their answers, and check what the README promises."""
    async with httpx.AsyncClient(base_url=f"{url}/apis/genes", trust_env=False, timeout=30) as client:
        for query in queries:
            console.print(f"\n[bold]curl '{url}/apis/genes{query.replace(' ', '%20')}'[/]")
            answer = await client.get(query)
            if not answer.is_success:
                raise SystemExit(f"The gateway answered {answer.status_code}: {answer.text[:600]}")
            console.print(answer.text[:600] + (" ..." if len(answer.text) > 600 else ""), markup=False)
        total = (await client.get("/query?q=*&size=0")).json()["total"]
        gene: dict[str, Any] = (await client.get("/gene/CYP2D6")).json()
    pairs = len(gene.get("cpic", {}).get("pairs", []))
    console.print(f"\n{total:,} genes; CYP2D6 carries {pairs} CPIC pairs and its NCBI record: {'ncbi_gene' in gene}.")
    if (total, pairs, "ncbi_gene" in gene) != (44_997, expected_pairs, True):
        raise SystemExit(
            f"The demo did not give the documents that it should: 44,997 genes, {expected_pairs} pairs, one NCBI record."
        )


async def show(url: str, context: Context, *, once: bool, release: int) -> None:
    """Load, ask, and stay up unless `once`."""
    if release == FIRST:
        await load(context, HERE / "cpic")
        await ask(url, QUERIES, 75)
    else:
        await load(context, copy_earlier_cpic(context.settings.home))
        await ask(url, CHANGING, 73)
        await update(context)
        await asyncio.sleep(1)  # the gateway sees a new release within half a second
        await ask(url, CHANGING, 75)
    if not once:
        console.print(f"\nThe API is at {url}/apis/genes/ , the console at {url}/docs . Ctrl-C stops everything.")
        await asyncio.Event().wait()


async def main(*, once: bool, release: int) -> None:
    """Run the demo until it is done, or until Ctrl-C."""
    settings = load_settings()
    async with run_stack(settings, report=lambda text: console.print(f"[dim]{text}[/]")) as stack:
        async with open_context(settings) as context:
            work = asyncio.create_task(show(stack.url, context, once=once, release=release))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, work.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await work


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the sample queries")
    parser.add_argument("--release", type=int, choices=(FIRST, 2), default=FIRST, help="2: show an update of CPIC")
    try:
        chosen = parser.parse_args()
        asyncio.run(main(once=chosen.once, release=chosen.release))
    except SourcebookError as error:
        console.print(f"[red]error[/] {error.message}")
        sys.exit(error.exit_code)
