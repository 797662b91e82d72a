"""The two sides of the web benchmark as processes on the loopback interface: `sourcebook serve`, and BioThings' web server."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from web_data import API, load_peer

BENCH = Path(__file__).resolve().parent
PACKAGES = ("biothings[cli]==1.2.2", "osmem-server==0.1.6")
TICKS = os.sysconf("SC_CLK_TCK")
# What BioThings' web server needs to work with an engine that is not Elasticsearch itself: its client must not ask whether the
# engine is genuine, nor send its own media types. A proxy could do the same, at the cost of the peer's speed. The engine
# cannot match `_id`, so documents are looked up by a keyword with the same value.
PEER_CONFIG = """import elasticsearch._async.client._base as async_client
import elasticsearch._sync.client._base as sync_client

for module in (async_client, sync_client):
    module.BaseClient._verified_elasticsearch = property(lambda self: True, lambda self, value: None)
    module._COMPAT_MIMETYPE_SUB = r"application/\\g<1>"
ES_HOST = "{engine}"
ES_INDICES = {{"thing": "{index}"}}
ANNOTATION_DEFAULT_SCOPES = ["symbol"]
"""


class ServerFailedError(RuntimeError):
    """A server did not start; the message has the end of its output."""


@dataclass(frozen=True)
class Server:
    """A running server. `prefix` is where its API begins."""

    pid: int
    url: str
    prefix: str = ""
    is_peer: bool = False

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def settle(self, timeout_seconds: float = 90) -> None:
        """Wait until the server has nothing left to do: a client that went away leaves its requests behind."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - before < 0.05:
                return


@contextmanager
def running(
    command: Sequence[str], *, folder: Path, ready_url: str, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until the context ends; yield its process id once `ready_url` answers.

    Raises:
        ServerFailedError: it ended, or does not answer.
    """
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(process, ready_url, log)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
            return
        time.sleep(0.1)
    raise ServerFailedError(f"{url} does not answer\n{log.read_text(errors='replace')[-3000:]}")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serve_sourcebook(folder: Path, documents: int) -> Iterator[Server]:
    """Load documents into a new home and serve them with `sourcebook serve`, in one process."""
    home = folder / "home"
    environment = {"SOURCEBOOK_HOME": str(home), "SOURCEBOOK_LOG_LEVEL": "WARNING"}
    command = [sys.executable, str(BENCH / "web_data.py"), str(documents)]
    subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=1800)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    tool = str(Path(sys.executable).with_name("sourcebook"))
    try:
        with running(
            [tool, "serve", API, "--port", str(port)],
            folder=folder,
            ready_url=f"{url}/status",
            environment=environment,
        ) as pid:
            yield Server(pid, url)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def serve_peer(folder: Path, documents: int) -> Iterator[Server]:
    """Serve the same documents with `python -m biothings.web`, in one process; the engine is a second one."""
    tools = install_peer(folder)
    engine_url = f"http://127.0.0.1:{free_port()}"
    engine = [str(find_engine(tools)), "-addr", engine_url.partition("//")[2], "-no-stdin-watch"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    web = [str(tools / "python"), "-m", "biothings.web", f"--dir={folder}", "--conf=peer_config"]
    web += ["--address=127.0.0.1", f"--port={port}"]
    (folder / "peer_config.py").write_text(PEER_CONFIG.format(engine=engine_url, index=API))
    with running(engine, folder=folder, ready_url=engine_url):
        load_peer(engine_url, documents)
        with running(web, folder=folder, ready_url=f"{url}/v1/metadata") as pid:
            yield Server(pid, url, "/v1", is_peer=True)


def install_peer(folder: Path) -> Path:
    """Make the virtual environment if it is not there; return its folder of commands. It is kept for the next run."""
    environment = folder.parent / "web-venv"
    marker = environment / "-".join(("installed", *PACKAGES))
    if not marker.exists():
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment, with_pip=True)
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True, timeout=600)
        marker.touch()
    return environment / "bin"


def find_engine(tools: Path) -> Path:
    """Return the server that the package `osmem-server` brings."""
    script = "import json, osmem_server; print(json.dumps(osmem_server.resolve_binary()))"
    found = subprocess.run([tools / "python", "-c", script], check=True, capture_output=True, timeout=60)
    return Path(json.loads(found.stdout))
