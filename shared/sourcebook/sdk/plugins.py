"""Finds plugin folders, and imports a plugin's functions from its own folder.

Every plugin process imports this file, so it imports little: the standard library's logger, and no YAML.
"""

import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sourcebook.errors import ManifestError, ParserError

log = logging.getLogger(__name__)

MANIFEST_NAMES = ("manifest.json", "manifest.yaml", "manifest.yml")  # the first that is there counts
_MAX_TRACEBACK = 20_000  # characters of a traceback that are kept: the last ones say most


def find_manifest(folder: Path) -> Path | None:
    """Return the manifest of a plugin folder, or None if there is none."""
    return next((folder / name for name in MANIFEST_NAMES if (folder / name).is_file()), None)


def find_plugins(folders: Iterable[Path]) -> list[Path]:
    """Return the plugin folders: each of `folders` that has a manifest, else those of its subfolders that have one.

    A folder that is not there is logged and passed over, so that one wrong path does not stop the others.
    """
    return [plugin for folder in folders for plugin in _plugins_in(folder)]


def _plugins_in(folder: Path) -> Iterator[Path]:
    if find_manifest(folder):
        yield folder
        return
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        log.warning("Plugin folder %s cannot be read: %s", folder, error.strerror)
        return
    yield from (child for child in children if not child.name.startswith(".") and find_manifest(child))


def load_function(folder: Path, reference: str) -> Callable[..., Any]:
    """Import `module:function` of a plugin; use it only in a process of the plugin's own.

    The module is taken from the plugin's folder, whatever else of that name is installed. It may import its siblings
    both absolutely (`import helper`) and relatively (`from .helper import x`). A module that is not in the folder is
    imported as usual, so that parsers may come from installed packages.

    Raises:
        ManifestError: there is no such module or function; the message names the nearest one.
        Exception: whatever the module raises while it is imported.
    """
    module_name, _, function_name = reference.partition(":")
    # A .pyc is trusted by its source's size and whole second: a quick edit of the same length would go unnoticed.
    sys.dont_write_bytecode = True
    module = _import_module(folder.resolve(), module_name, reference)
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value)]
        raise ManifestError(
            f"{reference!r}: {module_name} of {folder} has no function {function_name!r}{_near(function_name, names)}",
            reference=reference,
            folder=str(folder),
        )
    loaded: Callable[..., Any] = function
    return loaded


def _import_module(folder: Path, name: str, reference: str) -> Any:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    if _is_in_folder(folder, name):
        return importlib.import_module(f"{_register_package(folder)}.{name}")
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        near = _near(name, [path.stem for path in folder.glob("*.py")])
        file = f"{name.replace('.', '/')}.py"
        raise ManifestError(
            f"{reference!r}: {folder} has no file {file}, and no such module is installed{near}",
            reference=reference,
            folder=str(folder),
        )
    return importlib.import_module(name)


def _is_in_folder(folder: Path, name: str) -> bool:
    path = folder.joinpath(*name.split("."))
    return path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file()


def _register_package(folder: Path) -> str:
    """Make the folder a package, without running its `__init__.py`; return its name, the folder's if that is free."""
    private = f"_plugin_{''.join(c if c.isalnum() else '_' for c in folder.name)}"
    for name in (folder.name, private):
        module = sys.modules.get(name)
        if module is not None and list(getattr(module, "__path__", ())) == [str(folder)]:
            return name
    taken = folder.name in sys.modules or not folder.name.isidentifier() or importlib.util.find_spec(folder.name)
    name = private if taken else folder.name
    spec = importlib.machinery.ModuleSpec(name, loader=None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = importlib.util.module_from_spec(spec)
    return name


def _near(word: str, known: list[str]) -> str:
    found = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {found[0]!r}?" if found else "."


def check_arguments(
    function: Callable[..., Any], reference: str, args: Sequence[Any], names: Iterable[str] = ()
) -> None:
    """Check that a plugin's function can be called so.

    Args:
        function: what `load_function` returned.
        reference: `module:function`, as the manifest has it.
        args: the arguments that it gets by position.
        names: the names of those that it gets by name.

    Raises:
        ParserError: it takes other arguments; the message says which it must take, and where it is.
    """
    names = list(names)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built in: it tells at the call
        return
    try:
        signature.bind(*args, **dict.fromkeys(names))
    except TypeError as error:
        wanted = "one argument" if len(args) == 1 else f"{len(args)} arguments"
        named = f", and {', '.join(names)} by name" if names else ""
        code = getattr(inspect.unwrap(function), "__code__", None)
        where = f" ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code else ""
        name = reference.partition(":")[2]
        raise ParserError(
            f"{reference!r}: {name}{signature}{where} must take {wanted}{named}: {error}.", reference=reference
        ) from error


def format_plugin_traceback(error: BaseException, folder: Path) -> str:
    """Return an exception's traceback from the plugin's first frame on, without the frames that called the plugin.

    An error of the plugin's text (a SyntaxError) has no frame of its own: its file and line are in the error.
    """
    inside = f"{folder.resolve()}/"
    summary: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    text = summary
    while summary is not None:
        frames = [frame for frame in summary.stack if not frame.filename.startswith("<frozen importlib")]
        first = next((number for number, frame in enumerate(frames) if frame.filename.startswith(inside)), len(frames))
        summary.stack[:] = frames[first:]
        summary = summary.__cause__ or summary.__context__
    return "".join(text.format())[-_MAX_TRACEBACK:] if text else ""
