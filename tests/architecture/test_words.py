"""The glossary of ARCHITECTURE.md: what each word names in the code is there, and a name of several classes is not in it."""

import ast
import importlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("shared", "services") for path in sorted((ROOT / folder).rglob("*.py"))]
ROW = re.compile(r"^\| (?P<word>[^|`]+) \| [^|]+ \| `(?P<name>sourcebook[\w.]*)` \|$", re.MULTILINE)


def read_glossary() -> dict[str, str]:
    _, _, rest = (ROOT / "ARCHITECTURE.md").read_text().partition("\n## Words\n")
    return {row["word"]: row["name"] for row in ROW.finditer(rest.partition("\n## ")[0])}


def find_named(name: str) -> Any:
    """Return the module, class, value or field of a dotted name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = found.model_fields[part] if part in getattr(found, "model_fields", {}) else getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_the_glossary_has_the_words_of_the_project() -> None:
    words = read_glossary()
    assert len(words) >= 30
    assert {"dump", "upload", "build", "release", "version", "part", "address", "job", "state"} <= words.keys()


@pytest.mark.parametrize(("word", "name"), read_glossary().items())
def test_a_word_names_something_that_is_there(word: str, name: str) -> None:
    assert find_named(name) is not None, word


def test_a_name_that_is_not_there_is_found() -> None:
    with pytest.raises(AttributeError):
        find_named("sourcebook.hub.sources.model.Harvest")
    with pytest.raises(ModuleNotFoundError):
        find_named("nowhere.Dump")


def test_the_words_stand_in_order() -> None:
    words = list(read_glossary())
    assert words == sorted(words, key=str.lower)


def test_no_two_public_types_have_the_same_name() -> None:
    """An engine's folder is a world of its own: several engines may have a `Server`."""
    engines = ROOT / "shared" / "sourcebook" / "backends"
    worlds = [[path for path in SOURCES if engines not in path.parents]]
    worlds += [sorted(folder.rglob("*.py")) for folder in engines.iterdir() if folder.is_dir()]
    for world in worlds:
        defined = Counter(name for path in world for name in _public_types(ast.parse(path.read_text())))
        assert [name for name, times in defined.items() if times > 1] == []


def _public_types(tree: ast.Module) -> set[str]:
    """Return the names of a module's public classes and type aliases; type variables (`ResultT`) name nothing."""
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assigned = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
    aliases = {target.id for target in assigned if isinstance(target, ast.Name) and target.id[:1].isupper()}
    return {
        name for name in classes | aliases if not name.startswith("_") and not name.isupper() and not name.endswith("T")
    }
