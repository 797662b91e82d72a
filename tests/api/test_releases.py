"""Releases over HTTP: lists, notes in three forms, a person's note, and the documents that changed."""

from collections.abc import Callable
from typing import Any

from sourcebook.context import Context
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.commands import ensure_changes
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.releases.model import Api, Release

Hub = Callable[..., Any]


async def add_build(context: Context, name: str, documents: list[dict[str, Any]], mapping: dict[str, Any]) -> Build:
    collection = f"build~genes~{name}"
    async with context.documents.create(collection) as writer:
        await writer.write(sorted(map(make_record, documents)))
        info = await writer.commit()
    fields = {"name": name, "config": "genes", "doc_type": "gene", "collection": collection, "uploads": []}
    metadata = {"src": {"hgnc": {"version": name, "stats": {"hgnc": info.count}}}, "build_version": name}
    counted = {"count": info.count, "digest": info.digest, "mapping": mapping, "metadata": metadata}
    build = Build.model_validate({**fields, **counted})
    await context.state.put(name, build)
    return build


async def add_releases(context: Context) -> None:
    """API `genes` serves `two`, which was made from `one` by its changes: 3 added, 1 updated, 1 deleted."""
    common = [{"_id": f"g{number}", "symbol": "same"} for number in range(5)]
    old = await add_build(
        context, "one", [*common, {"_id": "x", "symbol": "a"}, {"_id": "y"}], {"symbol": {"type": "keyword"}}
    )
    new_documents = [*common, {"_id": "x", "symbol": "b"}, *({"_id": f"z{number}"} for number in range(3))]
    new = await add_build(context, "two", new_documents, {"symbol": {"type": "keyword"}, "name": {"type": "text"}})

    async def progress(*_: Any) -> None:
        pass

    await ensure_changes(context, old, new, progress=progress)
    for number, build in enumerate((old, new)):
        fields = build.model_dump(include={"name", "config", "doc_type", "collection", "count", "mapping", "metadata"})
        release = Release(**fields, build=build.name, index=f"i~{build.name}~1", released_at=1_700_000_000 + number)
        await context.state.put(build.name, release)
    changes = {"kind": "incremental", "base": "one", "reason": "few changed", "changes": "changes/two/one"}
    await context.state.update(Release, "two", lambda release: release.model_copy(update=changes))
    await context.state.put("genes", Api(name="genes", config="genes", release="two", history=["one"]))


def test_releases_are_listed_newest_first(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        await add_releases(gateway.context)
        listed = (await gateway.ask("GET", "/hub/releases")).json()
        assert [(item["name"], item["kind"], item["apis"], item["kept_by"]) for item in listed] == [
            ("two", "incremental", ["genes"], []),
            ("one", "full", [], ["genes"]),
        ]
        assert (await gateway.ask("GET", "/hub/releases?api=other")).json() == []
        assert (await gateway.ask("GET", "/hub/releases?config=other")).json() == []
        release = (await gateway.ask("GET", "/hub/releases/two")).json()
        assert (release["base"], release["reason"], release["mapping"]["name"]) == (
            "one",
            "few changed",
            {"type": "text"},
        )
        missing = await gateway.ask("GET", "/hub/releases/nosuch")
        assert (missing.status_code, missing.json()["message"]) == (
            404,
            "There is no release 'nosuch'. There are: one, two.",
        )

    hub(work)


def test_notes_are_json_text_and_markdown(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        await add_releases(gateway.context)
        put = await gateway.ask("PUT", "/hub/releases/two/note", json={"note": "<b>Checked</b>"})
        assert (put.status_code, put.json()["note"]) == (200, "<b>Checked</b>")
        notes = (await gateway.ask("GET", "/hub/releases/two/notes")).json()
        assert notes["documents"] == {"add": 3, "update": 1, "delete": 1}
        assert (notes["previous"], notes["previous_count"], notes["count"], notes["note"]) == (
            "one",
            7,
            9,
            "<b>Checked</b>",
        )
        assert notes["root_keys"]["symbol"]["changed"] == {"documents": 1, "samples": ["x"]}
        text = await gateway.ask("GET", "/hub/releases/two/notes?format=text")
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert "  added            3\n" in text.text
        assert "  added  name   text\n" in text.text
        markdown = await gateway.ask("GET", "/hub/releases/two/notes?format=markdown")
        assert markdown.headers["content-type"] == "text/markdown; charset=utf-8"
        assert "> \\<b\\>Checked\\</b\\>" in markdown.text
        assert (await gateway.ask("GET", "/hub/releases/two/notes?format=pdf")).status_code == 422
        assert (await gateway.ask("GET", "/hub/releases/nosuch/notes")).status_code == 404
        first = (await gateway.ask("GET", "/hub/releases/one/notes")).json()
        assert (first["documents"], first["sources"]["hgnc"]["new"]) == (None, {"version": "one", "count": 7})
        too_long = await gateway.ask("PUT", "/hub/releases/two/note", json={"note": "x" * 10_001})
        assert too_long.status_code == 422

    hub(work)


def test_what_changed_is_read_page_by_page(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        await add_releases(gateway.context)
        url = "/hub/releases/two/changes"
        every = (await gateway.ask("GET", url)).json()
        assert [(item["op"], item["_id"]) for item in every["changes"]] == [
            *(("update", "x"), ("delete", "y")),
            *(("add", f"z{number}") for number in range(3)),
        ]
        assert {*every["changes"][1]} == {"op", "_id"}
        page = (await gateway.ask("GET", f"{url}?type=add&page=2&size=2")).json()
        assert (page["total"], page["page"], [item["_id"] for item in page["changes"]]) == (3, 2, ["z2"])
        assert page["changes"][0]["doc"] == {"_id": "z2"}
        assert (await gateway.ask("GET", f"{url}?type=nosuch")).status_code == 422
        assert (await gateway.ask("GET", f"{url}?page=0")).status_code == 422
        assert (await gateway.ask("GET", f"{url}?size=1001")).status_code == 422
        unknown = await gateway.ask("GET", "/hub/releases/one/changes")
        assert (unknown.status_code, "nobody compared it" in unknown.json()["message"]) == (404, True)

    hub(work)


def test_damaged_changes_are_said(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        await add_releases(gateway.context)
        folder = await gateway.context.files.local_folder("changes/two/one")
        (folder / "changes-00001.jsonl.zst").unlink()
        answer = await gateway.ask("GET", "/hub/releases/two/changes")
        assert answer.status_code == 500
        (folder / "metadata.json").write_text("{")
        assert (await gateway.ask("GET", "/hub/releases/two/notes")).status_code == 500

    hub(work)


def test_the_mode_of_a_release_is_chosen_or_said(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        await add_releases(gateway.context)
        url = "/hub/builds/two/release"
        chosen = await gateway.ask("POST", url, json={"api": "new"})
        command = {"build": "two", "api": "new", "reason": "API 'new' serves nothing yet", "renews": None}
        assert chosen.json()["command"] == command
        refused = await gateway.ask("POST", url, json={"api": "other", "mode": "incremental"})
        assert (refused.status_code, refused.json()["code"]) == (409, "cannot_derive")
        assert (await gateway.ask("POST", url, json={"mode": "some"})).status_code == 422

    hub(work)
