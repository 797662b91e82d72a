"""What comes from Maven Central: Java programs that stand in for a server, or are one; downloaded once and kept."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sourcebook-test-engines"
MAVEN_SECONDS = 300
POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>engine</artifactId><version>1</version><dependencies><dependency>
<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>
</dependency></dependencies></project>
"""


class ServerMissing(Exception):
    """A program that is needed is not on this machine; the message names it and says how to get it."""


def check_maven() -> None:
    """Raise ServerMissing where there is no Maven."""
    if shutil.which("mvn") is None:
        raise ServerMissing("Maven is not on this machine: apt-get install maven openjdk-21-jdk-headless")


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


def fetch_libraries(group: str, artifact: str, version: str) -> Path:
    """Return the folder with the jar files of a library and of all that it needs.

    Raises:
        RuntimeError: Maven cannot download them.
    """
    libraries = CACHE / f"{artifact}-{version}"
    if libraries.is_dir():
        return libraries
    work = CACHE / f".new-{artifact}-{version}-{os.getpid()}"
    work.mkdir(parents=True, exist_ok=True)
    (work / "pom.xml").write_text(POM.format(group=group, artifact=artifact, version=version))
    command = ["mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies", f"-DoutputDirectory={work / 'lib'}"]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=MAVEN_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"Maven cannot download {group}:{artifact}:{version}: {done.stdout[-500:]}")
        with contextlib.suppress(OSError):  # another process was faster
            (work / "lib").rename(libraries)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return libraries
