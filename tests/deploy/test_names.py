"""Names of queues, and URL schemes of engines, are written once in the code; what has to repeat them says the same."""

import re
from pathlib import Path

import pytest

from sourcebook.backends import SCHEMES
from sourcebook.flow.stages import QUEUES, SERVICES, STAGES, WORKER_QUEUES, Stage
from sourcebook.references import load_reference
from sourcebook.settings import RENAMED, Settings

ROOT = Path(__file__).resolve().parents[2]
OPERATE = (ROOT / "docs" / "operate.md").read_text()
PLACES = ("shared", "services", "deploy", "docs", "examples", "README.md", "ARCHITECTURE.md")
FILES = [
    path
    for name in PLACES
    for path in (ROOT / name, *(ROOT / name).rglob("*"))
    if path.suffix in {".py", ".md", ".yml", ".yaml", ".example", ""} and path.is_file()
]
OURS = "redis+socket"  # of the bundled broker; nobody writes it
KNOWN = {scheme for schemes in SCHEMES.values() for scheme in schemes}
ENGINE_URL = re.compile(r"\b((?:lmdb|sqlite|tantivy|mongo|redis|opensearch)[a-z0-9]*(?:\+[a-z0-9]+)*)://")
SETTING_URL = re.compile(r"\b(?:SOURCEBOOK|sourcebook)_(\w+_(?:URL|url))`?\s*[:=]\s*(?:\$\{\w+:-)?([a-z][a-z0-9+]*):")


def schemes_in(text: str) -> set[str]:
    """The schemes of the URLs in a text; `http(s)` is two."""
    found = re.findall(r"`([a-z][a-z0-9+]*(?:\(s\))?):", text)
    return {name for item in found for name in ({item} if "(s)" not in item else {item[:-3], f"{item[:-3]}s"})}


def test_every_setting_that_names_an_engine_has_schemes() -> None:
    assert set(SCHEMES) == {name for name in Settings.model_fields if name.endswith("_url")}


@pytest.mark.parametrize("setting", SCHEMES)
def test_a_setting_and_its_page_name_the_schemes_that_it_takes(setting: str) -> None:
    field = Settings.model_fields[setting]
    assert str(field.default).partition(":")[0] in {*SCHEMES[setting], ""}
    assert schemes_in(field.description or "") <= set(SCHEMES[setting])
    (row,) = re.findall(rf"^\| `SOURCEBOOK_{setting.upper()}` (\|.*)$", OPERATE, re.MULTILINE)
    named = schemes_in(row.replace("endpoint_url=https:", ""))
    assert named == set(SCHEMES[setting]) - {OURS, ""}


def test_urls_of_engines_have_schemes_that_there_are() -> None:
    found = {(str(path.relative_to(ROOT)), scheme) for path in FILES for scheme in ENGINE_URL.findall(path.read_text())}
    assert {scheme for _, scheme in found} >= {"mongodb", "redis", "opensearch+http"}
    assert {item for item in found if item[1] not in KNOWN} == set()


def test_settings_in_files_have_schemes_that_they_take() -> None:
    found = {
        (str(path.relative_to(ROOT)), RENAMED.get(name.lower(), name.lower()), scheme)
        for path in FILES
        for name, scheme in SETTING_URL.findall(path.read_text())
    }
    assert {name for _, name, _ in found} >= {"broker_url", "documents_url", "state_url", "search_url", "files_url"}
    assert {item for item in found if item[2] not in SCHEMES[item[1]]} == set()


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_stage_is_a_function_of_its_service(stage: Stage) -> None:
    assert callable(load_reference(stage.handler))


def test_every_queue_has_a_stage() -> None:
    assert {stage.queue for stage in STAGES.values()} == set(QUEUES)


@pytest.mark.parametrize(("queue", "service"), SERVICES.items())
def test_the_page_of_a_service_names_its_queue(queue: str, service: str) -> None:
    text = (ROOT / "services" / service / "README.md").read_text()
    assert re.findall(r"^\| queue \| `(\w+)`", text, re.MULTILINE) == [queue]


def test_the_page_about_operation_names_the_workers() -> None:
    assert tuple(re.findall(r"^sourcebook worker (\w+)", OPERATE, re.MULTILINE)) == WORKER_QUEUES
    *first, last = WORKER_QUEUES
    assert f"With `up`, the workers for {', '.join(first)} and {last} have that port and the next four" in OPERATE
    assert len(WORKER_QUEUES) == 5
