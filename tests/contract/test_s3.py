"""What S3 adds to the contract of files: other machines, uploads that died, a store that fails, logins."""

import asyncio
import datetime as dt
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sourcebook.backends import open_files
from sourcebook.backends.s3 import files as files_s3
from sourcebook.backends.s3.files import S3FileStore
from sourcebook.errors import Conflict, EngineUnavailable, NotFound, SettingsError
from sourcebook.settings import Settings

KEY = "archive/hgnc/2024-01-02"


async def open_store(home: Path, url: str, patience: float = 20) -> S3FileStore:
    store = await open_files(Settings(home=home, files_url=url, engine_patience=timedelta(seconds=patience)))
    assert isinstance(store, S3FileStore)
    return store


async def publish(store: S3FileStore, key: str, **files: str) -> None:
    folder = await store.staging(key)
    for name, text in files.items():
        (folder / name).write_text(text)
    await store.publish(key)


def fail_first(monkeypatch: pytest.MonkeyPatch, store: S3FileStore, name: str, errors: list[Exception]) -> list[str]:
    """Have a call of s3fs raise these errors, one after the other, before it works."""
    real: Callable[..., Any] = getattr(store._bucket._files, name)
    calls: list[str] = []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return real(*arguments, **options)

    monkeypatch.setattr(store._bucket._files, name, call)
    return calls


@pytest.fixture(autouse=True)
def _no_role_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_another_machine_reads_what_was_published_once(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        one, other = await open_store(tmp_path / "one", s3_url), await open_store(tmp_path / "other", s3_url)
        folder = await one.staging(KEY)
        (folder / "inner").mkdir()
        (folder / "inner" / "ü b#?.txt").write_text("x" * 1000)
        (folder / "empty").touch()
        await one.publish(KEY)
        assert not folder.exists()
        downloads = fail_first(monkeypatch, other, "get_file", [])
        for _ in range(2):
            copy = await other.local_folder(KEY)
            assert (copy / "inner" / "ü b#?.txt").read_text() == "x" * 1000
            assert (copy / "empty").read_bytes() == b""
            assert copy.is_relative_to(tmp_path / "other")
        assert len(downloads) == 2
        await publish(other, "archive/hgnc/2", data="new")
        await one.delete(KEY)
        await one.local_folder("archive/hgnc/2")
        assert (await other.local_folder("archive/hgnc/2") / "data").read_text() == "new"
        with pytest.raises(NotFound):
            await other.local_folder(KEY)

    asyncio.run(scenario())


def test_of_two_machines_that_publish_a_key_one_wins(tmp_path: Path, s3_url: str) -> None:
    async def scenario() -> None:
        stores = [await open_store(tmp_path / str(number), s3_url) for number in range(3)]
        done = await asyncio.gather(
            *(publish(store, KEY, data=str(number)) for number, store in enumerate(stores)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in done) == ["Conflict", "Conflict", "NoneType"]
        winner = str(done.index(None))
        for store in stores:
            assert (await store.local_folder(KEY) / "data").read_text() == winner
        assert len(await stores[0]._bucket.names("data/")) == 1

    asyncio.run(scenario())


def test_an_upload_that_died_is_invisible_and_removed_a_day_later(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path, s3_url)
        folder = await store.staging(KEY)
        (folder / "data").write_text("half")
        await store._upload(KEY, folder)
        assert not await store.exists(KEY)
        assert await store.keys("") == []
        await publish(store, "archive/hgnc/2", data="x")
        assert len(await store._bucket.names("data/")) == 2
        monkeypatch.setattr(files_s3, "_ABANDONED", dt.timedelta(seconds=-1))
        await publish(store, "archive/hgnc/3", data="x")
        assert len(await store._bucket.names("data/")) == 2
        assert await store.keys("") == ["archive/hgnc/2", "archive/hgnc/3"]

    asyncio.run(scenario())


def test_a_store_that_is_slow_or_fails_for_a_while_is_asked_again(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path, s3_url)
        busy = [OSError(16, "Please reduce your request rate."), TimeoutError("read timeout")]
        uploads = fail_first(monkeypatch, store, "put_file", list(busy))
        await publish(store, KEY, data="genes")
        assert len(uploads) == 3
        store._remove_copy(next(path.stem for path in store._copies.glob("*.key")))
        downloads = fail_first(monkeypatch, store, "get_file", list(busy))
        assert (await store.local_folder(KEY) / "data").read_text() == "genes"
        assert len(downloads) == 3

    asyncio.run(scenario())


def test_a_lost_answer_to_publishing_is_no_conflict(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path, s3_url)
        real = store._bucket._files.pipe_file
        tries = []

        def write_and_fail(*arguments: Any, **options: Any) -> None:
            tries.append(1)
            real(*arguments, **options)
            if len(tries) == 1:
                raise TimeoutError("the answer got lost")

        monkeypatch.setattr(store._bucket._files, "pipe_file", write_and_fail)
        await publish(store, KEY, data="genes")
        assert len(tries) == 2
        with pytest.raises(Conflict):
            await publish(store, KEY, data="again")

    asyncio.run(scenario())


def test_a_store_that_stays_away_is_named_without_the_secret(tmp_path: Path) -> None:
    async def scenario() -> None:
        url = "s3://key:hunter2@some-bucket/x?endpoint_url=http://127.0.0.1:1"
        store = await open_store(tmp_path, url, patience=0.3)
        with pytest.raises(EngineUnavailable, match="some-bucket") as caught:
            await store.exists(KEY)
        assert "hunter2" not in f"{caught.value} {caught.value.details}"

    asyncio.run(scenario())


def test_what_a_person_must_mend_is_told_at_once(tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        head, _, options = s3_url.partition("@")
        endpoint = options.partition("?")[2]
        missing = await open_store(tmp_path, f"{head}@no-such-bucket/x?{endpoint}")
        with pytest.raises(SettingsError, match="no bucket 'no-such-bucket'"):
            await missing.exists(KEY)
        nobody = await open_store(tmp_path, f"s3://bucket/x?{endpoint}")
        with pytest.raises(SettingsError, match="key and secret"):
            await nobody.exists(KEY)
        store = await open_store(tmp_path, s3_url)
        fail_first(monkeypatch, store, "cat_file", [PermissionError("The request signature does not match.")])
        with pytest.raises(SettingsError, match="signature does not match"):
            await store.exists(KEY)
        for url in ("s3://", "s3:", "s3://bucket/x?endpont_url=http://host"):
            with pytest.raises(SettingsError, match="s3://key:secret@bucket/prefix"):
                await open_store(tmp_path, url)

    asyncio.run(scenario())
