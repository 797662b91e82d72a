"""What a plugin's process does to itself before it imports the plugin: limits, output, no life without its parent."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_DUMPABLE = 4
_WATCH_SECONDS = 1.0


def enter_sandbox(memory_bytes: int, *, parent_pid: int | None = None) -> None:
    """Prepare this process for a plugin's code; call it first, in the child, in its main thread.

    Afterwards whatever the plugin prints goes to stderr (so that a protocol on another descriptor stays clean), an
    allocation beyond `memory_bytes` raises MemoryError, a crash leaves no core file, and the process ends with
    its parent.

    Args:
        memory_bytes: limit of the process's private writable memory.
        parent_pid: the parent as it knows itself; when given, a parent that died before this call is noticed too.
    """
    die_with_parent(parent_pid)
    redirect_stdout_to_stderr()
    limit_memory(memory_bytes)


def hide_from_plugins() -> None:
    """Keep other processes of the same user out of this one's environment and memory; plugins are such processes.

    Linux then refuses them `/proc/<pid>/environ`, `/proc/<pid>/mem` and debuggers; root may look all the same. A forked child
    inherits this, a program that it executes does not. Other systems have nothing of the kind.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0, "PR_SET_DUMPABLE")


def _prctl(option: int, value: int, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({name}) failed")


def redirect_stdout_to_stderr() -> None:
    """Make file descriptor 1 a copy of 2, for this process, its C libraries and its children alike."""
    sys.stdout.flush()
    os.dup2(2, 1)


def limit_memory(memory_bytes: int) -> None:
    """Bound the private writable memory (RLIMIT_DATA; file mappings do not count) and switch core files off."""
    _lower_limit(resource.RLIMIT_DATA, memory_bytes)
    _lower_limit(resource.RLIMIT_CORE, 0)


def die_with_parent(parent_pid: int | None = None) -> None:
    """Have this process killed when its parent dies, however that happens."""
    parent = os.getppid() if parent_pid is None else parent_pid
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, "PR_SET_PDEATHSIG")
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True, name="watch-parent").start()
    if os.getppid() != parent:
        os._exit(1)  # the parent was gone before the kernel was asked


def _watch_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _lower_limit(kind: int, wanted: int) -> None:
    # A limit that the system already set lower stays: raising it needs a privilege that a worker has not.
    _soft, hard = resource.getrlimit(kind)
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (value, value))
