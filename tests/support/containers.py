"""deploy/compose.yml under a real container engine, with engines that can be made on this machine."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.ferretdb import get_ferretdb, is_within_reach
from support.maven import fetch_libraries
from support.servers_opensearch import LIBRARY

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "deploy" / "compose.yml", ROOT / "tests" / "e2e" / "containers" / "compose.yml")
SERVICES = ("api", "dumper", "uploader", "builder", "indexer", "beat")
ENGINES = ("redis", "mongo", "opensearch")
OPENSEARCH = "2.19.1.0"  # the newest that runs on the JDK 17 of Debian 12
TAG = "e2e"
BUILD_SECONDS = 900


def find_reason_to_skip() -> str:
    """Why the container test cannot run here; empty if it can."""
    if not os.environ.get("SOURCEBOOK_TEST_CONTAINERS"):
        return "builds images for minutes: make test-containers (or SOURCEBOOK_TEST_CONTAINERS=1) runs it"
    docker = shutil.which("docker")
    if docker is None:
        return "there is no `docker` on PATH"
    answer = subprocess.run([docker, "info"], capture_output=True, text=True, check=False)
    if answer.returncode:
        return f"no container engine answers: {answer.stderr.strip()[-200:]}"
    if find_compose() is None:
        return "there is neither `docker compose` nor `docker-compose`"
    if not is_within_reach():
        return "there is no FerretDB, and no Go to build it with"
    if shutil.which("mvn") is None:
        return "there is no Maven to fetch OpenSearch with"
    return ""


def find_compose() -> list[str] | None:
    """The command of Compose: the plugin, else the program of old."""
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Containers:
    """One project of Compose: builds, starts, harms and removes its containers."""

    def __init__(self, folder: Path, plugins: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder = folder
        self.project = f"sourcebook-e2e-{os.getpid()}"
        self.environment = {
            **os.environ,
            "IMAGE_TAG": TAG,
            "PLUGINS_FOLDER": str(plugins),
            "GATEWAY_PORT": str(port),
            "REDIS_IMAGE": f"sourcebook-e2e-redis:{TAG}",
            "MONGO_IMAGE": f"sourcebook-e2e-mongo:{TAG}",
            "OPENSEARCH_IMAGE": f"sourcebook-e2e-opensearch:{TAG}",
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def run(self, *command: str, seconds: float = 120, check: bool = True) -> str:
        """Run a command and return what it printed."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def compose(self, *arguments: str, seconds: float = 300) -> str:
        files = [part for file in FILES for part in ("-f", str(file))]
        return self.run(*(find_compose() or ()), "-p", self.project, *files, *arguments, seconds=seconds)

    def build(self) -> None:
        """Build the engines' images, then one image for each service; what is unchanged is taken from the cache.

        SOURCEBOOK_TEST_CONTAINERS=built takes the images of an earlier run.
        """
        if os.environ["SOURCEBOOK_TEST_CONTAINERS"] == "built":
            return
        base = os.environ.get("SOURCEBOOK_TEST_BASE_IMAGE")
        given = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
        context = self.folder / "engines"
        context.mkdir()
        shutil.copy(get_ferretdb(), context / "ferretdb")
        shutil.copytree(fetch_libraries(*LIBRARY, OPENSEARCH), context / "opensearch")
        dockerfile = ROOT / "tests" / "e2e" / "containers" / "engines.Dockerfile"
        for engine in ENGINES:
            tag = f"sourcebook-e2e-{engine}:{TAG}"
            where = ["--target", engine, "-t", tag, "-f", str(dockerfile), str(context)]
            self.run("docker", "build", "-q", *given, *where, seconds=BUILD_SECONDS)
        for service in SERVICES:
            where = ["--build-arg", f"SERVICE={service}", "-t", f"sourcebook-{service}:{TAG}", "."]
            self.run("docker", "build", "-q", *given, "-f", "deploy/Dockerfile", *where, seconds=BUILD_SECONDS)

    def up(self, *arguments: str) -> None:
        """Start what does not run, and wait until the gateway says that every engine answers."""
        self.compose("up", "-d", "--no-build", "--no-recreate", *arguments)
        self.wait_for(lambda: self.client.get("/health/ready").status_code == httpx.codes.OK, 180, "the gateway")

    def down(self) -> None:
        """Write the logs to the folder of the test; remove containers, networks and volumes."""
        (self.folder / "containers.log").write_text(self.compose("logs", "--no-color"))
        self.compose("down", "--volumes", "--timeout", "5")
        self.client.close()

    def ids(self, service: str) -> list[str]:
        """The running containers of a service, the oldest first."""
        filters = ["--filter", f"label=com.docker.compose.project={self.project}"]
        filters += ["--filter", f"label=com.docker.compose.service={service}"]
        return self.run("docker", "ps", "--quiet", *filters).split()[::-1]

    def inside(self, container: str, *command: str, check: bool = True) -> str:
        return self.run("docker", "exec", container, *command, check=check)

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.client.post(path, json={} if body is None else body)
        assert answer.is_success, answer.text
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/hub/jobs/{job_id}").json()
        return found

    def wait_for_job(self, job_id: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until a job and those that it started have ended; fail unless they succeeded."""
        ended = {"succeeded", "failed", "cancelled"}
        self.wait_for(lambda: self.job(job_id)["state"] in ended, seconds, f"job {job_id}")
        job = self.job(job_id)
        assert job["state"] == "succeeded", json.dumps(job, indent=1)
        for child in job["children"]:
            self.wait_for_job(child, seconds)
        return job

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except (httpx.HTTPError, KeyError, json.JSONDecodeError):
                pass  # the gateway is not there yet, or an engine is away
            time.sleep(0.2)
        pytest.fail(
            f"waited {seconds} s for {what}\n{self.compose('ps')}\n{self.compose('logs', '--no-color', '--tail=15')}"
        )
