"""Files and functions stay small, importing the package costs nothing, and every folder has what it should."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for top in ("shared", "services") for path in (ROOT / top).rglob("*.py"))
SERVICES = ("dumper", "uploader", "builder", "indexer", "api")
FILE_CAP, FILE_P95 = 500, 350
FUNCTION_CAP, FUNCTION_P95 = 60, 40
PARAMETER_CAP, POSITIONAL_CAP = 6, 3
ENGINES = {"lmdb", "sqlite3", "tantivy", "celery", "motor", "opensearchpy", "redis", "fastapi", "uvicorn", "httpx"}


def percentile_95(numbers: list[int]) -> int:
    return sorted(numbers)[int(len(numbers) * 0.95)]


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_files_are_within_their_budget() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in lines.items() if count > FILE_CAP} == {}
    assert percentile_95(list(lines.values())) <= FILE_P95


def test_functions_are_within_their_budget() -> None:
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: length for name, length in lengths.items() if length > FUNCTION_CAP} == {}
    assert percentile_95(list(lengths.values())) <= FUNCTION_P95


def test_functions_take_few_parameters() -> None:
    too_many = {}
    for name, node in functions():
        options = _is_command(node)
        arguments = [item.arg for item in (*node.args.posonlyargs, *node.args.args) if item.arg not in {"self", "cls"}]
        count = len(arguments) + len(node.args.kwonlyargs)
        if count > PARAMETER_CAP and not options:
            too_many[name] = count
    assert too_many == {}


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    # The options of a command or the parameters of a route are what the user types; they are not passed around.
    return any("Option" in ast.dump(item) for item in node.args.kwonlyargs) or bool(node.decorator_list)


def test_importing_the_package_loads_no_engine_and_is_quick() -> None:
    code = (
        "import time, sys, json; before = set(sys.modules); start = time.perf_counter(); import sourcebook;"
        "print(json.dumps([time.perf_counter() - start, sorted(set(sys.modules) - before)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout)
    assert seconds < 0.15
    assert ENGINES.isdisjoint(modules)


def test_every_service_has_a_readme_and_the_same_cast_of_files() -> None:
    for service in SERVICES:
        folder = ROOT / "services" / service
        assert (folder / "README.md").is_file(), service
        if service != "api":
            assert (folder / f"sourcebook_{service}" / "tasks.py").is_file(), service


def test_no_module_is_named_after_nothing() -> None:
    assert [path for path in SOURCES if path.stem in {"utils", "helpers", "common", "manager", "misc"}] == []


def test_only_settings_reads_the_environment() -> None:
    # $EDITOR; what a plugin process inherits; the folder that a library reads from there
    allowed = {"settings.py", "editor.py", "process.py", "metrics.py"}
    readers = [path.name for path in SOURCES if "os.environ" in path.read_text() or "getenv" in path.read_text()]
    assert set(readers) <= allowed


def test_tests_mirror_the_packages() -> None:
    for service in SERVICES:
        assert list((ROOT / "tests" / service).glob("test_*.py")), service
