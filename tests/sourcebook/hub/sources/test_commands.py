"""Plugins and sources as people see them, and the commands that start their jobs."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.errors import Busy, Conflict, InvalidRequest, ManifestError, MissingUpload, NotFound
from sourcebook.hub.builds import commands as build_commands
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.jobs.commands import cancel_job
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.sources import answers as source_answers
from sourcebook.hub.sources import commands as source_commands
from sourcebook.hub.sources.model import Dump, Plugin, SourceState, Upload

MANIFEST: dict[str, Any] = {"dumper": {"data_url": "data.txt"}, "uploader": {"parser": "parser:load"}}


def write_plugin(folder: Path, manifest: dict[str, Any] | str = MANIFEST) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    return folder


def test_a_plugin_is_added_listed_and_removed(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path / "one")

    async def scenario(context: Context) -> None:
        plugin = await source_commands.add_plugin(context, folder)
        assert (plugin.name, plugin.folder) == ("one", str(folder))
        assert await source_commands.add_plugin(context, folder) == plugin
        (view,) = await source_answers.list_sources(context)
        assert (view.name, view.uploaders, view.error, view.dump) == ("one", ["one"], None, None)
        await source_commands.remove_plugin(context, "one")
        assert await source_answers.list_sources(context) == []
        with pytest.raises(NotFound, match="Registered are: none"):
            await source_answers.get_source(context, "one")

    run_in_context(tmp_path / "home", scenario)


def test_a_broken_plugin_is_listed_with_its_error_and_the_others_go_on(tmp_path: Path) -> None:
    good = write_plugin(tmp_path / "plugins" / "good")
    bad = write_plugin(tmp_path / "plugins" / "bad", "{")
    write_plugin(tmp_path / "plugins" / "no name")

    async def scenario(context: Context) -> None:
        with pytest.raises(ManifestError, match=r"manifest\.json"):
            await source_commands.add_plugin(context, bad)
        added = await source_commands.add_plugin_folders(context, [tmp_path / "plugins"])
        assert [plugin.name for plugin in added] == ["bad", "good"]
        views = await source_answers.list_sources(context)
        assert [bool(view.error) for view in views] == [True, False]
        with pytest.raises(ManifestError):
            await source_commands.start_dump(context, "bad")
        assert (await source_commands.start_dump(context, "good")).kind == "dump"
        write_plugin(bad)
        assert (await source_answers.get_source(context, "bad")).error is None
        assert await source_commands.add_plugin_folders(context, [tmp_path / "plugins"]) == []
        assert good.name == "good"

    run_in_context(tmp_path / "home", scenario)


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await source_commands.add_plugin(context, write_plugin(tmp_path / "a" / "one"))
        with pytest.raises(Conflict, match="sourcebook plugin remove one"):
            await source_commands.add_plugin(context, write_plugin(tmp_path / "b" / "one"))

    run_in_context(tmp_path / "home", scenario)


def test_commands_that_cannot_work_yet_say_what_is_missing(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await source_commands.add_plugin(context, write_plugin(tmp_path / "one"))
        await source_commands.add_plugin(
            context, write_plugin(tmp_path / "files", {"dumper": {"data_url": "data.txt"}})
        )
        with pytest.raises(MissingUpload, match="sourcebook dump one"):
            await source_commands.start_upload(context, "one")
        with pytest.raises(InvalidRequest, match="only downloads"):
            await source_commands.start_upload(context, "files")
        await context.state.put("one", SourceState(name="one", dump="one@1"))
        with pytest.raises(NotFound, match="no uploader 'x'"):
            await source_commands.start_upload(context, "one", "x")
        with pytest.raises(MissingUpload, match="sourcebook upload one"):
            await source_commands.start_inspect(context, "one")

    run_in_context(tmp_path / "home", scenario)


def test_a_source_with_an_active_job_is_busy_and_stays(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await source_commands.add_plugin(context, write_plugin(tmp_path / "one"))
        job = await source_commands.start_dump(context, "one")
        with pytest.raises(Busy, match=job.id):
            await source_commands.start_dump(context, "one")
        assert (await source_answers.get_source(context, "one")).active_jobs == [job.id]
        with pytest.raises(Conflict, match="active jobs"):
            await source_commands.remove_plugin(context, "one")
        await cancel_job(context, job.id)
        config = BuildConfig(name="c", doc_type="d", sources=["one"])
        await build_commands.put_build_config(context, config)
        with pytest.raises(Conflict, match="'c' names 'one'"):
            await source_commands.remove_plugin(context, "one")

    run_in_context(tmp_path / "home", scenario)


def test_a_removed_source_leaves_nothing_but_what_a_build_links_to(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await source_commands.add_plugin(context, write_plugin(tmp_path / "one"))
        for generation in "12":
            collection = f"upload~one.one~{generation}"
            async with context.documents.create(collection) as writer:
                info = await writer.commit()
            fields = {"source": "one", "uploader": "one", "version": "1", "collection": collection}
            upload = Upload(id=f"one/one@{generation}", count=0, digest=info.digest, **fields)
            await context.state.put(upload.id, upload)
        key = "archive/one/1"
        ((await context.files.staging(key)) / "data.txt").write_text("x")
        await context.files.publish(key)
        await context.state.put("one@1", Dump(id="one@1", source="one", version="1", folder=key, files=[]))
        linked = {"name": "b", "config": "c", "doc_type": "d", "count": 0, "digest": "0", "uploads": [], "linked": True}
        await context.state.put("b", Build.model_validate({**linked, "collection": "upload~one.one~2"}))
        await source_commands.remove_plugin(context, "one")
        assert await context.documents.names() == ["upload~one.one~2"]
        assert not await context.files.exists(key)
        assert await context.state.find(Upload) == []
        assert await context.state.find(Dump) == []

    run_in_context(tmp_path / "home", scenario)


def test_what_sources_cost_does_not_grow_with_the_jobs_of_the_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are looked for once for all sources, and only active ones."""

    async def scenario(context: Context) -> None:
        for name in ("a", "b", "c"):
            await context.state.put(name, Plugin(name=name, folder=str(tmp_path / name)))
        for number, (target, state) in enumerate((("a", "running"), ("b/x", "queued"), ("c", "failed"))):
            job = Job(id=f"j{number}", kind="dump", target=target, lock=f"l{number}", state=JobState(state))
            await context.state.put(job.id, job)
        found: list[Job] = []
        find = context.state.find

        async def count(kind: Any, *args: Any, **options: Any) -> Any:
            records = await find(kind, *args, **options)
            found.extend(records if kind is Job else [])
            return records

        monkeypatch.setattr(context.state, "find", count)
        views = await source_answers.list_sources(context)
        assert {view.name: view.active_jobs for view in views} == {"a": ["j0"], "b": ["j1"], "c": []}
        assert [job.id for job in found] == ["j0", "j1"]

    run_in_context(tmp_path, scenario)


