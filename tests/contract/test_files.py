"""The contract of file stores, on every engine."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sourcebook.backends import open_files
from sourcebook.errors import Conflict, InvalidName, NotFound, SettingsError
from sourcebook.ports.files import FileStore
from sourcebook.settings import Settings

Scenario = Callable[[FileStore], Awaitable[None]]
KEY = "archive/hgnc/2024-01-02"
pytestmark = pytest.mark.usefixtures("files_engine")
only_on_disk = pytest.mark.parametrize("files_engine", ["file"], indirect=True)


def run(home: Path, scenario: Scenario) -> None:
    async def main() -> None:
        await scenario(await open_files(Settings(home=home)))

    asyncio.run(main())


async def publish(store: FileStore, key: str, **files: str) -> None:
    folder = await store.staging(key)
    for name, text in files.items():
        (folder / name).write_text(text)
    await store.publish(key)


def test_published_files_are_read_back(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        assert not await store.exists(KEY)
        await publish(store, KEY, data="genes")
        assert await store.exists(KEY)
        assert (await store.local_folder(KEY) / "data").read_text() == "genes"
        assert [path.name for path in (await store.local_folder(KEY)).iterdir()] == ["data"]

    run(tmp_path, scenario)


def test_staged_files_are_not_visible_and_stay_for_the_next_try(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        (await store.staging(KEY) / "data.part").write_text("half")
        assert not await store.exists(KEY)
        assert await store.keys("archive") == []
        assert (await store.staging(KEY) / "data.part").read_text() == "half"

    run(tmp_path, scenario)


def test_discard_removes_staged_files_only(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        await publish(store, KEY, data="genes")
        (await store.staging(KEY) / "data").write_text("new")
        await store.discard(KEY)
        await store.discard(KEY)
        assert list((await store.staging(KEY)).iterdir()) == []
        assert (await store.local_folder(KEY) / "data").read_text() == "genes"

    run(tmp_path, scenario)


def test_a_key_is_published_once(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        await publish(store, KEY, data="first")
        with pytest.raises(Conflict):
            await publish(store, KEY, data="second")
        assert (await store.local_folder(KEY) / "data").read_text() == "first"

    run(tmp_path, scenario)


def test_an_empty_folder_is_published_once_too(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        await publish(store, KEY)
        with pytest.raises(Conflict):
            await publish(store, KEY, data="second")
        assert await store.keys("") == [KEY]

    run(tmp_path, scenario)


def test_publishing_what_was_not_staged_is_not_found(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        with pytest.raises(NotFound):
            await store.publish(KEY)

    run(tmp_path, scenario)


def test_a_key_cannot_lie_inside_published_files_nor_hold_keys(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        await publish(store, "archive/hgnc", data="genes")
        with pytest.raises(Conflict):
            await publish(store, KEY, data="genes")
        await publish(store, "archive/other/1", data="genes")
        with pytest.raises(Conflict):
            await publish(store, "archive/other", data="genes")

    run(tmp_path, scenario)


def test_keys_are_listed_below_a_prefix(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        for key in ("archive/b/2", "archive/b/1~2", "archive/a/1", "archive/bb/1", "other"):
            folder = await store.staging(key)
            (folder / "inner").mkdir()
            (folder / "inner" / "data").write_text("x")
            await store.publish(key)
        assert await store.keys("archive/b") == ["archive/b/1~2", "archive/b/2"]
        assert await store.keys("archive/b/") == ["archive/b/1~2", "archive/b/2"]
        assert await store.keys("archive") == ["archive/a/1", "archive/b/1~2", "archive/b/2", "archive/bb/1"]
        assert await store.keys("nothing/there") == []
        assert len(await store.keys("")) == 5

    run(tmp_path, scenario)


def test_deleted_files_are_gone_and_the_key_is_free_again(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        await publish(store, KEY, data="genes")
        await store.delete(KEY)
        await store.delete(KEY)
        assert not await store.exists(KEY)
        with pytest.raises(NotFound):
            await store.local_folder(KEY)
        await publish(store, KEY, data="again")
        assert await store.keys("archive/hgnc") == [KEY]

    run(tmp_path, scenario)


def test_deleting_a_folder_of_keys_deletes_nothing(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        await publish(store, KEY, data="genes")
        await store.delete("archive/hgnc")
        assert await store.exists(KEY)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "key", ["", "/etc", "..", "a/../b", "a//b", ".staging/x", "a/.keys", "a\\b", "a/b\n", "a/b\x00", "~/../x"]
)
def test_keys_never_leave_the_store(tmp_path: Path, key: str) -> None:
    async def scenario(store: FileStore) -> None:
        for call in (store.staging, store.publish, store.discard, store.local_folder, store.exists, store.delete):
            with pytest.raises(InvalidName):
                await call(key)

    run(tmp_path, scenario)


def test_publishing_in_parallel_lets_one_win(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        keys = [f"archive/{source}/{number}" for source in "abc" for number in range(3)]
        await asyncio.gather(*(publish(store, key, data=key) for key in keys))
        assert await store.keys("archive") == sorted(keys)

    run(tmp_path, scenario)


@only_on_disk
def test_leftovers_of_a_died_deletion_are_removed_at_open(tmp_path: Path) -> None:
    trash = tmp_path / "files" / ".trash" / "abc"
    trash.mkdir(parents=True)

    async def scenario(store: FileStore) -> None:
        assert await store.keys("") == []

    run(tmp_path, scenario)
    assert not trash.exists()


@only_on_disk
def test_another_folder_can_be_named_by_url(tmp_path: Path) -> None:
    async def main() -> None:
        store = await open_files(Settings(home=tmp_path / "home", files_url=f"file://{tmp_path}/else%20where"))
        await publish(store, KEY, data="genes")
        assert (tmp_path / "else where" / KEY / "data").exists()
        for url in ("file://host/folder", "file:relative"):
            with pytest.raises(SettingsError):
                await open_files(Settings(home=tmp_path, files_url=url))

    asyncio.run(main())


def test_staging_that_nobody_writes_to_is_found_and_removed(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        for key in ("archive/hgnc/1", "archive/hgnc/2", "changes/a/b"):
            folder = await store.staging(key) / "inside"
            folder.mkdir()
            (folder / "data").write_text("x")
            os.utime(folder / "data", (0, 0))  # as files are that were unpacked
        assert await store.abandoned(3600) == []
        assert await store.abandoned(-3600) == ["archive", "changes"]
        await store.discard("archive")
        assert await store.abandoned(-3600) == ["changes"]
        await store.publish("changes/a/b")
        assert await store.abandoned(-3600) == []

    run(tmp_path, scenario)


def test_folders_above_the_last_key_go_with_it(tmp_path: Path) -> None:
    async def scenario(store: FileStore) -> None:
        keys = ["changes/new/old", "changes/new/older", "changes/other/old", "archive/s/1"]
        for key in keys:
            (await store.staging(key) / "data").write_text("x")
            await store.publish(key)
        await store.delete("changes/new/old")
        assert await store.keys("changes") == ["changes/new/older", "changes/other/old"]
        await store.delete("changes/new/older")
        assert not [path for path in tmp_path.rglob("new") if path.parent.name == "changes"]
        await store.delete("changes/other/old")
        assert await store.keys("") == ["archive/s/1"]
        (await store.staging("changes/new/old") / "data").write_text("x")
        await store.publish("changes/new/old")
        assert await store.keys("changes") == ["changes/new/old"]

    run(tmp_path, scenario)
