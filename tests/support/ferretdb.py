"""FerretDB v1, a MongoDB-compatible server on SQLite: the one on PATH, or one that Go builds from its module, once.

For the container test alone, whose document store is killed and comes back with what it had on disk.

`go install` is not enough: the program it makes stops at once, since the module lacks a file that names the version.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from support.maven import CACHE

MODULE, VERSION = "github.com/FerretDB/FerretDB", "v1.24.0"
BUILD_SECONDS = 300


class FerretdbMissing(Exception):
    """FerretDB cannot be had on this machine; the message says why."""


def get_ferretdb() -> Path:
    """Return the program; building it takes minutes, the first time.

    Raises:
        FerretdbMissing: it is not on PATH, and there is no Go, or Go fails.
    """
    found = shutil.which("ferretdb")
    if found is not None:
        return Path(found)
    program = CACHE / f"ferretdb-{VERSION}"
    if not program.exists():
        _build(program)
    return program


def is_within_reach() -> bool:
    """Whether there is a FerretDB, or a Go that may build one."""
    return any(map(shutil.which, ("ferretdb", "go"))) or (CACHE / f"ferretdb-{VERSION}").exists()


def _build(program: Path) -> None:
    if shutil.which("go") is None:
        raise FerretdbMissing("there is no ferretdb on PATH, and no Go to build FerretDB v1 with")
    module = json.loads(_go("mod", "download", "-json", f"{MODULE}@{VERSION}", folder=Path.home()))
    work = CACHE / f".ferretdb-{os.getpid()}"
    try:
        shutil.copytree(module["Dir"], work)
        version = work / "build" / "version"
        for path in (work, version):
            path.chmod(0o755)  # Go keeps its modules read-only
        (version / "version.txt").write_text(VERSION)
        _go("build", "-tags", "ferretdb_no_postgresql", "-o", "program", "./cmd/ferretdb", folder=work)
        (work / "program").rename(program)
    finally:
        subprocess.run(["/bin/chmod", "-R", "u+w", work], check=False)
        shutil.rmtree(work, ignore_errors=True)


def _go(*arguments: str, folder: Path) -> str:
    command = ["go", *arguments]
    try:
        # Without C, the program runs in a container of any make.
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FerretdbMissing(f"{' '.join(command)} takes longer than {BUILD_SECONDS} s") from None
    if done.returncode:
        raise FerretdbMissing(f"{' '.join(command)} fails: {done.stderr[-500:]}")
    return done.stdout
