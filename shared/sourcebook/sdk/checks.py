"""What a plugin's own process finds out about the plugin, for `sourcebook plugin check`."""

from pathlib import Path
from typing import Any

from sourcebook.errors import SourcebookError
from sourcebook.sdk.plugins import check_arguments, format_plugin_traceback, load_function


def check_functions(folder: str, functions: dict[str, int]) -> list[dict[str, Any]]:
    """Import functions of a plugin, and look whether they take as many arguments as they will get.

    Args:
        folder: the plugin's folder.
        functions: how many arguments they get, by `module:function`; -1 if nobody knows yet.

    Returns:
        one object for each function that cannot be used, as `describe_failure` gives it.
    """
    found = []
    for reference, count in functions.items():
        # Whatever a plugin raises while it is imported, SystemExit included, is the answer.
        try:
            function = load_function(Path(folder), reference)
            if count >= 0:
                check_arguments(function, reference, [None] * count)
        except BaseException as error:  # noqa: BLE001
            found.append(describe_failure(error, Path(folder), reference))
    return found


def describe_failure(error: BaseException, folder: Path, reference: str) -> dict[str, Any]:
    """Return what went wrong with a plugin's function: `problem`, and the plugin's `traceback` if its code raised."""
    if isinstance(error, SourcebookError):
        return {"reference": reference, "problem": error.message, "traceback": ""}
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    trace = format_plugin_traceback(error, folder)
    return {"reference": reference, "problem": f"{reference!r} raised {text}", "traceback": trace}
