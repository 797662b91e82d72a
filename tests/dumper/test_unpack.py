"""Unpacking: all kinds of archives, and every way out of the folder or beyond the bounds."""

import asyncio
import bz2
import gzip
import hashlib
import importlib
import io
import lzma
import stat
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sourcebook.errors import DownloadInterrupted, DownloadRefused, UnsafeArchive
from sourcebook_dumper import unpack as unpacking
from sourcebook_dumper.archives import is_cut, names_archive
from sourcebook_dumper.progress import Count, run_in_thread
from sourcebook_dumper.unpack import Unpacker


def unpack(folder: Path, *names: str, **bounds: Any) -> list[str]:
    limits = {"max_bytes": 10**9, "max_ratio": 1000, "count": Count(), "stop": threading.Event(), **bounds}
    return sorted(Unpacker(folder, **limits).unpack_all(names))


def write_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)


def write_tar(path: Path, *members: tuple[str, bytes], mode: Any = "w", **attributes: Any) -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.tsv.gz", gzip.compress),
        ("a.tsv.bz2", bz2.compress),
        ("a.tsv.xz", lzma.compress),
        ("a.tsv.GZ", gzip.compress),
    ],
)
def test_single_files(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(b"one\n") + pack(b"two\n"))
    assert unpack(tmp_path, name) == ["a.tsv"]
    assert (tmp_path / "a.tsv").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.tar.gz", "w:gz"),
        ("a.tgz", "w:gz"),
        ("a.tar.bz2", "w:bz2"),
        ("a.tbz2", "w:bz2"),
        ("a.tar.xz", "w:xz"),
        ("a.tar", "w"),
    ],
)
def test_tar_files(tmp_path: Path, name: str, mode: str) -> None:
    write_tar(tmp_path / name, ("sub/a.tsv", b"one\n"), ("b.tsv", b""), mode=mode)
    assert unpack(tmp_path, name) == ["b.tsv", "sub/a.tsv"]
    assert files(tmp_path / "sub") == {"a.tsv": b"one\n"}


def test_zip_files(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", ("sub/", b""), ("sub/a.tsv", b"one\n"), ("windows\\b.tsv", b"two\n"))
    assert unpack(tmp_path, "a.zip") == ["sub/a.tsv", "windows/b.tsv"]
    assert (tmp_path / "windows" / "b.tsv").read_bytes() == b"two\n"


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"one\n")
    assert unpack(tmp_path, "a.tsv") == []
    assert not names_archive(".gz")


def test_archives_in_archives_are_unpacked_one_level_deep(tmp_path: Path) -> None:
    write_zip(tmp_path / "inmost.zip", ("deep.tsv.gz", gzip.compress(b"deep")))
    inmost = (tmp_path / "inmost.zip").read_bytes()
    write_zip(tmp_path / "a.zip", ("sub/b.tsv.gz", gzip.compress(b"b")), ("c.zip", inmost))
    assert unpack(tmp_path, "a.zip") == ["c.zip", "deep.tsv.gz", "sub/b.tsv", "sub/b.tsv.gz"]


@pytest.mark.parametrize(
    "member", ["../evil", "/../evil", "sub/../../evil", "..\\evil", "C:\\evil", "C:evil", "sub/..", "\\\\host\\evil"]
)
def test_a_member_that_leads_out_of_the_folder_is_named(tmp_path: Path, member: str) -> None:
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    write_zip(folder / "a.zip", (member, b"evil"))
    write_tar(folder / "a.tar", (member, b"evil"))
    for name in ("a.zip", "a.tar"):
        with pytest.raises(UnsafeArchive, match="out of the folder") as caught:
            unpack(folder, name)
        assert caught.value.details["member"] == member
    assert sorted(files(tmp_path)) == ["inner/folder/a.tar", "inner/folder/a.zip"]


@pytest.mark.parametrize(
    ("kind", "aim", "why"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "is a link out of the folder"),
        (tarfile.SYMTYPE, "sub/../../evil", "is a link out of the folder"),
        (tarfile.LNKTYPE, "../evil", "is a link out of the folder"),
        (tarfile.CHRTYPE, "", "is a device"),
        (tarfile.BLKTYPE, "", "is a device"),
        (tarfile.FIFOTYPE, "", "is a device"),
    ],
)
def test_links_out_of_the_folder_and_devices_in_a_tar_file_are_refused(
    tmp_path: Path, kind: bytes, aim: str, why: str
) -> None:
    write_tar(tmp_path / "a.tar", ("evil", b""), type=kind, linkname=aim)
    with pytest.raises(UnsafeArchive, match=f"'evil' {why}"):
        unpack(tmp_path, "a.tar")
    assert list(files(tmp_path)) == ["a.tar"]


