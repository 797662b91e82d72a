"""Every module stands in a layer, and an import against the layers is found."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "shared"
PATHS = [SHARED, *(path for path in (ROOT / "services").iterdir() if path.is_dir())]


def layers() -> list[str]:
    """Return every module that the contract of the layers names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = [item for item in contracts if item["type"] == "layers"]
    return [name.strip() for layer in found["layers"] for name in layer.split(":")]


def test_every_shared_module_stands_in_one_layer() -> None:
    modules = [
        ".".join(path.relative_to(SHARED).with_suffix("").parts)
        for path in SHARED.joinpath("sourcebook").rglob("*.py")
        if path.name != "__init__.py"
    ]
    named = layers()
    homes = {module: [name for name in named if f"{module}.".startswith(f"{name}.")] for module in modules}
    assert {module: found for module, found in homes.items() if len(found) != 1} == {}
    assert [name for name in named if not any(f"{module}.".startswith(f"{name}.") for module in modules)] == []


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("shared/sourcebook/hub/jobs/model.py", "import sourcebook.context", "layers"),
        ("shared/sourcebook/errors.py", "import sourcebook.settings", "layers"),
        ("shared/sourcebook/hub/builds/commands.py", "import sourcebook.backends.lmdb.documents", "engine"),
        ("shared/sourcebook/worker.py", "import sourcebook_dumper.tasks", "shared code imports no service"),
        ("services/dumper/sourcebook_dumper/tasks.py", "import sourcebook_builder.tasks", "services never import"),
    ],
    ids=[
        "pure code on context",
        "errors on settings",
        "an engine by name",
        "shared on a service",
        "service on service",
    ],
)
def test_an_import_against_the_layers_is_found(tmp_path: Path, file: str, line: str, broken: str) -> None:
    for top in ("shared", "services"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as changed:
        changed.write(f"\n{line}\n")
    paths = ":".join(str(tmp_path / path.relative_to(ROOT)) for path in PATHS)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": paths, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(broken in text and "BROKEN" in text for text in done.stdout.splitlines()), done.stdout
