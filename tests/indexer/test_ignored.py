"""What an index could not take is counted by field, and said in the job, the release and its notes."""

from pathlib import Path
from typing import Any

from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.flow.messages import ApplyChanges, IndexBuild, IndexReady
from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.releases.answers import read_notes
from sourcebook.hub.releases.model import Release
from sourcebook.hub.releases.notes import render_notes
from sourcebook.worker import JobRun
from sourcebook_indexer.index import index_build
from sourcebook_indexer.patch import apply_changes

KEYWORD: dict[str, Any] = {"type": "keyword"}
MAPPING: dict[str, Any] = {
    "n": {"type": "integer"},
    "o": {"properties": {"at": {"type": "date"}, "code": KEYWORD}},
    "name": {"type": "text", "fields": {"keyword": KEYWORD}},
    "fine": KEYWORD,
}
METADATA = {"_unmapped": {"extra": {"type": "integer", "values": 7}}}
TITIN = "M" * 34_350
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "a", "n": 1, "name": "one two", "fine": "x", "o": {"at": "2024"}},
    {"_id": "b", "n": "N/A", "name": TITIN, "o": [{"at": "N/A"}, {"at": "never", "code": TITIN}]},
    {"_id": "c", "n": ["N/A", 2], "fine": "y", "o": "none"},
]


async def add_build(context: Context, name: str, documents: list[dict[str, Any]]) -> None:
    collection = f"build~c~{name}"
    async with context.documents.create(collection) as writer:
        await writer.write(sorted(make_record(document) for document in documents))
        info = await writer.commit()
    fields = {"name": name, "config": "c", "doc_type": "thing", "collection": collection, "uploads": []}
    counted = {"count": info.count, "digest": info.digest, "mapping": MAPPING, "metadata": METADATA}
    await context.state.put(name, Build.model_validate({**fields, **counted}))


async def release(context: Context, build: str, command: IndexBuild | ApplyChanges) -> tuple[IndexReady, list[str]]:
    job = Job(id=f"job{build}", kind="index", target=build, lock="index:c")
    await context.state.put(job.id, job)
    run = JobRun(context, job)
    work: Any = index_build if isinstance(command, IndexBuild) else apply_changes
    return await work(context, run, command), run.warnings


def test_documents_that_do_not_fit_are_counted_by_field(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", DOCUMENTS)
        ready, warnings = await release(context, "c_1", IndexBuild(build="c_1", api="c"))
        assert ready.ignored == {"n": 2, "o": 1, "o.at": 1, "o.code": 1, "name.keyword": 1}
        assert warnings[0].startswith("Field 'n': 2 documents have a value that does not fit")
        assert warnings[0].endswith(
            "finds them. The same goes for 'o' (1), 'o.at' (1), 'o.code' (1), 'name.keyword' (1)."
        )
        assert len(warnings) == 1  # one line for each kind
        found = await context.state.get(Release, ready.release)
        assert found is not None
        assert found.ignored == ready.ignored
        notes = await read_notes(context, ready.release)
        assert (notes.ignored, notes.unmapped) == (ready.ignored, {"extra": 7})
        text = render_notes(notes, "text")
        assert "Not indexed\n" in text
        assert "2  documents do not fit into its type" in text
        assert "7  values, but it is not in the mapping" in text

    run_in_context(tmp_path, scenario)


def test_an_index_that_was_derived_counts_all_its_documents(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        fill = [{"_id": f"fill{number}", "n": number} for number in range(20)]
        await add_build(context, "c_1", [*DOCUMENTS, *fill])
        await release(context, "c_1", IndexBuild(build="c_1", api="c"))
        mended = {"_id": "b", "n": 5, "name": "short"}
        await add_build(context, "c_2", [DOCUMENTS[0], mended, DOCUMENTS[2], *fill, {"_id": "z", "n": "N/A"}])
        ready, warnings = await release(context, "c_2", ApplyChanges(build="c_2", api="c", mode="incremental"))
        assert ready.kind == "incremental"
        assert ready.ignored == {"n": 2, "o": 1}
        assert len(warnings) == 1

    run_in_context(tmp_path, scenario)


def test_where_everything_fits_nothing_is_said(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, "c_1", DOCUMENTS[:1])
        ready, warnings = await release(context, "c_1", IndexBuild(build="c_1", api="c"))
        assert (ready.ignored, warnings) == ({}, [])

    run_in_context(tmp_path, scenario)