def test_a_folder_is_one_plugin_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_plugin(tmp_path / "plugins" / "one")
    (tmp_path / "linked").symlink_to(tmp_path / "plugins")
    monkeypatch.chdir(folder)

    async def scenario(context: Context) -> None:
        plugin = await source_commands.add_plugin(context, folder)
        for spelling in (
            ".",
            "../one",
            "../one/",
            tmp_path / "plugins" / ".." / "plugins" / "one",
            tmp_path / "linked" / "one",
        ):
            assert await source_commands.add_plugin(context, spelling) == plugin
        assert plugin.folder == str(folder.resolve())
        (tmp_path / "plugins" / "same").symlink_to(folder)
        assert (await source_commands.add_plugin(context, tmp_path / "plugins" / "same")).name == "same"
        assert await source_commands.add_plugin_folders(context, [tmp_path / "linked"]) == []

    run_in_context(tmp_path / "home", scenario)


def test_two_folders_of_one_name_are_a_conflict(tmp_path: Path) -> None:
    first, second = write_plugin(tmp_path / "a" / "one"), write_plugin(tmp_path / "b" / "one")

    async def scenario(context: Context) -> None:
        await source_commands.add_plugin(context, first)
        with pytest.raises(Conflict, match="rename one of the two folders"):
            await source_commands.add_plugin(context, second)

    run_in_context(tmp_path / "home", scenario)
