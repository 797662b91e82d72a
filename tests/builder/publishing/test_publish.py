"""What is published is complete or not there, and says of itself what it is."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from support.releases import (
    add_build,
    finish_killed,
    make_documents,
    play,
    publish,
    run_until_killed,
)

from sourcebook.context import Context
from sourcebook.errors import Conflict
from sourcebook.hub.builds.model import Build
from sourcebook.hub.changes.folder import ChangesFolder
from sourcebook.hub.changes.model import ChangeCounts, ChangesFile, ChangesMetadata, ComparedSide, MappingChanges
from sourcebook.hub.jobs.model import JobState
from sourcebook.hub.publishing.commands import start_publish
from sourcebook.hub.publishing.model import Latest, PublishedVersion, PublishedVersions
from sourcebook_builder.publishing import publish as module
from sourcebook_builder.publishing.address import FileSystemAddress
from sourcebook_builder.publishing.publish import choose_forms
from sourcebook_builder.publishing.snapshot import DocumentsWriter


def read_versions(folder: Path) -> PublishedVersions:
    return PublishedVersions.model_validate_json((folder / "genes" / "versions.json").read_bytes())


def read_latest(folder: Path) -> Latest:
    return Latest.model_validate_json((folder / "genes" / "latest.json").read_bytes())


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_first_release_is_published_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 400)

    async def scenario(publisher: Context, _: Context) -> None:
        await add_build(publisher, 1, make_documents())
        job = await publish(publisher, "genes_1", f"file://{tmp_path}/out")
        assert job.state is JobState.SUCCEEDED, job.error
        assert job.result
        assert (job.result["forms"], job.result["unchanged"]) == (["full"], False)
        folder = tmp_path / "out" / "genes" / "full" / "genes_1"
        names = sorted(path.name for path in folder.iterdir())
        assert names == [
            "documents-00001.jsonl.zst",
            "documents-00002.jsonl.zst",
            "documents-00003.jsonl.zst",
            "mapping.json",
            "metadata.json",
        ]
        lines = zstandard.ZstdDecompressor().decompressobj().decompress((folder / names[0]).read_bytes()).splitlines()
        assert orjson.loads(lines[3]) == {"_id": "id003", "word": "one", "number": 3}
        (version,) = read_versions(tmp_path / "out").versions
        assert (version.type, version.url, version.count) == ("full", "full/genes_1/metadata.json", 25)
        assert version.size == sum(path.stat().st_size for path in folder.iterdir())
        assert read_latest(tmp_path / "out").build == "genes_1"
        again = await publish(publisher, "genes_1", f"file://{tmp_path}/out")
        assert again.result
        assert (again.result["forms"], again.result["unchanged"]) == ([], True)

    play(tmp_path, scenario)


def test_later_releases_are_published_as_changes_until_they_grow_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        url = f"file://{tmp_path}/out"
        monkeypatch.setattr(module, "_MAX_INCREMENTS_SHARE", 100)
        monkeypatch.setattr(module, "_MAX_INCREMENTS", 2)
        old = await add_build(publisher, 1, make_documents())
        await publish(publisher, old.name, url)
        forms = []
        for number in range(2, 6):
            new = await add_build(publisher, number, make_documents(id001={"word": f"w{number}"}))
            if number == 3:
                await publisher.documents.drop(old.collection)
            job = await publish(publisher, new.name, url)
            assert job.result
            forms.append(job.result["forms"])
            old = new
        # without the documents before there is nothing but all; after two increments a new chain begins
        assert forms == [["incremental"], ["full"], ["incremental"], ["incremental"]]
        await add_build(publisher, 6, make_documents(id001={"word": "w6"}))
        job = await publish(publisher, "genes_6", url)
        assert job.result
        assert job.result["forms"] == ["incremental", "full"]
        entry = next(item for item in read_versions(tmp_path / "out").versions if item.type == "incremental")
        assert (entry.url, entry.base and entry.base.build) == (
            "incremental/genes_2~genes_1/metadata.json",
            "genes_1",
        )

    play(tmp_path, scenario)


def test_a_form_can_be_asked_for(tmp_path: Path) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        url = f"file://{tmp_path}/out"
        await add_build(publisher, 1, make_documents())
        job = await publish(publisher, "genes_1", url, mode="incremental")
        assert job.error
        assert "There are no changes from what was published last" in job.error.message
        await publish(publisher, "genes_1", url, mode="full")
        assert [item.type for item in read_versions(tmp_path / "out").versions] == ["full"]

    play(tmp_path, scenario)


@pytest.mark.parametrize("url", ["memory://out", "file:///{}"], ids=["memory", "folder"])
def test_any_file_system_takes_a_release(tmp_path: Path, url: str) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        await add_build(publisher, 1, make_documents())
        target = url.format(str(tmp_path / "a b").lstrip("/"))
        job = await publish(publisher, "genes_1", target)
        assert job.state is JobState.SUCCEEDED, job.error
        address = FileSystemAddress(f"{target}/genes")
        assert b"".join([chunk async for chunk in address.stream("latest.json")]).startswith(b"{")

    play(tmp_path, scenario)


def test_an_address_of_other_origin_is_left_alone(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await add_build(publisher, 1, make_documents())
        await publish(publisher, "genes_1", url)
        before = {name: (tmp_path / "out" / name).read_bytes() for name in files_of(tmp_path / "out")}
        await add_build(other, 1, make_documents(3))
        job = await publish(other, "genes_1", url)
        assert job.error
        assert (job.error.code, "of another origin" in job.error.message) == ("conflict", True)
        assert {name: (tmp_path / "out" / name).read_bytes() for name in files_of(tmp_path / "out")} == before

    play(tmp_path, scenario)


@pytest.mark.parametrize(("mode", "step"), [("incremental", "publish changes"), ("full", "publish")])
def test_a_publication_that_is_killed_shows_nothing_and_is_finished_by_the_next_worker(
    tmp_path: Path, mode: str, step: str
) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        url = f"file://{tmp_path}/out"
        await add_build(publisher, 1, make_documents())
        await publish(publisher, "genes_1", url)
        await add_build(publisher, 2, make_documents(30, id001={"word": "x"}))
        job = await start_publish(publisher, "genes_2", url, mode=mode)
        assert run_until_killed(publisher.settings.home, job.id, step=step) == -9
        assert read_latest(tmp_path / "out").build == "genes_1"
        assert [item.build for item in read_versions(tmp_path / "out").versions] == ["genes_1"]
        ended = await finish_killed(publisher, job.id)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2), ended.error
        assert read_latest(tmp_path / "out").build == "genes_2"
        assert not list(tmp_path.glob("out/**/.*"))

    play(tmp_path, scenario)


def test_a_publication_that_died_before_its_last_file_writes_only_that(tmp_path: Path) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        url = f"file://{tmp_path}/out"
        await add_build(publisher, 1, make_documents())
        await publish(publisher, "genes_1", url)
        (tmp_path / "out" / "genes" / "latest.json").unlink()
        await publish(publisher, "genes_1", url)
        assert read_latest(tmp_path / "out").build == "genes_1"

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "fails_at", ["documents", "changes-", "mapping.json", "metadata.json", "versions.json", "latest.json"]
)
def test_an_address_that_is_gone_half_way_keeps_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    put, replace = FileSystemAddress._put_file, FileSystemAddress._replace

    def fail(path: str) -> None:
        if fails_at in path:
            raise ConnectionResetError(f"ftp://user:secret@host{path} went away")

    def put_or_fail(self: FileSystemAddress, source: Path, target: str) -> None:
        fail(target)
        put(self, source, target)

    def replace_or_fail(self: FileSystemAddress, target: str, data: bytes) -> None:
        fail(target)
        replace(self, target, data)

    async def scenario(publisher: Context, _: Context) -> None:
        url = f"file://{tmp_path}/out"
        await add_build(publisher, 1, make_documents())
        await publish(publisher, "genes_1", url)
        await add_build(publisher, 2, make_documents(26))
        mode = "incremental" if fails_at == "changes-" else "full"
        with monkeypatch.context() as patch:
            patch.setattr(FileSystemAddress, "_put_file", put_or_fail)
            patch.setattr(FileSystemAddress, "_replace", replace_or_fail)
            job = await publish(publisher, "genes_2", url, mode)
            assert (job.state, job.attempt) == (JobState.FAILED, 1)
        assert job.error
        assert (job.error.code, "secret" in job.model_dump_json()) == ("engine_unavailable", False)
        assert read_latest(tmp_path / "out").build == "genes_1"
        job = await publish(publisher, "genes_2", url, mode)
        assert job.state is JobState.SUCCEEDED
        assert [item.build for item in read_versions(tmp_path / "out").versions] == ["genes_1", "genes_2"]

    play(tmp_path, scenario, job_attempts=1)


def test_a_full_disk_fails_the_job_and_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def scenario(publisher: Context, _: Context) -> None:
        await add_build(publisher, 1, make_documents())
        monkeypatch.setattr(DocumentsWriter, "write", fill)
        job = await publish(publisher, "genes_1", f"file://{tmp_path}/out")
        assert job.error
        assert "Is the disk full?" in job.error.message
        assert not (tmp_path / "out" / "genes" / "versions.json").exists()

    play(tmp_path, scenario, job_attempts=1)


def test_documents_that_are_not_those_of_the_build_are_not_published(tmp_path: Path) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        await add_build(publisher, 1, make_documents(), digest="0" * 32)
        job = await publish(publisher, "genes_1", f"file://{tmp_path}/out")
        assert job.error
        assert job.error.code == "store_damaged"
        assert not (tmp_path / "out" / "genes" / "versions.json").exists()

    play(tmp_path, scenario)


def test_an_archived_build_is_not_published(tmp_path: Path) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        await add_build(publisher, 1, make_documents(), archived_at=1.0)
        with pytest.raises(Conflict, match="is archived"):
            await start_publish(publisher, "genes_1", f"file://{tmp_path}/out")

    play(tmp_path, scenario)


def test_a_password_of_an_address_stays_secret(tmp_path: Path) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        await add_build(publisher, 1, make_documents())
        job = await publish(publisher, "genes_1", "ftp://user:secret@127.0.0.1:9/x")
        assert job.error
        assert job.state is JobState.FAILED
        assert "secret" not in job.model_dump_json()
        assert "***" in job.model_dump_json()

    play(tmp_path, scenario, job_attempts=1)


@pytest.mark.parametrize(
    ("sizes", "own", "forms"),
    [
        ((), 10, ("incremental", "full")),
        ((100,), 10, ("incremental",)),
        ((100,), 51, ("full",)),
        ((100, 30), 15, ("incremental",)),
        ((100, 30), 30, ("incremental", "full")),
        ((10_000, *[1] * 12), 1, ("incremental", "full")),
    ],
    ids=["no full one", "small", "large", "both small", "together large", "many"],
)
def test_the_rule_weighs_what_a_new_machine_reads(sizes: tuple[int, ...], own: int, forms: tuple[str, ...]) -> None:
    versions = [make_version(number, size) for number, size in enumerate(sizes)]
    build = Build(name="new", config="c", doc_type="gene", collection="x", count=1, digest="0", uploads=[])
    assert choose_forms(versions, build, make_changes(own), "auto") == forms
    assert choose_forms([*versions, make_version(99, 1, "new")], build, make_changes(own), "auto") == ()


def make_version(number: int, size: int, build: str = "") -> PublishedVersion:
    kind = "incremental" if number else "full"
    values: dict[str, Any] = {
        "build": build or f"b{number}",
        "build_version": "1",
        "type": kind,
        "url": "full/b/metadata.json",
    }
    values |= {"count": 1, "digest": "0" * 32, "size": size, "sha256": "0" * 64}
    return PublishedVersion.model_validate(values)


def make_changes(size: int) -> ChangesFolder:
    side = ComparedSide(build="b", version="1", collection="c", count=1, digest="0" * 32)
    file = ChangesFile(name="changes-00001.jsonl.zst", changes=1, counts=ChangeCounts(), size=size, sha256="0" * 64)
    metadata = ChangesMetadata(
        config="c", doc_type="gene", old=side, new=side, counts=ChangeCounts(), mapping=MappingChanges(), files=[file]
    )
    return ChangesFolder(Path(), metadata)


def test_what_is_published_to_a_folder_can_be_read_by_everybody(tmp_path: Path) -> None:
    async def scenario(publisher: Context, _: Context) -> None:
        await add_build(publisher, 1, make_documents())
        await publish(publisher, "genes_1", f"file://{tmp_path}/some/out")
        made = [tmp_path / "some", *(tmp_path / "some").rglob("*")]
        assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o755}
        assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o644}

    play(tmp_path, scenario)
