"""`plugin check`: everything that a manifest names is tried, and nothing is registered."""

import json
from pathlib import Path

import pytest

from .conftest import PARSER, Sourcebook

ENDLESS = """
import itertools

def load_data(folder):
    return ({"_id": str(number)} for number in itertools.count())
"""
CHECKED = {
    "fine": (PARSER, 0, "fruit: 3 documents parsed; the first:", ""),
    "prints": (f"print('hello')\n{PARSER}", 0, "3 documents parsed", "The plugin printed:\nhello"),
    "no function": (PARSER.replace("load_data", "load"), 6, "", "no function 'load_data'; did you mean 'load'?"),
    "no module": (f"import nothing_of_that_name\n{PARSER}", 6, "", "No module named 'nothing_of_that_name'"),
    "signature": (PARSER.replace("(folder)", "()"), 6, "", "load_data() (parser.py, line 5) must take one argument"),
    "syntax": ("def load_data(folder)", 6, "", "SyntaxError: expected ':'"),
    "raises": (PARSER + "    raise KeyError('gene')\n", 6, "", "raised KeyError: 'gene' (after 3 documents)"),
    "document": ("def load_data(folder):\n    yield {'id': 'x'}\n", 6, "", "Document 1 has no _id; its keys are 'id'"),
    "duplicate": (
        "def load_data(folder):\n    yield from [{'_id': 'x'}] * 2\n",
        6,
        "",
        "'x' more than once (documents 1, 2)",
    ),
    "nothing": ("def load_data(folder):\n    return []\n", 6, "", "yielded no documents"),
    "endless": (ENDLESS, 0, "1,000 documents", ""),
    "exits": ("raise SystemExit(3)", 6, "", "raised SystemExit: 3"),
}


@pytest.mark.parametrize("case", CHECKED.values(), ids=CHECKED)
def test_plugin_check_tries_what_a_manifest_names(
    sourcebook: Sourcebook, plugin: Path, case: tuple[str, int, str, str]
) -> None:
    code, status, told, said = case
    (plugin / "parser.py").write_text(code)
    checked = sourcebook("plugin", "check", str(plugin))
    assert (checked.status, told in checked.out, said in checked.err) == (status, True, True), checked
    assert "sourcebook/sdk" not in checked.err
    assert sourcebook("plugin", "list", "--json").json == []


def test_plugin_check_names_the_parser_that_ended_its_process(sourcebook: Sourcebook, plugin: Path) -> None:
    (plugin / "parser.py").write_text("import os\n\n\ndef load_data(folder):\n    os._exit(3)\n")
    checked = sourcebook("plugin", "check", str(plugin))
    assert checked.status == 6
    assert "'parser:load_data' of plugin 'fruit' ended its process (exit code 3)" in checked.err


def test_plugin_check_takes_the_data_that_are_there(sourcebook: Sourcebook, plugin: Path) -> None:
    uploader = {"parser": "parser:load_data"}
    manifest = {"dumper": {"data_url": "https://example.org/data.ndjson"}, "uploader": uploader}
    (plugin / "manifest.json").write_text(json.dumps(manifest))
    assert "There are no data to try the parser on" in sourcebook("plugin", "check", str(plugin)).out
    found = sourcebook("plugin", "check", str(plugin), "--data", str(plugin), "--limit", "2", "--json").json
    assert (found["samples"][0]["documents"], found["problems"]) == (2, [])
    assert found["samples"][0]["examples"][0] == {"_id": "apple", "grams": 180}
    uploader["parallelizer"] = "parser:jobs"
    (plugin / "manifest.json").write_text(json.dumps(manifest))
    (plugin / "parser.py").write_text(f"{PARSER}\ndef jobs(uploader):\n    return [(uploader.data_folder,)]\n")
    assert sourcebook("plugin", "check", str(plugin), "--data", str(plugin)).status == 0
    (plugin / "parser.py").write_text(f"{PARSER}\ndef jobs(uploader):\n    return []\n")
    assert sourcebook("plugin", "check", str(plugin), "--data", str(plugin)).status == 6


def test_run_shows_what_the_parser_prints(sourcebook: Sourcebook, plugin: Path) -> None:
    (plugin / "parser.py").write_text(PARSER + "        print('so far so \\x1b[31mgood')\n    yield {'_id': 'fig '}\n")
    ended = sourcebook("run", str(plugin), "--no-serve")
    assert "upload fruit/fruit printed:\nso far so \ufffd[31mgood\n" in ended.err
    assert ended.err.count("'fig ' begins or ends with white space") == 1
    assert "'fig ' begins or ends with white space" in sourcebook("plugin", "check", str(plugin)).err
