"""An installation ends with exactly what was published, or changes nothing and says what is wrong."""

import asyncio
import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.releases import (
    add_build,
    finish_killed,
    install,
    make_documents,
    play,
    publish,
    read_all,
    run_until_killed,
)

from sourcebook.context import Context
from sourcebook.errors import Busy, Conflict, EngineUnavailable
from sourcebook.hub.builds.answers import get_build
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.publishing.commands import start_install
from sourcebook.hub.releases.answers import get_api
from sourcebook.hub.releases.model import Release
from sourcebook.ports.documents import CollectionWriter
from sourcebook_builder.publishing import publish as publish_module


async def publish_chain(publisher: Context, url: str) -> list[Build]:
    """Publish three builds: in full, then twice as changes."""
    documents = make_documents()
    builds = [await add_build(publisher, 1, documents)]
    await publish(publisher, "genes_1", url)
    for number, changed in ((2, {"id003": {"word": "two"}, "id004": {}}), (3, {"id003": {"word": "x", "number": 7}})):
        documents = {**make_documents(25 + number), **make_documents(25 + number, **changed)}
        builds.append(await add_build(publisher, number, documents))
        await publish(publisher, builds[-1].name, url)
    return builds


@pytest.fixture(autouse=True)
def _many_increments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_module, "_MAX_INCREMENTS_SHARE", 100)


async def served(context: Context, api: str = "genes") -> Build:
    release = await context.state.get(Release, (await get_api(context, api)).release or "")
    assert release
    return await get_build(context, release.build)


async def check_equal(publisher: Context, other: Context, build: Build, api: str = "genes") -> None:
    """Check that an API serves what another machine has published."""
    found = await served(other, api)
    assert await read_all(other, found.collection) == await read_all(publisher, build.collection)
    assert (found.count, found.digest, found.mapping) == (build.count, build.digest, build.mapping)
    assert (found.doc_type, found.metadata) == (build.doc_type, build.metadata)
    names = await other.documents.names()
    assert set(names) == {item.collection for item in await other.state.find(Build)}


def succeeded(job: Job) -> dict[str, Any]:
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result
    return job.result


def failed(job: Job, code: str, *words: str) -> None:
    assert job.state is JobState.FAILED, job.result
    assert job.error
    assert job.error.code == code, job.error
    assert [word for word in words if word not in job.error.message] == [], job.error.message


