"""Answers that no well-behaved server gives, and what the HTTP fetcher makes of them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from time import time

import httpx
import pytest

from sourcebook.errors import DownloadInterrupted, DownloadRefused
from sourcebook_dumper.fetchers.http import HttpFetcher
from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count

URL = "https://me:secret@example.org/a.tsv"
Answer = Callable[[httpx.Request], httpx.Response]


def fetch(folder: Path, answer: Answer, kept: bytes = b"") -> PartialFile:
    part = PartialFile(folder / "a.tsv", URL)
    if kept:
        part.begin(0, '"one"')
        part.write(kept)

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            with part:
                await HttpFetcher(client).fetch(URL, part, Count())

    part.close()
    asyncio.run(main())
    return part


def version_of(answer: Answer) -> str | None:
    async def main() -> str | None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            return (await HttpFetcher(client).look(URL)).version

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (416, {"Content-Range": "bytes */99"}),
        (416, {}),
        (206, {"Content-Range": "bytes 0-9/10"}),
        (206, {}),
        (206, {"Content-Range": "bytes 3-9/10", "Content-Encoding": "gzip"}),
    ],
)
def test_a_wrong_answer_to_a_resumption_makes_the_next_try_start_anew(
    tmp_path: Path, status: int, headers: dict[str, str]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "Range" in request.headers:
            return httpx.Response(status, headers=headers)
        return httpx.Response(200, headers={"Content-Length": "99"})

    with pytest.raises(DownloadInterrupted) as caught:
        fetch(tmp_path, answer, kept=b"abc")
    assert "secret" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_note_of_another_url_or_without_its_file_is_not_used(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert "Range" not in request.headers
        return httpx.Response(200, content=stream())

    async def stream() -> AsyncIterator[bytes]:
        yield b"new"

    for note in ('{"url": "https://else", "validator": "x"}', "{", f'{{"url": "{URL}", "validator": "x"}}'):
        (tmp_path / ".a.tsv.part.json").write_text(note)
        assert fetch(tmp_path, answer).size == 3
        (tmp_path / ".a.tsv.part").unlink()


def test_a_wrong_certificate_is_final_and_another_failure_is_not(tmp_path: Path) -> None:
    def distrust(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no") from ssl.SSLCertVerificationError("self-signed")

    def hang_up(_request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("")

    with pytest.raises(DownloadRefused, match="certificate"):
        fetch(tmp_path, distrust)
    with pytest.raises(DownloadInterrupted, match="ReadError"):
        fetch(tmp_path, hang_up)


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("7", 7, 7), ("in a minute", 30, 60), ("soon", 0, 0), (None, 0, 0)],
    ids=["seconds", "date", "words", "nothing"],
)
def test_retry_after_is_seconds_or_a_date(tmp_path: Path, asked: str | None, least: float, most: float) -> None:
    if asked == "in a minute":  # the test may run long after it was collected
        asked = formatdate(time() + 60, usegmt=True)
    with pytest.raises(DownloadInterrupted) as caught:
        fetch(tmp_path, lambda _: httpx.Response(503, headers={"Retry-After": asked} if asked else {}))
    assert least <= (caught.value.details["retry_after"] or 0) <= most


@pytest.mark.parametrize("status", [201, 204, 300, 418, 499])
def test_an_unexpected_status_is_refused(tmp_path: Path, status: int) -> None:
    with pytest.raises(DownloadRefused, match=str(status)):
        fetch(tmp_path, lambda _: httpx.Response(status))


def test_a_server_that_hangs_up_on_head_is_asked_with_get() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            raise httpx.RemoteProtocolError("hung up")
        return httpx.Response(200, headers={"ETag": '"v1"'})

    assert version_of(answer) == "v1"


def test_a_part_is_begun_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        PartialFile(tmp_path / "a.tsv", URL).write(b"x")
