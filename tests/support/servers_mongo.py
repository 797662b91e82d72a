"""Servers that speak MongoDB's protocol on this machine: SecantusDB (from PyPI), mongo-java-server (from Maven), or a mongod.

mongo-java-server keeps its documents in memory. It changes each in one step, as MongoDB does, so that of two writers who compare
and set at once one loses.
"""

import contextlib
import hashlib
import os
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

from support.maven import CACHE, ServerMissing, check_maven, fetch_libraries, find_jdks

Server = tuple[str, "subprocess.Popen[bytes]"]
START_SECONDS = 60
VERSION = "1.47.0"
OLDEST_JDK = 11
JAVA = Path(__file__).with_name("mongo_java")


def start(folder: Path, *, port: int = 0) -> Server:
    """Start a real mongod where there is one, else mongo-java-server; return its URL (without a database) and its process.

    Raises:
        ServerMissing: there is no mongod, and no Maven or no JDK.
        RuntimeError: it cannot be downloaded, or it does not start.
    """
    if shutil.which("mongod"):
        return start_mongod(folder, port=port)
    return start_java(folder, port=port)


def start_secantus(folder: Path, *, port: int = 0) -> Server:
    """Start SecantusDB, a development dependency."""
    program = Path(sys.executable).with_name("secantusd-py")
    if not program.exists():
        raise ServerMissing("SecantusDB is not installed: pip install secantusdb")
    port = port or free_port()
    command = [program, "--host", "127.0.0.1", "--port", port, "--storage-path", folder / "secantus", "--standalone"]
    return _started([str(part) for part in command], folder, port)


def start_java(folder: Path, *, port: int = 0) -> Server:
    """Start mongo-java-server."""
    check_maven()
    javas = [java for version, java in find_jdks() if version >= OLDEST_JDK and java.with_name("javac").exists()]
    if not javas:
        raise ServerMissing(
            f"there is no JDK {OLDEST_JDK} or newer on this machine: apt-get install openjdk-21-jdk-headless"
        )
    libraries = fetch_libraries("de.bwaldvogel", "mongo-java-server", VERSION)
    classes = _compile(javas[0].with_name("javac"), libraries)
    port = port or free_port()
    # Our classes come first: one of them stands before one of the library.
    command = [str(javas[0]), "-Xmx1g", "-XX:+UseSerialGC", "-cp", f"{classes}:{libraries}/*", "TestMongo", str(port)]
    return _started(command, folder, port)


def _compile(javac: Path, libraries: Path) -> Path:
    """Return the folder with our classes, compiled when their text or the library is new."""
    sources = sorted(JAVA.rglob("*.java"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    classes = CACHE / f"{libraries.name}-{digest}"
    if not classes.is_dir():
        work = classes.with_name(f".new-{classes.name}-{os.getpid()}")
        command = [
            str(javac),
            "--release",
            str(OLDEST_JDK),
            "-cp",
            f"{libraries}/*",
            "-d",
            str(work),
            *map(str, sources),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"javac fails: {done.stderr[-2000:]}")
        with contextlib.suppress(OSError):  # another process was faster
            work.rename(classes)
        shutil.rmtree(work, ignore_errors=True)
    return classes


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
