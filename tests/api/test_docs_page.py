"""The examples of docs/query-api.md, asked of the genes of the demo that are in CPIC, taken through the whole pipeline."""

import csv
import gzip
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

from sourcebook.cli.builds import read_build_config
from sourcebook.context import Context
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.sources import commands as source_commands
from sourcebook.worker import run_queued_jobs

Hub = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
GENES = ROOT / "examples" / "genes"
SOURCES = ("hgnc", "ncbi_gene", "cpic")
BLOCK = re.compile(r"```sh\n(.*?)```(?:\n```json\n(.*?)```)?", re.DOTALL)
ANYTHING = "..."


class Request(NamedTuple):
    """A curl command, and the answer that the page shows below it (None: none)."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None
    answer: Any


def read_requests() -> list[Request]:
    page = (ROOT / "docs" / "query-api.md").read_text()
    return [
        read_command(shlex.split(command), json.loads(answer) if answer else None)
        for commands, answer in BLOCK.findall(page)
        for command in commands.replace("\\\n", " ").strip().splitlines()
    ]


def read_command(words: list[str], answer: Any) -> Request:
    assert words.pop(0) == "curl"
    headers: dict[str, str] = {}
    url, body = "", None
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = words.pop(0)
        elif word != "-g":
            url = word
    return Request("GET" if body is None else "POST", url, headers, body, answer)


def write_small_sources(folder: Path) -> None:
    """Copy the demo's sources with the genes of CPIC alone."""
    for name in SOURCES:
        shutil.copytree(GENES / name, folder / name)
    with (folder / "cpic" / "cpic_pairs.csv").open(newline="") as file:
        wanted = {row["Gene"] for row in csv.DictReader(file)}
    for path in folder.glob("*/*.tsv.gz"):
        with gzip.open(path, "rt") as file:
            head, *rows = file
        kept = [row for row in rows if row.split("\t")[1] in wanted]
        with gzip.open(path, "wt", compresslevel=1) as file:
            file.writelines([head, *kept])


async def finish(context: Context, job: Job) -> None:
    await run_queued_jobs(context, cast("Any", context.bus))
    ended = await get_job(context, job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error


async def load(context: Context, folder: Path) -> None:
    for name in SOURCES:
        await source_commands.add_plugin(context, folder / name)
        await finish(context, await source_commands.start_dump(context, name))
    config = await build_commands.put_build_config(context, read_build_config(GENES / "build.json"))
    await finish(context, await build_commands.start_build(context, config.name))
    (built,) = await build_answers.list_builds(context, config.name)
    await finish(context, await build_commands.start_release(context, built.name))


def read_queries() -> list[str]:
    """Return what the table of the query syntax shows."""
    page = (ROOT / "docs" / "query-api.md").read_text()
    rows = page.partition("| write | to find documents |")[2].partition("\n\n")[0].splitlines()[2:]
    shown = [query for row in rows for query in re.findall("`([^`]+)`", row.partition(" | ")[0])]
    return [f"ncbi_gene.pubmed_count{query}" if query.startswith(":") else query for query in shown]


def is_alike(shown: Any, answer: Any) -> bool:
    if shown == ANYTHING:
        return answer is not None
    if isinstance(shown, dict) and isinstance(answer, dict):
        return shown.keys() == answer.keys() and all(is_alike(shown[key], answer[key]) for key in shown)
    if isinstance(shown, list) and isinstance(answer, list):
        return len(shown) == len(answer) and all(map(is_alike, shown, answer))
    return bool(shown == answer)


def test_every_example_of_the_page_gives_what_the_page_shows(hub: Hub, tmp_path: Path) -> None:
    requests = read_requests()
    assert len(requests) > 10
    write_small_sources(tmp_path / "sources")

    async def work(gateway: Any) -> None:
        await load(gateway.context, tmp_path / "sources")
        for request in requests:
            answer = await gateway.ask(request.method, request.url, headers=request.headers, content=request.body)
            if request.answer is None:
                assert answer.status_code == 200, request.url
            else:
                assert is_alike(request.answer, answer.json()), (request.url, answer.text[:2000])
        queries = read_queries()
        assert len(queries) > 20
        totals = {query: (await gateway.get("/query", q=query, size=0)).json()["total"] for query in queries}
        assert totals["_exists_:cpic"] == totals["*"] == 118
        assert all(totals[query] for query in ("symbol:CYP2*", "ncbi_gene.pubmed_count:>=100", "cpic.\\*:warfarin"))

    hub(work)
