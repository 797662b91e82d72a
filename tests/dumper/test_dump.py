"""Dumps from end to end: what is downloaded when, what is kept, and what a failure leaves."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import (
    Conflict,
    DownloadRefused,
    EngineUnavailable,
    ManifestError,
    NotFound,
    ParserError,
    UnsafeArchive,
)
from sourcebook.flow.messages import DumpSource
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook_dumper.dump import dump_source
from sourcebook_dumper.fetchers import choose_fetcher

if TYPE_CHECKING:
    from support.downloads import DumpBench, Site

    from sourcebook.context import Context


def test_a_first_dump_downloads_and_starts_all_uploaders(bench: DumpBench, site: Site) -> None:
    bench.write([site.add("/a.tsv", b"one\n"), site.add("/b%20c.tsv", b"two\n")], uploaders=2)
    message = bench.dump()
    assert (message.version, message.unchanged, message.files, message.size) == ("2024-01-02", False, 2, 8)
    assert message.uploaders == ("u0", "u1")
    assert bench.content() == {"a.tsv": b"one\n", "b c.tsv": b"two\n"}
    assert bench.state().dump == message.dump == "bench@2024-01-02"
    assert [path.name for path in bench.archive.iterdir() if path.is_dir()] == ["2024-01-02"]
    assert bench.staged == []


def test_the_dump_records_names_sizes_hashes_urls_and_headers(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"one\n"))
    bench.dump()
    file = bench.current().files[0]
    assert (file.name, file.size, file.url) == ("a.tsv", 4, f"{site.url}/a.tsv")
    assert file.sha256 == hashlib.sha256(b"one\n").hexdigest()
    assert file.headers["etag"] == '"one"'


def test_passwords_of_urls_are_not_stored(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"one\n").replace("://", "://me:secret@"))
    bench.dump()
    assert "secret" not in bench.current().model_dump_json()
    assert site.gets()[-1]["authorization"].startswith("Basic ")


def test_an_unchanged_version_downloads_nothing(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"one\n"))
    bench.dump()
    bench.upload("u0")
    requests = len(site.gets())
    message = bench.dump()
    assert message.unchanged
    assert message.uploaders == ()
    assert message.dump == "bench@2024-01-02"
    assert len(site.gets()) == requests


def test_an_unchanged_version_starts_the_uploaders_that_have_no_upload(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"one\n"), uploaders=2)
    bench.dump(then_upload=False)
    bench.upload("u0")
    assert bench.dump().uploaders == ("u1",)
    assert bench.dump(then_upload=False).uploaders == ()


def test_a_new_version_replaces_the_current_one(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"old"))
    bench.dump()
    site.add("/a.tsv", b"new", headers={"Last-Modified": "Wed, 03 Jan 2024 10:00:00 GMT"})
    assert bench.dump().version == "2024-01-03"
    assert bench.content() == {"a.tsv": b"new"}


def test_a_forced_dump_of_the_same_version_stands_beside_it(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"old"))
    first = bench.dump()
    site.add("/a.tsv", b"new")
    second = bench.dump(force=True)
    assert (first.dump, second.dump) == ("bench@2024-01-02", "bench@2024-01-02~2")
    assert (bench.archive / "2024-01-02" / "a.tsv").read_bytes() == b"old"
    assert bench.content() == {"a.tsv": b"new"}


def test_old_dumps_are_deleted_beyond_the_number_kept(bench: DumpBench, site: Site) -> None:
    url = site.add("/a.tsv", b"x")
    bench.write(url)
    for day in range(1, 5):
        site.add("/a.tsv", b"x", headers={"Last-Modified": f"Thu, 0{day} Feb 2024 10:00:00 GMT"})
        bench.dump()
    assert sorted(path.name for path in bench.archive.iterdir() if path.is_dir()) == ["2024-02-03", "2024-02-04"]
    assert sorted(record.version for record in bench.records()) == ["2024-02-03", "2024-02-04"]


def test_a_published_folder_without_a_record_is_not_used_and_is_removed(bench: DumpBench, site: Site) -> None:
    async def die_before_the_record(context: Context) -> None:
        (await context.files.staging("archive/bench/2024-01-02") / "a.tsv").write_text("orphan")
        await context.files.publish("archive/bench/2024-01-02")

    bench.write(site.add("/a.tsv", b"x"))
    bench.run(die_before_the_record)
    assert bench.dump().dump == "bench@2024-01-02~2"
    assert [path.name for path in bench.archive.iterdir() if path.is_dir()] == ["2024-01-02~2"]


def test_a_complete_dump_whose_job_died_becomes_current(bench: DumpBench, site: Site) -> None:
    async def forget_current(context: Context) -> None:
        await context.state.put("bench", bench_state.model_copy(update={"dump": None}))

    bench.write(site.add("/a.tsv", b"x"))
    bench.dump()
    bench_state = bench.state()
    bench.run(forget_current)
    requests = len(site.gets())
    message = bench.dump()
    assert not message.unchanged
    assert message.uploaders == ("u0",)
    assert bench.state().dump == message.dump
    assert len(site.gets()) == requests


def test_a_dump_whose_files_were_deleted_by_hand_is_downloaded_again(bench: DumpBench, site: Site) -> None:
    async def delete(context: Context) -> None:
        await context.files.delete("archive/bench/2024-01-02")

    bench.write(site.add("/a.tsv", b"x"))
    bench.dump()
    bench.run(delete)
    assert not bench.dump().unchanged
    assert bench.content() == {"a.tsv": b"x"}


def test_a_failure_keeps_the_last_good_dump_and_says_why(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"))
    good = bench.dump().dump
    bench.write(f"{site.url}/gone.tsv")
    with pytest.raises(DownloadRefused, match=r"gone.tsv.*404"):
        bench.dump()
    state = bench.state()
    assert state.dump == good
    assert state.last_dump_error is not None
    assert state.last_dump_error["code"] == "download_refused"
    assert "404" in state.last_dump_error["message"]
    bench.write(site.add("/a.tsv", b"x"))
    bench.dump()
    assert bench.state().last_dump_error is None


def test_one_refused_file_fails_the_dump_as_a_whole(bench: DumpBench, site: Site) -> None:
    bench.write([site.add("/a.tsv", b"x"), f"{site.url}/gone.tsv", site.add("/b.tsv", b"x")])
    with pytest.raises(DownloadRefused):
        bench.dump()
    assert bench.state().dump is None
    assert bench.staged == []


def test_an_unknown_source_is_not_found(bench: DumpBench) -> None:
    async def work(context: Context) -> None:
        await dump_source(context, None, DumpSource(source="nothing"))  # type: ignore[arg-type]

    with pytest.raises(NotFound, match="nothing"):
        bench.run(work)


def test_a_disabled_dumper_runs_only_when_forced(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), disabled=True)
    with pytest.raises(Conflict, match="disabled"):
        bench.dump()
    assert bench.dump(force=True).version == "2024-01-02"


def test_warnings_of_the_manifest_reach_the_job(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), uncompres=True)
    bench.dump()
    assert "did you mean 'uncompress'?" in bench.warnings[0]


def test_a_broken_manifest_is_recorded_at_the_source(bench: DumpBench) -> None:
    (bench.plugin / "manifest.json").write_text("{")
    with pytest.raises(ManifestError):
        bench.dump()
    error = bench.state().last_dump_error
    assert error is not None
    assert error["code"] == "manifest"


def test_a_scheme_without_a_fetcher_is_named_with_the_known_ones() -> None:
    with pytest.raises(ManifestError, match=r"'gopher' cannot be downloaded; known are http:, https:, ftp:, s3:"):
        choose_fetcher({"http": None, "https": None, "ftp": None, "s3": None, "": None}, "gopher://host/a")  # type: ignore[dict-item]


def test_archives_are_unpacked_beside_themselves(bench: DumpBench, site: Site) -> None:
    packed = gzip.compress(b"one\n")
    bench.write(site.add("/a.tsv.gz", packed), uncompress=True)
    bench.dump()
    assert bench.content() == {"a.tsv.gz": packed, "a.tsv": b"one\n"}


def test_archives_stay_packed_unless_the_manifest_asks(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv.gz", gzip.compress(b"one\n")))
    bench.dump()
    assert list(bench.content()) == ["a.tsv.gz"]


def test_uncompress_without_an_archive_is_warned_of(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"one\n"), uncompress=True)
    bench.dump()
    assert "no downloaded file is an archive" in bench.warnings[0]


def test_an_unsafe_archive_leaves_nothing_behind(bench: DumpBench, site: Site) -> None:
    bench.overrides["unpack_max_bytes"] = 100
    bench.write(site.add("/a.tsv.gz", gzip.compress(b"x" * 1000)), uncompress=True)
    with pytest.raises(UnsafeArchive):
        bench.dump()
    assert bench.state().dump is None
    assert bench.staged == []


def test_a_full_disk_is_a_transient_error(bench: DumpBench, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    bench.write(site.add("/a.tsv", b"x"))
    monkeypatch.setattr("sourcebook_dumper.fetchers.partial.PartialFile.write", fail)
    with pytest.raises(EngineUnavailable, match="No space left"):
        bench.dump()


def test_an_unforeseen_error_is_recorded_too(bench: DumpBench, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(site.add("/a.tsv", b"x"))
    monkeypatch.setattr("sourcebook_dumper.dump.choose_file_names", lambda _urls: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.dump()
    error = bench.state().last_dump_error
    assert error is not None
    assert error["code"] == "internal"


def test_a_cancelled_dump_stops_soon_and_is_resumed_by_the_next(bench: DumpBench, site: Site) -> None:
    body = bytes(range(256)) * 8192
    bench.write(site.add("/a.bin", body, failures=[("hang", 1500_000)]))

    async def cancel_while_it_hangs(context: Context) -> None:
        task = asyncio.create_task(bench.dump_in(context))
        while not any(path.suffix == ".part" and path.stat().st_size for path in bench.staged):
            await asyncio.sleep(0.02)
        async with asyncio.timeout(3):
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()

    bench.run(cancel_while_it_hangs)
    assert bench.state().last_dump_error is None
    bench.dump()
    assert bench.content() == {"a.bin": body}
    assert int(site.gets()[-1]["range"].removeprefix("bytes=").rstrip("-")) > 0


def test_files_that_were_complete_are_not_sent_again(bench: DumpBench, site: Site) -> None:
    bench.overrides["download_retries"] = 0
    site.add("/b.tsv", b"two\n", failures=[503], seconds=0.2)
    bench.write([site.add("/a.tsv", b"one\n"), f"{site.url}/b.tsv"])
    with pytest.raises(Exception, match="503"):
        bench.dump()
    bench.dump()
    assert bench.content() == {"a.tsv": b"one\n", "b.tsv": b"two\n"}
    again = [headers for method, path, headers in site.log if method == "GET" and path == "/a.tsv"][1]
    assert (again["range"], again["if-range"]) == ("bytes=4-", '"one"')


def test_a_try_that_died_while_unpacking_is_resumed_from_its_files(bench: DumpBench, site: Site) -> None:
    async def leave_what_a_killed_job_leaves(context: Context) -> None:
        folder = await context.files.staging("archive/bench/2024-01-02")
        (folder / "a.tsv.gz").write_bytes(packed)
        (folder / ".a.tsv.gz.part.json").write_text(f'{{"url": "{site.url}/a.tsv.gz", "validator": "\\"one\\""}}')
        (folder / "a.tsv").write_bytes(b"half")
        (folder / "inner").mkdir()

    packed = gzip.compress(b"one\n")
    bench.write(site.add("/a.tsv.gz", packed), uncompress=True)
    bench.run(leave_what_a_killed_job_leaves)
    bench.dump()
    assert bench.content() == {"a.tsv.gz": packed, "a.tsv": b"one\n"}
    assert site.gets()[-1]["range"] == f"bytes={len(packed)}-"
    assert bench.current().files[0].sha256 == hashlib.sha256(packed).hexdigest()


def test_a_version_function_that_fails_is_shown_with_its_traceback(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), release="release:get", code="def get(self):\n    return {}['release']\n")
    with pytest.raises(ParserError, match="KeyError") as caught:
        bench.dump()
    assert "release.py" in caught.value.details["traceback"]


def test_an_upload_of_an_older_dump_is_taken_up_again_by_a_dump_that_finds_nothing_new(
    bench: DumpBench, site: Site
) -> None:
    bench.write(site.add("/a.tsv", b"old"))
    bench.dump()
    bench.upload("u0")
    site.add("/a.tsv", b"new", headers={"ETag": '"two"'})
    assert bench.dump().uploaders == ("u0",)  # say this upload fails, is cancelled, or its worker is killed
    again = bench.dump()
    assert (again.unchanged, again.uploaders) == (True, ("u0",))
    bench.upload("u0")
    assert bench.dump().uploaders == ()


def test_an_edited_parser_is_run_by_a_dump_that_finds_nothing_new(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), uploaders=2)
    (bench.plugin / "parser.py").write_text("def load(folder): 1 / 0")
    bench.dump()
    bench.upload("u0", "u1")
    assert bench.dump().uploaders == ()
    (bench.plugin / "parser.py").write_text("def load(folder): return []")
    assert bench.dump().uploaders == ("u0", "u1")


@pytest.mark.parametrize(
    ("changes", "uploaders"),
    [
        ({}, ()),
        ({"state": JobState.RUNNING, "started_at": 4e9}, ()),
        ({"state": JobState.RUNNING, "started_at": 1.0}, ("u0",)),
        ({"cancel_requested": True}, ("u0",)),
        ({"state": JobState.FAILED}, ("u0",)),
    ],
    ids=["queued", "running", "of-an-older-dump", "cancelled", "failed"],
)
def test_an_upload_that_is_under_way_is_not_started_twice(
    bench: DumpBench, site: Site, changes: dict[str, object], uploaders: tuple[str, ...]
) -> None:
    async def add_job(context: Context) -> None:
        job = Job(kind="upload", target="bench/u0", lock="upload:bench/u0")
        await context.state.put(job.id, job.model_copy(update=changes))

    bench.write(site.add("/a.tsv", b"x"))
    bench.dump()
    bench.run(add_job)
    assert bench.dump().uploaders == uploaders


def test_two_archives_with_the_same_member_are_refused_or_get_folders(bench: DumpBench, site: Site) -> None:
    urls = [site.add(f"/{city}.zip", pack_zip("stops.txt", city.encode())) for city in ("bern", "cork")]
    bench.write(urls, uncompress=True)
    with pytest.raises(UnsafeArchive, match=r"cork\.zip and bern\.zip both have a member 'stops\.txt'.*into_folders"):
        bench.dump()
    bench.write(urls, uncompress=True, uncompress_into_folders=True)
    bench.dump()
    content = bench.content()
    assert (content["bern/stops.txt"], content["cork/stops.txt"]) == (b"bern", b"cork")


def test_headers_of_the_manifest_are_sent_and_never_shown(
    bench: DumpBench, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENES_TOKEN", "s3cret")
    headers = {"Authorization": "Bearer ${GENES_TOKEN}"}
    bench.write(site.add("/a.tsv", b"x"), headers=headers)
    with pytest.raises(ManifestError, match="SOURCEBOOK_HEADER_VARIABLES=GENES_TOKEN"):
        bench.dump()
    bench.overrides["header_variables"] = "OTHER, GENES_TOKEN"
    bench.dump()
    assert {request["authorization"] for _, _, request in site.log} == {"Bearer s3cret"}
    assert "s3cret" not in bench.current().model_dump_json()
    monkeypatch.delenv("GENES_TOKEN")
    with pytest.raises(ManifestError, match=r"\$\{GENES_TOKEN\}, which is not set"):
        bench.dump()


def test_headers_of_the_manifest_do_not_follow_a_redirect_to_another_server(
    bench: DumpBench, site: Site, elsewhere: Site
) -> None:
    target = elsewhere.add("/b.tsv", b"x")
    bench.write(site.add("/a.tsv", status=302, headers={"Location": target}), headers={"X-Key": "s3cret"})
    bench.dump()
    assert all("x-key" in headers for _, _, headers in site.log)
    assert elsewhere.log
    assert all("x-key" not in headers for _, _, headers in elsewhere.log)


def pack_zip(name: str, data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, data)
    return packed.getvalue()


def test_a_file_whose_name_is_that_of_a_part_overwrites_no_other_file(bench: DumpBench, site: Site) -> None:
    names = ("x.part", "x", "x.part.json", ".x.part")
    bench.write([site.add(f"/{name}", name.encode()) for name in names])
    bench.dump()
    assert bench.content() == {"x.part": b"x.part", "x": b"x", "x.part.json": b"x.part.json", "x-2.part": b".x.part"}


def test_a_header_of_the_manifest_replaces_ours(bench: DumpBench, site: Site) -> None:
    bench.write(site.add("/a.tsv", b"x"), headers={"user-agent": "genes/1.0", "accept-encoding": "gzip"})
    bench.dump()
    assert {(request["user-agent"], request["accept-encoding"]) for _, _, request in site.log} == {
        ("genes/1.0", "identity")
    }
