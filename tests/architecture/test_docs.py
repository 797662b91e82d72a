"""What the code lists is what the documentation lists."""

import ast
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
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / "services").glob("*/*.md"),
        *(ROOT / "examples").rglob("*.md"),
    )
    if not path.is_symlink()
)
MODULES = sorted(
    path
    for top in ("shared", "services", "tests", "bench")
    for path in (ROOT / top).rglob("*.py")
    if path != Path(__file__)
)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]*)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PAGE_NAME = re.compile(r"(?<![\w*/.-])(?:\.\./)*[\w-]+(?:/[\w.-]+)*\.md\b")
SECTIONS = re.compile(r"\bsections? (\d+(?:(?:, | and | to )\d+)*)(?![\d.])")
CITED = re.compile(rf"({PAGE_NAME.pattern}), {SECTIONS.pattern}")
EXAMPLE = "fruit/"  # the plugin that readers write
FILE_NAME = re.compile(r"`([a-z_]+(?:/[a-z_]+)+\.py)`")


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


@pytest.mark.parametrize("page", sorted(GENERATOR.BLOCKS))
def test_generated_blocks_are_up_to_date(page: str) -> None:
    text = (DOCS / page).read_text()
    assert text == GENERATOR.fill_blocks(text, GENERATOR.BLOCKS[page]), "run: python docs/generate.py"


def test_a_page_without_the_marks_of_its_block_is_refused() -> None:
    with pytest.raises(ValueError, match="marks of 'b' are missing"):
        GENERATOR.fill_blocks("<!-- end of b -->", {"b": str})


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
        f"{next(iter(metric.describe())).name}{'_total' * (metric in COUNTERS)}": list(metric._labelnames)
        for metric in KEPT
    }
    looked_up = {name: labels for name, (_, labels) in LOOKED_UP.items()}
    assert {name: labels.split(", ") if labels != "none" else [] for name, labels in rows} == kept | looked_up


def make_anchors(page: Path) -> set[str]:
    titles = [title.lower() for title in HEADING.findall(CODE_BLOCK.sub("", page.read_text()))]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    found = page.parent / name if name else page
    return found.exists() and (not anchor or anchor in make_anchors(found))


def name_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_relative_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not leads_somewhere(page, target)] == []


def read_prose(module: Path) -> str:
    """Return the docstrings and comments of a module, and what else in it names a page of docs/; each paragraph is one line."""
    source = module.read_text()
    texts = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    prose = [
        node.value for node in texts if isinstance(node.value, str) and (" " in node.value or "docs/" in node.value)
    ]
    comments = re.findall(r"^ *# ?(.*(?:\n *#.*)*)", source, re.MULTILINE)
    return "\n".join(re.sub(r"\s*\n[ #]*", " ", text) for text in (*prose, *comments))


def find_bad_citations(text: str) -> list[str]:
    bad = [name for name in PAGE_NAME.findall(text) if not (ROOT / name).exists() and not name.startswith("..")]
    cited = [(page, numbers) for page, numbers in CITED.findall(text) if (ROOT / page).exists()]
    for page, numbers in cited:
        known = {title.partition(".")[0] for title in HEADING.findall((ROOT / page).read_text())}
        bad += [f"{page}, section {number}" for number in re.findall(r"\d+", numbers) if number not in known]
    return bad + [f"section {number} of what?" for number in SECTIONS.findall(CITED.sub("", text))]


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("as it is (docs/contracts/query-api.md, sections 2 to 4)", []),
        ("as it is (docs/contracts/query-api.md, section 9)", ["docs/contracts/query-api.md, section 9"]),
        ("as it is (web-api.md)", ["web-api.md"]),
        ("as it is (section 3)", ["section 3 of what?"]),
        ("RFC 3986, section 3.2.1", []),
    ],
)
def test_a_citation_names_a_page_and_a_section_of_it(text: str, bad: list[str]) -> None:
    assert find_bad_citations(text) == bad


def test_what_the_code_cites_is_in_the_repository() -> None:
    bad = {str(path.relative_to(ROOT)): found for path in MODULES if (found := find_bad_citations(read_prose(path)))}
    assert bad == {}


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    known = [f"/{path.relative_to(ROOT)}" for path in MODULES]
    named = [name for name in FILE_NAME.findall(page.read_text()) if not name.startswith(EXAMPLE)]
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in known)] == []


@pytest.mark.parametrize("section", [Manifest, DumperManifest, UploaderManifest], ids=lambda section: section.__name__)
def test_plugin_page_names_every_manifest_key(section: type[BaseModel]) -> None:
    text = (DOCS / "write-a-plugin.md").read_text()
    keys = [field.alias or name for name, field in section.model_fields.items()]
    assert [key for key in keys if f"| `{key}` |" not in text] == []


def test_the_index_leads_to_every_page_in_order() -> None:
    lines = [line for line in (DOCS / "README.md").read_text().splitlines() if re.match(r"\d+\. ", line)]
    linked = {(DOCS / target).resolve() for target in LINK.findall("\n".join(lines))}
    assert [int(line.partition(".")[0]) for line in lines] == list(range(1, len(lines) + 1))
    pages = {*DOCS.glob("*.md"), *(DOCS / "contracts").glob("*.md")} - {DOCS / "README.md"}
    assert [name_page(page) for page in sorted(pages - linked)] == []


def read_decisions() -> dict[int, tuple[str, str]]:
    """Return the title and the third line of each decision, by number."""
    found = {}
    for page in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        lines = page.read_text().splitlines()
        number, _, title = lines[0].removeprefix("# ").partition(". ")
        assert page.name.startswith(f"{int(number):04}-"), f"{page.name} calls itself {number}"
        found[int(number)] = title, lines[2]
    return found


def test_every_decision_has_a_date_and_a_status() -> None:
    form = r"Date: \d{4}-\d\d-\d\d(, written down on \d{4}-\d\d-\d\d)?\. Status: (accepted|replaced by \[decision \d+\]\(.+\))\."
    decisions = read_decisions()
    assert {number: line for number, (_, line) in decisions.items() if not re.fullmatch(form, line)} == {}, (
        "write as the third line: Date: 2026-11-29. Status: accepted."
    )


def test_no_two_decisions_share_a_number() -> None:
    assert len(read_decisions()) == len(list((DOCS / "decisions").glob("[0-9]*.md")))


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = read_decisions().keys()
    assert set(range(1, max(numbers) + 1)) == numbers
