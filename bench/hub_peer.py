"""Measures the uploader and the builder of BioThings' hub on a MongoDB-compatible server, for `production.py`."""

import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import generate
from measure import CommandFailedError, run_measured
from peer import SCRATCH, install_peer
from pymongo import MongoClient

PACKAGE = "biothings[hub]==1.2.2"
BUILD_SECONDS = 300
SCRIPT = Path(__file__).with_name("hub_stages.py")
CONFIGURATION = """
DATA_SRC_SERVER = DATA_TARGET_SERVER = {host!r}
DATA_SRC_PORT = DATA_TARGET_PORT = {port}
DATA_SRC_SERVER_USERNAME = DATA_SRC_SERVER_PASSWORD = DATA_TARGET_SERVER_USERNAME = DATA_TARGET_SERVER_PASSWORD = ""
DATA_SRC_DATABASE, DATA_TARGET_DATABASE, DATA_HUB_DB_DATABASE = "bench_src", "bench_target", "bench_hub"
HUB_DB_BACKEND = {{"module": "biothings.utils.mongo", "uri": {uri!r}}}
DATA_ARCHIVE_ROOT, LOG_FOLDER, RUN_DIR = {folder!r}, {folder!r} + "/logs", {folder!r} + "/run"
"""


class HubRun:
    """BioThings' stages on one server, in a folder of their own."""

    def __init__(self, python: Path, folder: Path, documents: int, url: str) -> None:
        self.documents = documents
        self._python = python
        self._folder = folder
        self._url = url

    def measure_stages(self) -> dict[str, Any]:
        """Return what was measured by stage, and the problems of stages that failed."""
        parts = urlsplit(self._url)
        text = CONFIGURATION.format(host=parts.hostname, port=parts.port, uri=self._url, folder=str(self._folder))
        (self._folder / "config.py").write_text(text)
        # BioThings asks the repository around an uploader for its remote; an empty one of its own answers "none" at once.
        shutil.copy(SCRIPT, self._folder)
        subprocess.run(["git", "init", "--quiet", self._folder], check=True)  # noqa: S607 - git is what cloned this project
        for source in generate.MAKERS:
            generate.write_plugin(self._folder / "plugins", source, self.documents)
        self._run("register", 0, str(self._folder / "plugins"))
        stages = {}
        for source in generate.MAKERS:
            stages[f"upload {source}"] = self._run("upload", self.documents, source)
            self._check_count(source)
        problems = []
        try:
            stages["build"] = self._run("build", 2 * self.documents)
        except CommandFailedError as error:
            problems.append(f"BioThings' builder ends with an error there: `{last_problem(str(error))}`")
        return {"package": PACKAGE, "stages": stages, "problems": problems}

    def _run(self, stage: str, documents: int, *arguments: str) -> dict[str, Any]:
        command = [str(self._python), SCRIPT.name, stage, *arguments]
        measured, _ = run_measured(
            f"BioThings: {stage}", documents, command, folder=self._folder, timeout_seconds=BUILD_SECONDS
        )
        return measured.as_json()

    def _check_count(self, source: str) -> None:
        with MongoClient[dict[str, Any]](self._url) as client:
            found = client["bench_src"][source].count_documents({})
        if found != self.documents:
            raise CommandFailedError(f"BioThings stored {found:,} of {self.documents:,} documents of {source}.")


def last_problem(output: str) -> str:
    """Return the error in the last line of a traceback, without what the server adds to it."""
    return output.strip().splitlines()[-1].partition(", full error")[0]


def measure_hub(documents: int, url: str) -> dict[str, Any]:
    """Measure the stages on a server."""
    tools = install_peer(SCRATCH / "hub", PACKAGE)
    folder = SCRATCH / "hub" / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        return HubRun(tools / "python", folder, documents, url).measure_stages()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
