"""Downloads by FTP."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ManifestError

if TYPE_CHECKING:
    from support.downloads import DumpBench, FtpServer

    from sourcebook.context import Context


def test_a_file_is_downloaded_and_dated_by_the_server(bench: DumpBench, ftp: FtpServer) -> None:
    ftp.files["pub/a b.tsv"] = b"one\n"
    bench.write(f"{ftp.url}/pub/a%20b.tsv")
    assert bench.dump().version == "2024-02-03"
    assert bench.content() == {"a b.tsv": b"one\n"}
    assert "USER anonymous" in ftp.log


def test_user_and_password_come_from_the_url(bench: DumpBench, ftp: FtpServer) -> None:
    ftp.files["a.tsv"] = b"one\n"
    bench.write(f"{ftp.url}/a.tsv".replace("://", "://me:s%40cret@"))
    bench.dump()
    assert {"USER me", "PASS s@cret"} <= set(ftp.log)


def test_a_transfer_that_breaks_off_is_resumed(bench: DumpBench, ftp: FtpServer) -> None:
    ftp.files["a.bin"] = bytes(range(256)) * 1000
    ftp.cuts = [100_000]
    bench.write(f"{ftp.url}/a.bin")
    bench.dump()
    assert bench.content() == {"a.bin": ftp.files["a.bin"]}
    assert "REST 100000" in ftp.log


def test_without_a_date_the_version_is_today_and_nothing_is_resumed(bench: DumpBench, ftp: FtpServer) -> None:
    ftp.files["a.bin"] = b"x" * 1000
    ftp.modified = ""
    ftp.cuts = [10]
    bench.write(f"{ftp.url}/a.bin")
    assert bench.dump().version == time.strftime("%Y-%m-%d", time.gmtime())
    assert "today's date" in bench.warnings[0]
    assert not any(line.startswith("REST") for line in ftp.log)


@pytest.mark.parametrize("modified", ["20240203040506", ""], ids=["dated", "undated"])
def test_a_missing_file_is_refused(bench: DumpBench, ftp: FtpServer, modified: str) -> None:
    ftp.modified = modified
    bench.write(f"{ftp.url}/nothing.tsv")
    with pytest.raises(DownloadRefused, match="550"):
        bench.dump()


def test_a_refused_login_is_final(bench: DumpBench, ftp: FtpServer) -> None:
    bench.write(f"{ftp.url}/a.tsv".replace("://", "://nobody:secret@"))
    with pytest.raises(DownloadRefused, match="530") as caught:
        bench.dump()
    assert "secret" not in caught.value.message


def test_a_server_that_is_not_there_is_transient(bench: DumpBench) -> None:
    bench.overrides["download_retries"] = 0
    bench.write("ftp://127.0.0.1:9/a.tsv")
    with pytest.raises(DownloadInterrupted, match=r"127\.0\.0\.1:9"):
        bench.dump()


def test_a_silent_server_is_given_up(bench: DumpBench, ftp: FtpServer) -> None:
    bench.overrides |= {"download_retries": 0, "download_timeout": 0.2}
    ftp.files["a.bin"] = b"x"
    ftp.hang = True
    bench.write(f"{ftp.url}/a.bin")
    with pytest.raises(DownloadInterrupted, match="timed out"):
        bench.dump()


def test_a_cancelled_transfer_stops_soon(bench: DumpBench, ftp: FtpServer) -> None:
    ftp.files["a.bin"] = b"x"
    ftp.hang = True
    bench.write(f"{ftp.url}/a.bin")

    async def cancel(context: Context) -> None:
        task = asyncio.create_task(bench.dump_in(context))
        while not any(path.suffix == ".part" for path in bench.staged):
            await asyncio.sleep(0.02)
        async with asyncio.timeout(3):
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()

    bench.run(cancel)


@pytest.mark.parametrize("path", ["/", "/a%0d%0aDELE%20b"])
def test_a_path_that_is_none_is_refused(bench: DumpBench, ftp: FtpServer, path: str) -> None:
    bench.write(f"{ftp.url}{path}")
    with pytest.raises(ManifestError):
        bench.dump()
    assert not any("DELE" in line for line in ftp.log)


def test_a_file_that_is_replaced_while_it_is_sent_is_downloaded_anew(bench: DumpBench, ftp: FtpServer) -> None:
    ftp.files["a.tsv"] = b"old\n"
    ftp.changes = ["20240204040506"]
    bench.write(f"{ftp.url}/a.tsv")
    bench.dump()
    assert bench.content() == {"a.tsv": b"old\n"}
    assert sum(line.startswith("RETR") for line in ftp.log) == 2


def test_a_second_file_of_one_day_is_news(bench: DumpBench, ftp: FtpServer) -> None:
    ftp.files |= {"a.tsv": b"old\n", "b.tsv": b"b"}
    bench.write([f"{ftp.url}/a.tsv", f"{ftp.url}/b.tsv"])
    assert bench.dump().version == "2024-02-03"
    assert bench.dump().unchanged
    ftp.files["a.tsv"] = b"new\n"
    ftp.modified = "20240203050607"
    assert bench.dump().version == "2024-02-03-2"
