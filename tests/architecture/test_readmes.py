"""The READMEs of the five services have one form, and say what the code says."""

import re
import typing
from pathlib import Path

import pytest

from sourcebook.flow.stages import STAGES, Stage
from sourcebook.references import load_reference
from sourcebook.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("dumper", "uploader", "builder", "indexer", "api")
ROWS = ["purpose", "queue", "in", "out", "files", "settings"]
MESSAGE = re.compile(r"`([A-Z]\w+)`")


def read_readme(service: str) -> str:
    return (ROOT / "services" / service / "README.md").read_text()


def read_rows(service: str) -> dict[str, str]:
    head = read_readme(service).split("\n## ")[0]
    return dict(re.findall(r"^\| (\w+) \| (.+) \|$", head, re.MULTILINE))


def package_of(service: str) -> Path:
    return ROOT / "services" / service / f"sourcebook_{service}"


def stages_of(service: str) -> list[Stage]:
    return [stage for stage in STAGES.values() if stage.handler.startswith(f"sourcebook_{service}.")]


@pytest.mark.parametrize("service", SERVICES)
def test_a_readme_has_the_form_of_all(service: str) -> None:
    lines = read_readme(service).splitlines()
    assert lines[:4] == [f"# {service}", "", "| | |", "|---|---|"]
    assert list(read_rows(service)) == ROWS


@pytest.mark.parametrize("service", SERVICES)
def test_a_readme_names_the_queue_and_messages_of_the_service(service: str) -> None:
    rows, stages = read_rows(service), stages_of(service)
    answers = [typing.get_type_hints(load_reference(stage.handler))["return"] for stage in stages]
    assert re.findall(r"`(\w+)`", rows["queue"]) == sorted({stage.queue for stage in stages})
    assert set(MESSAGE.findall(rows["in"])) == {stage.command.__name__ for stage in stages}
    assert set(MESSAGE.findall(rows["out"])) == {answer.__name__ for answer in answers}


@pytest.mark.parametrize("service", SERVICES)
def test_a_readme_names_every_file_and_none_that_is_not_there(service: str) -> None:
    package = package_of(service)
    files = read_readme(service).partition("\n## Files\n")[2]
    named = {name for row in re.findall(r"^\| (`.+?`) \|", files, re.MULTILINE) for name in re.findall(r"`(\S+)`", row)}
    folders = tuple(name for name in named if name.endswith("/"))
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert {name for name in named if not (package / name).exists()} == set()
    assert {name for name in modules - named if not name.startswith(folders)} == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_readme_names_the_settings_that_the_service_reads(service: str) -> None:
    named = {name.lower() for name in re.findall(r"`SOURCEBOOK_(\w+)`", read_rows(service)["settings"])}
    sources = "".join(path.read_text() for path in package_of(service).rglob("*.py"))
    read = {name for name in re.findall(r"\bsettings\.(\w+)", sources) if name in Settings.model_fields}
    assert named - Settings.model_fields.keys() == set()
    assert read - named == set()
