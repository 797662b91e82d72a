"""The request headers of a manifest, with values from the environment where it says `${NAME}`."""

import re
from collections.abc import Mapping

from sourcebook.errors import ManifestError
from sourcebook.settings import Settings

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")  # RFC 9110, 5.6.2


def fill_headers(headers: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the headers as they are sent. No error shows a value.

    A manifest may name the variables that SOURCEBOOK_HEADER_VARIABLES lists, so that no plugin can send away another secret.

    Raises:
        ManifestError: a variable is not listed or not set, or a name or value cannot be a header's.
    """
    return {name: _fill(name, text, settings.listed_variables) for name, text in headers.items()}


def _fill(header: str, text: str, allowed: Mapping[str, str]) -> str:
    key = f"dumper.headers.{header}"
    if not _NAME.match(header):
        raise ManifestError(f"{key}: {header!r} cannot be the name of a header.", key=key)

    def read(match: re.Match[str]) -> str:
        name = match[1]
        if name not in allowed:
            listed = ",".join(sorted({*allowed, name}))
            raise ManifestError(
                f"{key} names ${{{name}}}, which manifests may not read: allow it with SOURCEBOOK_HEADER_VARIABLES={listed}.",
                key=key,
                variable=name,
            )
        if not allowed[name]:
            raise ManifestError(
                f"{key} names ${{{name}}}, which is not set in the environment of the dump worker.",
                key=key,
                variable=name,
            )
        return allowed[name]

    value = _VARIABLE.sub(read, text).strip()
    if not value.isascii() or not value.isprintable():
        raise ManifestError(f"{key}: its value has characters that a header cannot have.", key=key)
    return value