def test_the_newest_release_is_installed_by_the_shortest_way(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        builds = await publish_chain(publisher, url)
        first = succeeded(await install(other, f"{url}/genes", version="1"))
        assert (first["build"], first["steps"], first["unchanged"]) == ("genes_1", 1, False)
        await check_equal(publisher, other, builds[0])
        second = succeeded(await install(other, f"{url}/genes"))
        assert (second["build"], second["steps"]) == ("genes_3", 2)
        await check_equal(publisher, other, builds[2])
        again = succeeded(await install(other, f"{url}/genes"))
        assert (again["unchanged"], again["release"]) == (True, False)
        assert (await get_api(other, "genes")).history == ["genes_1"]

    play(tmp_path, scenario)


def test_a_machine_that_has_nothing_reads_the_full_release_and_what_follows(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        builds = await publish_chain(publisher, url)
        job = await install(other, f"{url}/genes/versions.json", name="copy", api="web")
        assert succeeded(job)["steps"] == 3
        await check_equal(publisher, other, builds[2], "web")
        found = await served(other, "web")
        assert (found.name, found.config, found.installed_from) == ("copy_3", "copy", f"{url}/genes")

    play(tmp_path, scenario)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve the folder `out` by HTTP."""
    (tmp_path / "out").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "out"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_releases_are_read_from_a_web_server(tmp_path: Path, web: str) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        builds = await publish_chain(publisher, f"file://{tmp_path}/out")
        succeeded(await install(other, f"{web}/genes"))
        await check_equal(publisher, other, builds[2])
        failed(await install(other, f"{web}/nothing"), "not_found", "Nothing is published at")
        failed(await install(other, "http://u:secret@127.0.0.1:9/x", name="x"), "download_interrupted", "u:***@")

    play(tmp_path, scenario, job_attempts=1)


def test_the_fetched_changes_are_kept_for_the_index(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await publish_chain(publisher, url)
        await install(other, f"{url}/genes", version="2", name="copy")
        await install(other, f"{url}/genes", version="3", name="copy")
        assert await other.files.keys("changes") == ["changes/copy_3/copy_2"]

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("full/genes_1/documents-00001.jsonl.zst", ("is damaged: expected", "with sha256")),
        ("full/genes_1/mapping.json", ("is damaged",)),
        ("full/genes_1/metadata.json", ("is damaged: expected sha256",)),
        ("incremental/genes_2~genes_1/changes-00001.jsonl.zst", ("is damaged",)),
        ("incremental/genes_2~genes_1/metadata.json", ("is damaged",)),
        ("versions.json", ("is not JSON",)),
        ("latest.json", ("is not JSON",)),
    ],
)
@pytest.mark.parametrize("how", ["damaged", "cut", "missing"])
def test_a_damaged_or_missing_file_installs_nothing(
    tmp_path: Path, name: str, words: tuple[str, ...], how: str
) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await publish_chain(publisher, url)
        succeeded(await install(other, f"{url}/genes", version="1"))
        path = tmp_path / "out" / "genes" / name
        good = path.read_bytes()
        if how == "missing":
            path.unlink()
        elif how == "cut":
            path.write_bytes(good[:-7])
        else:
            path.write_bytes(good[:20] + b"\xff" + good[21:])
        before = (await get_api(other, "genes")).release
        where = "copy" if name.startswith("full") else "genes"
        job = await install(other, f"{url}/genes", name=where)
        if how == "missing" and "/" not in name:
            failed(job, "not_found")
        else:
            failed(job, "damaged_release", *(words if how == "damaged" else ()))
        assert (await get_api(other, "genes")).release == before
        assert await other.documents.names() == [(await served(other)).collection]
        path.write_bytes(good)
        succeeded(await install(other, f"{url}/genes", name=where))

    play(tmp_path, scenario)


def rewrite_snapshot(folder: Path, lines: list[bytes], **changes: Any) -> None:
    """Make a release of other lines whose checksums are right: its publisher lies."""
    data = zstandard.ZstdCompressor().compress(b"".join(line + b"\n" for line in lines))
    release = folder / "genes" / "full" / "genes_1"
    (release / "documents-00001.jsonl.zst").write_bytes(data)
    metadata = json.loads((release / "metadata.json").read_bytes())
    file = {"name": "documents-00001.jsonl.zst", "documents": len(lines), "size": len(data)}
    metadata["files"] = [{**file, "sha256": hashlib.sha256(data).hexdigest()}]
    text = json.dumps({**metadata, **changes}).encode()
    (release / "metadata.json").write_bytes(text)
    versions = json.loads((folder / "genes" / "versions.json").read_bytes())
    versions["versions"][0]["sha256"] = hashlib.sha256(text).hexdigest()
    (folder / "genes" / "versions.json").write_text(json.dumps(versions))


@pytest.mark.parametrize(
    ("lines", "changes", "words"),
    [
        ([b'{"_id":"a"}'], {}, "is not what it promises"),
        ([b'{"_id": "a"}'], {}, "not a document in canonical JSON"),
        ([b'{"_id":""}'], {}, "not a document in canonical JSON"),
        ([b'{"_id":"' + b"x" * 513 + b'"}'], {}, "not a document in canonical JSON"),
        ([b'{"_id":1}'], {}, "not a document in canonical JSON"),
        ([b"[]"], {}, "this is not a document"),
        ([b'{"_id":"b"}', b'{"_id":"a"}'], {}, "not in the order"),
        ([b'{"_id":"a"}'], {"files": [{"name": "../../x", "size": 1, "sha256": "0" * 64}]}, "cannot be understood"),
        ([b'{"_id":"a"}'], {"doc_type": "../x"}, "cannot be understood"),
        ([b'{"_id":"a","b":"' + b"x" * 2_000_000 + b'"}'], {}, "unpacks to more than is allowed"),
    ],
)
def test_a_publisher_that_lies_is_found_out(
    tmp_path: Path, lines: list[bytes], changes: dict[str, Any], words: str
) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await add_build(publisher, 1, make_documents())
        await publish(publisher, "genes_1", url)
        rewrite_snapshot(tmp_path / "out", lines, **changes)
        failed(await install(other, f"{url}/genes"), "damaged_release", words)
        assert await other.documents.names() == []

    play(tmp_path, scenario, unpack_max_bytes=1_000_000)


def test_an_address_in_versions_json_cannot_lead_elsewhere(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await add_build(publisher, 1, make_documents())
        await publish(publisher, "genes_1", url)
        path = tmp_path / "out" / "genes" / "versions.json"
        good = json.loads(path.read_bytes())
        for bad in (
            "http://127.0.0.1/metadata.json",
            "full/../../x/metadata.json",
            "/etc/metadata.json",
            "full/.x/metadata.json",
        ):
            good["versions"][0]["url"] = bad
            path.write_text(json.dumps(good))
            failed(await install(other, f"{url}/genes"), "damaged_release", "versions.0.url")

    play(tmp_path, scenario)


def test_changes_whose_base_is_nowhere_say_what_is_needed(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await publish_chain(publisher, url)
        path = tmp_path / "out" / "genes" / "versions.json"
        versions = json.loads(path.read_bytes())
        versions["versions"] = versions["versions"][1:]
        path.write_text(json.dumps(versions))
        failed(await install(other, f"{url}/genes"), "not_found", "published as changes to genes_2", "full release")
        failed(await install(other, f"{url}/genes", version="9"), "not_found", "no release '9'; it has 2, 3")

    play(tmp_path, scenario)


@pytest.mark.parametrize("step", ["fetch", "install", "install changes"])
def test_an_installation_that_is_killed_is_finished_by_the_next_worker(tmp_path: Path, step: str) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        builds = await publish_chain(publisher, url)
        job = await start_install(other, f"{url}/genes")
        assert run_until_killed(other.settings.home, job.id, step=step) == -9
        assert await other.state.find(Build) == []
        ended = await finish_killed(other, job.id)
        assert (succeeded(ended)["steps"], ended.attempt) == (3, 2)
        await check_equal(publisher, other, builds[2])
        assert not list((other.settings.home / "scratch").glob("*"))

    play(tmp_path, scenario)


def test_two_installations_at_once_are_one(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        builds = await publish_chain(publisher, url)
        answers = await asyncio.gather(
            *(start_install(other, f"{url}/genes") for _ in range(3)), return_exceptions=True
        )
        assert sum(isinstance(item, Busy) for item in answers) == 2
        succeeded(await install(other, f"{url}/genes", name="copy"))  # runs the first, and another under its own name
        await check_equal(publisher, other, builds[2])
        assert (await served(other, "copy")).digest == builds[2].digest

    play(tmp_path, scenario)


def test_a_full_disk_fails_the_job_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await publish_chain(publisher, url)

        def fill(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", fill)
            failed(await install(other, f"{url}/genes"), "engine_unavailable", "Is the disk full?")

        writer: type[CollectionWriter] = type(await other.documents.create("upload~x~y").__aenter__())
        with monkeypatch.context() as patch:

            async def fail(*_: object) -> None:
                raise EngineUnavailable("LMDB could not write. Is the disk full?")

            patch.setattr(writer, "write", fail)
            failed(await install(other, f"{url}/genes"), "engine_unavailable", "Is the disk full?")
        assert await other.documents.names() == []
        succeeded(await install(other, f"{url}/genes"))

    play(tmp_path, scenario, job_attempts=1)


def test_what_is_built_here_is_not_installed_over(tmp_path: Path) -> None:
    async def scenario(_: Context, other: Context) -> None:
        config = BuildConfig(name="genes", doc_type="gene", sources=["a"])
        await other.state.put("genes", config)
        with pytest.raises(Conflict, match="--name"):
            await start_install(other, f"file://{tmp_path}/genes")

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("newest", "words"),
    [
        (
            {"build_version": "1.2", "target_version": "2", "require_version": "1", "type": "incremental"},
            "are Python pickles",
        ),
        ({"build_version": "2", "target_version": "2", "require_version": None, "type": "full"}, "Elasticsearch"),
    ],
    ids=["incremental", "full"],
)
def test_biothings_releases_are_listed_and_refused_with_the_reason(
    tmp_path: Path, newest: dict[str, Any], words: str
) -> None:
    async def scenario(_: Context, other: Context) -> None:
        folder = tmp_path / "mygene.info"
        folder.mkdir()
        versions = {"format": "1.0", "versions": [{"build_version": "1", "type": "full", "url": "x"}, newest]}
        (folder / "versions.json").write_text(json.dumps(versions))
        metadata = {"type": newest["type"], "diff": {"files": [{"name": "0001.pyobj", "md5sum": "x"}]}}
        (folder / "1.2.json").write_text(json.dumps(metadata))
        job = await install(other, f"file://{folder}")
        failed(job, "download_refused", "has 2 BioThings releases", words)
        assert job.error
        assert [item["build_version"] for item in job.error.details["versions"]] == ["1", newest["build_version"]]
        assert ("0001.pyobj" in job.error.message) == (newest["type"] == "incremental")

    play(tmp_path, scenario)
