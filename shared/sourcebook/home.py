"""HOME, the folder that holds everything the embedded engines store: it is its owner's alone."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sourcebook.logging import get_logger

log = get_logger(__name__)

_OTHERS = 0o077  # what group and others may do
_LOCK = ".lock"


def prepare_home(home: Path) -> None:
    """Make HOME, for its owner alone, and have this process make its files so; one that others can enter is tightened.

    Raises:
        OSError: HOME cannot be made.
    """
    os.umask(os.umask(0) | _OTHERS)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = home.stat()
    # A volume that belongs to somebody else, as containers may have, is left as whoever mounted it wants it.
    if status.st_mode & _OTHERS and status.st_uid == os.geteuid():
        home.chmod(0o700)
        count = _tighten_below(home)
        log.warning("home_tightened", home=str(home), was=oct(status.st_mode & 0o777), files=count)


def _tighten_below(home: Path) -> int:
    """Take every right of others from what lies in HOME; return how many files and folders had any."""
    count = 0
    for folder, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = Path(folder, name)
            with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
                mode = path.lstat().st_mode
                if mode & _OTHERS and not path.is_symlink():
                    path.chmod(mode & 0o777 & ~_OTHERS)
                    count += 1
    return count


@contextmanager
def own_temporary_folder(home: Path) -> Iterator[Path]:
    """Have Python's temporary files of this process under HOME, and remove what processes that were killed have left there.

    Celery makes such a folder for each worker, and a worker that is killed leaves it.
    """
    parent = home / "run" / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / _LOCK).open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # nobody looks between a folder and its lock
        for path in parent.iterdir():
            if path.is_dir():
                _remove_if_left(path)
        folder = Path(tempfile.mkdtemp(dir=parent))
        mine = (folder / _LOCK).open("w")
        fcntl.flock(mine, fcntl.LOCK_EX)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        mine.close()


def _remove_if_left(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its process lives
        return
