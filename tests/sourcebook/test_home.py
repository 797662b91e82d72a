"""HOME is its owner's alone, and holds the temporary files of workers, so that those of killed ones are removed."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.home import own_temporary_folder, prepare_home
from sourcebook.hub.documents.record import make_record

HOLDER = """
import sys, tempfile, time
from pathlib import Path
from sourcebook.home import own_temporary_folder
with own_temporary_folder(Path(sys.argv[1])) as folder:
    print(tempfile.mkdtemp(prefix="pymp-"), flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(home: Path) -> list[Path]:
    return [path for path in (home, *home.rglob("*")) if path.lstat().st_mode & 0o077 and not path.is_symlink()]


def test_home_and_all_its_files_are_its_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"

    async def scenario(context: Context) -> None:
        async with context.documents.create("c") as writer:
            await writer.write([make_record({"_id": "a"})])
            await writer.commit()
        async with context.search.create("i", collection="c", properties={}, settings={}) as index:
            await index.add([make_record({"_id": "a"})])
            await index.commit()
        folder = await context.files.staging("archive/s/1")
        (folder / "data").write_text("x")
        await context.files.publish("archive/s/1")

    run_in_context(home, scenario)
    assert len(list(home.rglob("*"))) > 10
    assert open_to_others(home) == []


def test_a_home_that_others_can_enter_is_tightened_once_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    (home / "archive").mkdir(parents=True)
    (home / "archive" / "script").write_text("x")
    (home / "archive" / "script").chmod(0o755)
    outside = tmp_path / "outside"
    outside.write_text("x")
    (home / "link").symlink_to(outside)
    prepare_home(home)
    assert "home_tightened" in "".join(capsys.readouterr())
    assert open_to_others(home) == []
    assert (home / "archive" / "script").stat().st_mode & 0o777 == 0o700
    assert outside.stat().st_mode & 0o777 == 0o644
    prepare_home(home)
    assert "home_tightened" not in "".join(capsys.readouterr())


def test_the_temporary_files_of_a_killed_worker_are_removed_by_the_next_and_those_of_a_living_one_stay(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout
        assert living.stdout
        left, kept = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.is_dir()
        with own_temporary_folder(tmp_path) as mine:
            assert tempfile.mkdtemp().startswith(str(mine))
            assert not left.parent.exists()
            assert kept.is_dir()
        assert not mine.exists()
        living.kill()
    assert tempfile.gettempdir() != str(mine)
