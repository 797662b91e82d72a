"""MongoDB-compatible servers on this machine: SecantusDB (from PyPI), FerretDB v1 on SQLite (a Go program), or a mongod."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from support.ferretdb import get_ferretdb

Server = tuple[str, "subprocess.Popen[bytes]"]
START_SECONDS = 60


class ServerMissing(Exception):
    """A program that is needed is not on this machine; the message names it and says how to get it."""


def start(folder: Path, *, port: int = 0) -> Server:
    """Start a real mongod where there is one, else FerretDB; return its URL (without a database) and its process.

    Raises:
        FerretdbMissing: there is neither, and FerretDB cannot be built.
    """
    if shutil.which("mongod"):
        return start_mongod(folder, port=port)
    return start_ferretdb(folder, port=port)


def start_secantus(folder: Path, *, port: int = 0) -> Server:
    """Start SecantusDB, a development dependency."""
    program = Path(sys.executable).with_name("secantusd-py")
    if not program.exists():
        raise ServerMissing("SecantusDB is not installed: pip install secantusdb")
    port = port or free_port()
    command = [program, "--host", "127.0.0.1", "--port", port, "--storage-path", folder / "secantus", "--standalone"]
    return _started([str(part) for part in command], folder, port)


def start_ferretdb(folder: Path, *, port: int = 0) -> Server:
    """Start FerretDB v1 on SQLite."""
    program = get_ferretdb()
    port = port or free_port()
    data = folder / "ferretdb"
    data.mkdir(parents=True, exist_ok=True)
    # What a test stores need not outlive the machine: SQLite may wait with writing.
    url = f"file:{data}/?_pragma=synchronous(off)"
    command = [str(program), f"--listen-addr=127.0.0.1:{port}", "--handler=sqlite", f"--sqlite-url={url}"]
    command += [f"--state-dir={data}", "--debug-addr=-", "--telemetry=disable", "--log-level=error"]
    return _started(command, folder, port)


def start_mongod(folder: Path, *, port: int = 0) -> Server:
    """Start the mongod on PATH."""
    program = shutil.which("mongod")
    if program is None:
        raise ServerMissing("mongod is not on PATH")
    port = port or free_port()
    data = folder / "mongod"
    data.mkdir(parents=True, exist_ok=True)
    return _started([program, "--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", str(data)], folder, port)


def _started(command: list[str], folder: Path, port: int) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"mongodb://127.0.0.1:{port}/"
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        client: MongoClient[dict[str, object]] = MongoClient(url, serverSelectionTimeoutMS=500)
        try:
            client.admin.command("ping")
        except PyMongoError:
            time.sleep(0.1)
        else:
            return url, process
        finally:
            client.close()
    process.kill()
    raise RuntimeError(f"{command[0]} did not start:\n{(folder / 'server.log').read_text()[-2000:]}")


def is_ferretdb(url: str) -> bool:
    """Whether the server is a FerretDB."""
    with MongoClient(url) as client:
        return any(key.startswith("ferretdb") for key in client.admin.command("buildInfo"))


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(server: Server) -> Iterator[str]:
    """Yield the URL of a server, and end it afterwards."""
    url, process = server
    try:
        yield url
    finally:
        process.kill()
        process.wait(10)
