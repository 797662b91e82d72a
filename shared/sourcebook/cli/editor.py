"""Opens a text in the user's editor."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from sourcebook.errors import InvalidRequest


def edit_text(text: str, name: str) -> Path:
    """Let the user edit a text; return the file that it is in then, which the caller removes.

    Args:
        text: what the editor shows.
        name: what the file is named after; its suffix tells the editor what it is: `mapping.json`.

    Raises:
        InvalidRequest: the editor failed.
    """
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    kind, _, suffix = name.partition(".")
    with tempfile.NamedTemporaryFile("w", prefix=f"{kind}-", suffix=f".{suffix}", delete=False) as made:
        made.write(text)
    try:
        subprocess.run([*editor, made.name], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        Path(made.name).unlink()
        raise InvalidRequest(
            f"The editor {editor[0]!r} failed ({error}). Nothing was changed; EDITOR names another one."
        ) from error
    return Path(made.name)
