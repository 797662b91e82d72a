"""Runs a command and measures it from outside: time, processor time and peak memory of it and all its children."""

import contextlib
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SAMPLE_SECONDS = 0.1
KIB = 1024
MIB = 1024 * 1024
# Modules are compiled once, by the first command, as everywhere; those of installed packages are in any case.
_COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class Measurement:
    """What a command took.

    `peak_bytes` is memory that only these processes hold (anonymous and shared-memory pages), summed over the process
    tree. `peak_mapped_bytes` is what they had mapped of files at most: cache that the system takes back when needed.
    """

    name: str
    documents: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    peak_mapped_bytes: int

    @property
    def per_second(self) -> float:
        return self.documents / self.seconds

    @property
    def per_cpu_second(self) -> float:
        return self.documents / self.cpu_seconds

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "documents_per_second": round(self.per_second),
            "documents_per_cpu_second": round(self.per_cpu_second),
        }


class CommandFailedError(RuntimeError):
    """A measured command ended with an error; the message has the end of its output."""


def run_measured(
    name: str,
    documents: int,
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 3600,
) -> tuple[Measurement, str]:
    """Run a command to its end; return what it took and what it printed.

    Raises:
        CommandFailedError: it failed, or did not end in time.
    """
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **_COMPILED, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            usage, status, peaks = _watch(process.pid, started + timeout_seconds)
        finally:
            process.returncode = 0  # reaped by wait4, or about to be killed
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        seconds = time.monotonic() - started
        output.seek(0)
        text = output.read().decode(errors="replace")
    if status != 0:
        raise CommandFailedError(f"{name}: {' '.join(command)} ended with {status}\n{text[-4000:]}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Measurement(name, documents, seconds, cpu_seconds, *peaks), text


def _watch(pid: int, deadline: float) -> tuple[resource.struct_rusage, int, tuple[int, int]]:
    peak, peak_mapped = 0, 0
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return usage, os.waitstatus_to_exitcode(status), (peak, peak_mapped)
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            raise CommandFailedError("A measured command did not end in time.")
        own, mapped = (sum(column) for column in zip(*map(_memory, process_tree(pid)), strict=True))
        peak, peak_mapped = max(peak, own), max(peak_mapped, mapped)
        time.sleep(SAMPLE_SECONDS)


def process_tree(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                yield from process_tree(int(child))


def _memory(pid: int) -> tuple[int, int]:
    sizes = {"RssAnon": 0, "RssShmem": 0, "RssFile": 0}
    with contextlib.suppress(OSError):  # it may have ended just now
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in sizes:
                sizes[key] = int(value.split()[0]) * KIB
    return sizes["RssAnon"] + sizes["RssShmem"], sizes["RssFile"]


def describe_machine() -> dict[str, Any]:
    """Return what matters of this machine for the numbers, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    models = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.machine(),
        "memory_gib": round(memory / MIB / KIB),
        "system": platform.system(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
    }


def _cpu_lines() -> list[str]:
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text().splitlines()
    return []
