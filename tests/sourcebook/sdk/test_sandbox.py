"""What a plugin's process does to itself."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sourcebook.sdk import sandbox


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import os\nfrom sourcebook.sdk.sandbox import *\n{code}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_output_of_python_and_of_children_goes_to_stderr() -> None:
    done = run("enter_sandbox(2**30)\nprint('one', flush=True)\nos.system('echo two')")
    assert (done.stdout, done.stderr.split()) == ("", ["one", "two"])


def test_memory_is_limited_and_no_core_is_written() -> None:
    done = run(
        "import resource\nenter_sandbox(2**28)\nassert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "try:\n    bytearray(2**29)\nexcept MemoryError:\n    os._exit(5)"
    )
    assert done.returncode == 5, done.stderr


def test_a_lower_limit_of_the_system_stays() -> None:
    code = (
        "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (2**28, 2**28))\nenter_sandbox(2**30)\n"
        "raise SystemExit(resource.getrlimit(resource.RLIMIT_DATA) != (2**28, 2**28))"
    )
    assert run(code).returncode == 0


def test_a_parent_that_is_gone_already_ends_the_process() -> None:
    assert run("enter_sandbox(2**30, parent_pid=1 if os.getppid() != 1 else 2)\nos._exit(5)").returncode == 1


@pytest.mark.parametrize("platform", ["linux", "other"])
def test_the_process_dies_with_its_parent(tmp_path: Path, platform: str) -> None:
    if sys.platform != "linux" and platform == "linux":
        pytest.skip("prctl is Linux's")
    told = tmp_path / "pid"
    child = (
        "import os, sys, time, pathlib\nfrom sourcebook.sdk import sandbox\nsandbox._WATCH_SECONDS = 0.05\n"
        f"sys.platform = {platform!r}\nsandbox.enter_sandbox(2**30)\n"
        f"pathlib.Path({str(told)!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    parent = (
        f"import subprocess, sys, time, os\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"while not (os.path.exists({str(told)!r}) and os.path.getsize({str(told)!r})): time.sleep(0.02)\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", parent], timeout=30, check=True)
    stat = Path(f"/proc/{told.read_text()}/stat")
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failing_prctl_is_no_silent_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def prctl(*_args: int) -> int:
            return -1

    monkeypatch.setattr("sourcebook.sdk.sandbox.sys.platform", "linux")
    monkeypatch.setattr("sourcebook.sdk.sandbox.ctypes.CDLL", lambda *_args, **_options: Library)
    with pytest.raises(OSError, match="prctl"):
        sandbox.die_with_parent()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize(("hide", "code"), [("", 0), ("hide_from_plugins()", 1)], ids=["readable", "hidden"])
def test_a_plugin_cannot_read_the_environment_of_the_worker(hide: str, code: int) -> None:
    child = "import sys; open(f'/proc/{sys.argv[1]}/environ', 'rb').read()"
    parent = (
        f"import os, subprocess, sys\nfrom sourcebook.sdk.sandbox import hide_from_plugins\n{hide}\n"
        f"command = [sys.executable, '-c', {child!r}, str(os.getpid())]\n"
        "sys.exit(subprocess.run(command, capture_output=True).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        preexec_fn=_give_up_privileges if os.getuid() == 0 else None,
    )
    assert (done.returncode, done.stderr) == (code, "")


def _give_up_privileges() -> None:
    """Leave root nothing that an ordinary user does not have: no capability outlives the next program."""
    library = ctypes.CDLL(None)
    for capability in range(64):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_the_command_line_hides_itself_from_plugins_before_it_loads_a_command() -> None:
    code = (
        "import ctypes, sys\nfrom sourcebook.cli import app\n"
        "app.make_command = lambda: sys.exit(10 + ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\napp.main()"
    )
    assert run(code).returncode == 10
