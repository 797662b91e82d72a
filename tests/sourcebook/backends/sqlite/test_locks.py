"""Where the locks lie that SQLite keeps."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from sourcebook.backends import open_locks
from sourcebook.settings import Settings


@pytest.mark.parametrize(
    ("locks_url", "state_url", "file"),
    [
        ("", "sqlite:", "home/catalog.sqlite"),
        ("sqlite:", "sqlite:", "home/catalog.sqlite"),
        ("sqlite:", "mongodb://127.0.0.1:1/things", "home/locks.sqlite"),
        ("sqlite:{}/own.sqlite", "mongodb://127.0.0.1:1/things", "own.sqlite"),
    ],
    ids=["by default", "that of the state", "beside another state store", "named"],
)
def test_the_file_of_the_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks_url: str, state_url: str, file: str
) -> None:
    async def main() -> None:
        home = tmp_path / "home"
        home.mkdir()
        locks = await open_locks(Settings(home=home, locks_url=locks_url.format(tmp_path), state_url=state_url))
        assert await locks.acquire("x", "me", timedelta(seconds=30))
        await locks.close()

    monkeypatch.chdir(tmp_path)
    asyncio.run(main())
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.sqlite")] == [file]
