"""Each service imports only what its extra installs, and everything that is installed is pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
SHARED = ROOT / "shared" / "sourcebook"
# What a backend imports comes with the engine's extra; it is loaded only when a URL names the engine.
CORE_FILES = [path for path in SHARED.rglob("*.py") if "backends" not in path.parts]


def distribution(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def applies(requirement: str) -> bool:
    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"extra": ""})


def installed_by(requirements: Iterable[str]) -> set[str]:
    """The distributions that requirements install, with what those require themselves."""
    names: set[str] = set()
    waiting = [distribution(item) for item in requirements]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += [distribution(item) for item in requires(name) or () if applies(item)]
    return names


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What a file does when it runs; what stands below `if TYPE_CHECKING` is for mypy alone."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from run_time_nodes(child)


def imported_by(paths: Iterable[Path]) -> set[str]:
    """The distributions of the modules that files import when they run."""
    known = packages_distributions()
    modules: set[str] = set()
    for path in paths:
        for node in run_time_nodes(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    modules |= {name.name.partition(".")[0] for name in names}
                case ast.ImportFrom(module=str(module), level=0):
                    modules.add(module.partition(".")[0])
    ours = {name for name in modules if name.startswith("sourcebook")}
    return {distribution(known[name][0]) for name in modules - ours - set(sys.stdlib_module_names)}


def test_what_is_shared_needs_no_extra() -> None:
    assert imported_by(CORE_FILES) <= installed_by(PYPROJECT["project"]["dependencies"])


@pytest.mark.parametrize("service", ["dumper", "uploader", "builder", "indexer", "api"])
def test_a_service_needs_its_own_extra_alone(service: str) -> None:
    files = (ROOT / "services" / service).rglob("*.py")
    assert imported_by(files) <= installed_by([*PYPROJECT["project"]["dependencies"], *EXTRAS[service]])


def test_every_dependency_is_pinned() -> None:
    # `uv pip compile` leaves the extras out unless --all-extras is given: make lock.
    pinned = {distribution(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    wanted = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
    wanted += [item for name, extra in EXTRAS.items() if name != "all" for item in extra]
    assert {distribution(item) for item in wanted} <= pinned


def test_every_pinned_file_has_its_hash_and_no_server_is_named() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z])", lock)
    assert [entry for entry in entries if not re.search(r"^ +--hash=sha256:[0-9a-f]{64}\b", entry, re.MULTILINE)] == []
    assert "://" not in lock
    assert "index-url" not in lock


@pytest.mark.parametrize("path", ["Makefile", "deploy/Dockerfile"])
def test_what_the_lock_names_is_installed_by_its_hash_alone(path: str) -> None:
    used = [line for line in (ROOT / path).read_text().splitlines() if "--requirement requirements.lock" in line]
    assert used
    assert all("--require-hashes" in line for line in used)


def test_an_image_is_installed_from_checked_files_alone() -> None:
    _, _, build = (ROOT / "deploy" / "Dockerfile").read_text().partition("pip download")
    before, _, after = build.partition("\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_CONSTRAINT=/constraints.txt ")
    assert "pip install" not in before
    assert after.count("pip install") == 4
