"""The command line: every command of the hub, progress bars for people, `--json` and exit codes for scripts."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

INTERRUPTED = 130  # 128 + the number of SIGINT, as shells report it


@contextlib.contextmanager
def quiet_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the program at once and without a word while the body loads code.

    An exception that is raised in the middle of an import would be printed with its traceback, or be lost in a library.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # whoever started the program has it ignore Ctrl-C, or there is nothing to be set from here
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def main() -> int:
    """Load what every command needs, and run the command line; return or exit with its status."""
    with quiet_ctrl_c():
        from sourcebook.cli.app import main as run_command_line  # noqa: PLC0415 - Ctrl-C is to be quiet from here on

    return run_command_line()