def test_links_out_of_the_folder_in_a_zip_file_are_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("evil")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    write_zip(tmp_path / "a.zip", (member, b"/etc/passwd"))
    with pytest.raises(UnsafeArchive, match="'evil' is a link out of the folder"):
        unpack(tmp_path, "a.zip")


def test_a_downloaded_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_bytes(b"downloaded")
    write_zip(tmp_path / "a.zip", ("b.tsv", b"evil"))
    write_zip(tmp_path / "c.zip", ("a.zip", b"evil"))
    for name in ("a.zip", "c.zip"):
        with pytest.raises(UnsafeArchive, match="over a downloaded file"):
            unpack(tmp_path, name, "b.tsv", "a.zip")
    assert (tmp_path / "b.tsv").read_bytes() == b"downloaded"


@pytest.mark.parametrize(
    "members", [("a", "a/b"), ("a/b", "a"), ("x" * 300,)], ids=["file-as-folder", "folder-as-file", "long"]
)
def test_names_that_the_disk_does_not_take_are_refused(tmp_path: Path, members: tuple[str, ...]) -> None:
    write_tar(tmp_path / "a.tar", *((member, b"x") for member in members))
    with pytest.raises(UnsafeArchive, match="cannot be written"):
        unpack(tmp_path, "a.tar")


@pytest.mark.parametrize("name", ["a.gz", "a.zip", "a.tar", "a.tar.gz"])
def test_the_total_size_is_bounded(tmp_path: Path, name: str) -> None:
    data = b"x" * 5000
    if name == "a.gz":
        (tmp_path / name).write_bytes(gzip.compress(data))
    elif name == "a.zip":
        write_zip(tmp_path / name, ("1", data), ("2", data))
    else:
        write_tar(tmp_path / name, ("1", data), ("2", data), mode="w:gz" if name.endswith("gz") else "w")
    with pytest.raises(UnsafeArchive, match="SOURCEBOOK_UNPACK_MAX_BYTES"):
        unpack(tmp_path, name, max_bytes=4000)


def test_a_bomb_is_noticed_by_its_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_RATIO_COUNTS_FROM", 2_000_000)
    (tmp_path / "small.gz").write_bytes(gzip.compress(bytes(1_500_000)))
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(20_000_000)))
    assert unpack(tmp_path, "small.gz", max_ratio=10) == ["small"]
    with pytest.raises(UnsafeArchive, match="zip bomb"):
        unpack(tmp_path, "bomb.gz", max_ratio=10)


def test_the_headers_of_a_tar_file_count_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"comment": "x" * 1_000_000}
        archive.addfile(member)
    with pytest.raises(UnsafeArchive):
        unpack(tmp_path, "a.tar.gz", max_bytes=500_000)


def test_the_number_of_members_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_MAX_MEMBERS", 3)
    write_zip(tmp_path / "a.zip", *((str(number), b"") for number in range(5)))
    with pytest.raises(UnsafeArchive, match="more than 3 members"):
        unpack(tmp_path, "a.zip")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", b"no zip"),
        ("a.gz", b"no gzip"),
        ("a.bz2", b"no bzip2"),
        ("a.xz", b"no xz"),
        ("a.tar", b"no tar"),
        ("a.tar.gz", gzip.compress(b"no tar")),
    ],
    ids=["zip", "gz", "bz2", "xz", "tar", "tar.gz"],
)
def test_a_broken_archive_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DownloadRefused, match=rf"{name} cannot be unpacked"):
        unpack(tmp_path, name)


def test_an_encrypted_zip_file_is_named(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", ("a", b"x"))
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(DownloadRefused, match="encrypted"):
        unpack(tmp_path, "a.zip")


def test_a_full_disk_is_no_fault_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    write_zip(tmp_path / "a.zip", ("sub/a", b"x"))
    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(OSError, match="No space"):
        unpack(tmp_path, "a.zip")


def test_progress_counts_bytes(tmp_path: Path) -> None:
    count = Count()
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * 1234))
    unpack(tmp_path, "a.gz", count=count)
    assert count.done == 1234


def test_a_cancelled_unpacking_stops(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(80_000_000), 1))
    count = Count()

    async def main() -> None:
        task = asyncio.create_task(run_in_thread(lambda stop: unpack(tmp_path, "a.gz", count=count, stop=stop)))
        while not count.done:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert 0 < count.done < 80_000_000


