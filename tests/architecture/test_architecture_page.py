"""ARCHITECTURE.md: every file and name that it leads to is there, in the order in which it is to be read."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
FILE = re.compile(r"`([a-z_0-9/]+\.py)`")
NAME = re.compile(r"`([A-Za-z_]\w*)`")
WAYS = ("A document's way", "A query's way")


def read_section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def find_file(name: str) -> Path:
    """Return the file of a path that begins in the shared package, or in the folder of a service."""
    places = [ROOT / "shared" / "sourcebook" / name, *(folder / name for folder in (ROOT / "services").iterdir())]
    return next((place for place in places if place.is_file()), ROOT / name)


def iterate_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


@cache
def line_of(path: Path, name: str) -> int | None:
    """Return the line in which a file defines a name."""
    return min((line for known, line in iterate_names(ast.parse(path.read_text())) if known == name), default=None)


QUESTIONS = re.findall(r"^\| (.+?) \| `(\S+)` \| `(\w+)` \|$", read_section("Where is it?"), re.MULTILINE)
STEPS = [
    pytest.param(" ".join(step.split()), id=f"{way} {number}")
    for way in WAYS
    for number, step in re.findall(r"^(\d+)\. (.+(?:\n +.+)*)", read_section(way), re.MULTILINE)
]


@pytest.mark.parametrize(("question", "file", "name"), QUESTIONS, ids=[question for question, _, _ in QUESTIONS])
def test_a_question_is_answered_where_the_table_says(question: str, file: str, name: str) -> None:
    path = find_file(file)
    assert path.is_file(), question
    assert line_of(path, name) is not None, f"{file} has no {name}"


def test_there_is_a_file_for_each_of_at_least_thirty_questions() -> None:
    rows = [line for line in read_section("Where is it?").splitlines() if line.startswith("| ")]
    assert len(rows) - 1 == len(QUESTIONS) >= 30
    assert len({question for question, _, _ in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_names_what_its_file_has_from_top_to_bottom(step: str) -> None:
    file, _, text = step.partition(": ")
    path = find_file(file.strip("`"))
    lines = [line_of(path, name) for name in NAME.findall(text)]
    assert lines, step
    assert None not in lines, step
    assert lines == sorted(line for line in lines if line is not None), step


def test_every_file_that_the_page_names_is_there() -> None:
    names = set(FILE.findall(PAGE)) - {"model.py", "commands.py", "answers.py", "policy.py"}
    short = {name for name in names if not find_file(name).is_file()}
    known = [str(path) for path in (ROOT / "services").rglob("*.py")]
    assert {name for name in short if not any(path.endswith(f"/{name}") for path in known)} == set()


def find_upside_down(path: Path) -> list[str]:
    """Return the private functions of a module that stand above every one that calls them."""
    tree = ast.parse(path.read_text())
    doors = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    uses = {node.name: {item.id for item in ast.walk(node) if isinstance(item, ast.Name)} for node in doors}
    found = []
    for node in doors:
        callers = [other.lineno for other in doors if other is not node and node.name in uses[other.name]]
        is_function = not isinstance(node, ast.ClassDef)
        if is_function and node.name.startswith("_") and callers and min(callers) > node.lineno:
            found.append(node.name)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_files_of_a_way_are_read_downwards(way: str) -> None:
    files = re.findall(r"^\d+\. `(\S+)`", read_section(way), re.MULTILINE)
    assert {file: names for file in files if (names := find_upside_down(find_file(file)))} == {}
