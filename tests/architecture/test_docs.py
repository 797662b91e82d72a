"""What the code lists is what the documentation lists."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from sourcebook.cli.app import make_command
from sourcebook.metrics import DOCUMENTS, KEPT, LOOKED_UP
from sourcebook.sdk.manifest import DumperManifest, Manifest, UploaderManifest
from sourcebook.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sourcebook_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
COUNTERS = (DOCUMENTS,)


@pytest.mark.parametrize("page", sorted(GENERATOR.PAGES))
def test_generated_page_is_up_to_date(page: str) -> None:
    expected = GENERATOR.PAGES[page]()
    assert (DOCS / page).read_text() == expected, "run: python docs/generate.py"


def test_settings_page_names_every_setting() -> None:
    text = (DOCS / "settings.md").read_text()
    assert [name for name in Settings.model_fields if f"`SOURCEBOOK_{name.upper()}`" not in text] == []


def test_commands_page_names_every_command_with_its_meaning() -> None:
    sections = (DOCS / "commands.md").read_text().split("## `sourcebook ")[1:]
    commands = dict(GENERATOR.iterate_commands(make_command()))
    assert len(sections) == len(commands)
    for section, words in zip(sections, commands, strict=True):
        assert section.startswith(" ".join(words))
        assert section.splitlines()[2], words
        assert "|  |" not in section.replace("|  | meaning |", ""), words


def test_operation_page_lists_the_metrics_that_there_are_with_their_labels() -> None:
    rows = re.findall(r"^\| `(sourcebook_\w+)`[^|]*\| ([a-z, ]+) \|", (DOCS / "operate.md").read_text(), re.MULTILINE)
    kept = {
        f"{metric.describe()[0].name}{'_total' * (metric in COUNTERS)}": list(metric._labelnames) for metric in KEPT
    }
    looked_up = {name: labels for name, (_, labels) in LOOKED_UP.items()}
    assert {name: labels.split(", ") if labels != "none" else [] for name, labels in rows} == kept | looked_up


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("section", [Manifest, DumperManifest, UploaderManifest], ids=lambda section: section.__name__)
def test_plugin_page_names_every_manifest_key(section: type[BaseModel]) -> None:
    text = (DOCS / "write-a-plugin.md").read_text()
    keys = [field.alias or name for name, field in section.model_fields.items()]
    assert [key for key in keys if f"| `{key}` |" not in text] == []