def write_with_libarchive(path: Path, kind: str, *members: tuple[str, bytes], packing: str | None = None) -> None:
    try:
        library: Any = importlib.import_module("libarchive")
    except (ImportError, OSError, AttributeError, TypeError):
        pytest.skip("the system library libarchive is not installed")
    with library.file_writer(str(path), kind, packing) as archive:
        for name, data in members:
            archive.add_file_from_memory(name, len(data), data)


@pytest.mark.parametrize("name", ["a.tsv.zst", "a.tsv.Z"])
def test_single_files_of_zstd_and_compress(tmp_path: Path, name: str) -> None:
    if name.endswith("zst"):
        (tmp_path / name).write_bytes(zstandard.compress(b"one\n") + zstandard.compress(b"two\n" * 9))
    else:
        write_with_libarchive(tmp_path / name, "raw", ("a", b"one\n" + b"two\n" * 9), packing="compress")
    assert unpack(tmp_path, name) == ["a.tsv"]
    assert (tmp_path / "a.tsv").read_bytes() == b"one\n" + b"two\n" * 9


@pytest.mark.parametrize("name", ["a.tar.zst", "a.tar.Z", "a.7z"])
def test_archives_of_zstd_compress_and_7z(tmp_path: Path, name: str) -> None:
    members = (("sub/a.tsv", b"one\n" * 500), ("b.tsv", b"two\n"))
    if name.endswith("7z"):
        write_with_libarchive(tmp_path / name, "7zip", *members)
    else:
        write_with_libarchive(
            tmp_path / name, "gnutar", *members, packing="zstd" if name.endswith("zst") else "compress"
        )
    assert unpack(tmp_path, name) == ["b.tsv", "sub/a.tsv"]
    assert (tmp_path / "sub" / "a.tsv").read_bytes() == b"one\n" * 500


def test_a_member_of_a_7z_file_that_leads_out_of_the_folder_is_named(tmp_path: Path) -> None:
    write_with_libarchive(tmp_path / "a.7z", "7zip", ("../evil", b"x"))
    with pytest.raises(UnsafeArchive, match="out of the folder"):
        unpack(tmp_path, "a.7z")


def test_without_libarchive_people_are_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_with_libarchive(tmp_path / "a.7z", "7zip", ("a", b"x"))
    monkeypatch.setitem(sys.modules, "libarchive", None)
    with pytest.raises(DownloadRefused, match="libarchive13"):
        unpack(tmp_path, "a.7z")


@pytest.mark.parametrize(
    ("name", "made"),
    [("download", "download.unpacked"), ("a.tsv", "a.tsv.unpacked"), ("a.zip", "a"), ("a.zst", "a")],
)
def test_the_first_bytes_say_how_a_file_is_packed_not_its_name(tmp_path: Path, name: str, made: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"one\n"))
    assert unpack(tmp_path, name) == [made]
    assert (tmp_path / made).read_bytes() == b"one\n"


@pytest.mark.parametrize("name", ["export", "data.gz", "a.zip"])
def test_a_packed_tar_file_is_known_by_its_mark(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / name, ("b.tsv", b"x"), mode="w:gz")
    assert unpack(tmp_path, name) == ["b.tsv"]


@pytest.mark.parametrize("name", ["a.xlsx", "a.npz", "a.BAM"])
def test_formats_that_are_packed_inside_stay_whole(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / name, ("part.xml", b"x"))
    assert unpack(tmp_path, name) == []


