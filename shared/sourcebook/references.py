"""Load what a table names as `module:name`: engines and stages are named, and imported only when they are used."""

import importlib
from typing import Any


def load_reference(reference: str) -> Any:
    """Return the attribute that `module:name` names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