@pytest.mark.parametrize("name", ["a.gz", "a.bz2", "a.xz", "a.zst", "a.tar.gz", "a.zip", "a.7z"])
def test_an_archive_that_ends_early_is_an_interrupted_download(tmp_path: Path, name: str) -> None:
    data = hashlib.shake_256(b"any").digest(5000)
    pack: dict[str, Callable[[bytes], bytes]] = {
        "a.gz": gzip.compress,
        "a.bz2": bz2.compress,
        "a.xz": lzma.compress,
        "a.zst": zstandard.compress,
    }
    if name in pack:
        (tmp_path / name).write_bytes(pack[name](data))
    elif name == "a.tar.gz":
        write_tar(tmp_path / name, ("a", data), mode="w:gz")
    elif name == "a.zip":
        write_zip(tmp_path / name, ("a", data))
    else:
        write_with_libarchive(tmp_path / name, "7zip", ("a", data))
    whole = (tmp_path / name).read_bytes()
    assert not is_cut(tmp_path / name, threading.Event())
    for size in (len(whole) - 1, len(whole) // 2, 40):
        (tmp_path / name).write_bytes(whole[:size])
        assert is_cut(tmp_path / name, threading.Event()), size
        with pytest.raises(DownloadInterrupted, match="ends early"):
            unpack(tmp_path, name)
        assert not (tmp_path / name).exists()  # the next try downloads it again


def test_frames_that_are_skipped_and_sums_belong_to_a_zstd_file(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    frame = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(bytes(300_000))
    path = tmp_path / "a.zst"
    path.write_bytes(frame + skipped + frame)
    assert not is_cut(path, threading.Event())
    path.write_bytes((frame + skipped + frame)[:-1])
    assert is_cut(path, threading.Event())


def test_a_slash_in_front_of_a_member_is_dropped(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", ("/data/a.tsv", b"x"))
    write_zip(tmp_path / "b.zip", ("/data/b.tsv", b"x"))
    assert unpack(tmp_path, "a.tar", "b.zip") == ["data/a.tsv", "data/b.tsv"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic", "hard"])
def test_a_link_inside_a_tar_file_becomes_a_copy(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, aim in (
            ("sub/latest.tsv", "sub/v2.tsv" if kind == tarfile.LNKTYPE else "v2.tsv"),
            ("lost", "nothing"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, aim
            archive.addfile(link)
        member = tarfile.TarInfo("sub/v2.tsv")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"two"))
    unpacker = Unpacker(tmp_path, 10**9, 1000, Count(), threading.Event())
    assert sorted(unpacker.unpack_all(["a.tar"])) == ["sub/latest.tsv", "sub/v2.tsv"]
    assert (tmp_path / "sub" / "latest.tsv").read_bytes() == b"two"
    assert not (tmp_path / "sub" / "latest.tsv").is_symlink()
    assert unpacker.warnings == ["a.tar: the link 'lost' leads to no file of the archive; it is left out."]


def test_a_chain_of_links_is_followed_and_a_circle_is_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, aim in (("1", "2"), ("2", "3"), ("a", "b"), ("b", "a")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, aim
            archive.addfile(link)
        archive.addfile(tarfile.TarInfo("3"), io.BytesIO())
    assert unpack(tmp_path, "a.tar") == ["1", "2", "3"]


def test_links_count_against_the_bound(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("big")
        member.size = 5000
        archive.addfile(member, io.BytesIO(bytes(5000)))
        for number in range(10):
            link = tarfile.TarInfo(f"link{number}")
            link.type, link.linkname = tarfile.LNKTYPE, "big"
            archive.addfile(link)
    with pytest.raises(UnsafeArchive, match="SOURCEBOOK_UNPACK_MAX_BYTES"):
        unpack(tmp_path, "a.tar", max_bytes=40_000)


def test_a_member_of_two_archives_is_kept_once_if_it_is_the_same(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", ("LICENSE", b"free"), ("a.tsv", b"a"))
    write_zip(tmp_path / "b.zip", ("LICENSE", b"free"), ("b.tsv", b"b"))
    assert unpack(tmp_path, "a.zip", "b.zip") == ["LICENSE", "LICENSE", "a.tsv", "b.tsv"]
    assert sorted(files(tmp_path)) == ["LICENSE", "a.tsv", "a.zip", "b.tsv", "b.zip"]


@pytest.mark.parametrize("other", ["b.zip", "b.tar", "stops.txt.gz"])
def test_a_member_of_two_archives_is_refused_if_it_differs(tmp_path: Path, other: str) -> None:
    write_zip(tmp_path / "a.zip", ("stops.txt", b"a"))
    match other:
        case "b.zip":
            write_zip(tmp_path / other, ("stops.txt", b"b"))
        case "b.tar":
            write_tar(tmp_path / other, ("stops.txt", b"b"))
        case _:
            (tmp_path / other).write_bytes(gzip.compress(b"b"))
    with pytest.raises(UnsafeArchive, match=rf"{other} and a\.zip both have a member 'stops\.txt'") as caught:
        unpack(tmp_path, "a.zip", other)
    assert (caught.value.details["archive"], caught.value.details["other"]) == (other, "a.zip")


def test_of_a_member_that_a_tar_file_has_twice_the_last_one_counts(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", ("a", b"old"), ("a", b"new"))
    assert unpack(tmp_path, "a.tar") == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_each_archive_gets_a_folder_of_its_own_on_request(tmp_path: Path) -> None:
    write_zip(tmp_path / "bern.zip", ("stops.txt", b"b"))
    write_tar(tmp_path / "cork.tar.gz", ("stops.txt", b"c"), mode="w:gz")
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(b"d"))
    made = unpack(tmp_path, "bern.zip", "cork.tar.gz", "d.tsv.gz", into_folders=True)
    assert made == ["bern/stops.txt", "cork/stops.txt", "d.tsv"]
