"""`config`, and `build` without a file."""

import json
from pathlib import Path

import pytest
import yaml

from .conftest import Sourcebook

WRONG = {
    "unknown key": ({"sorces": ["fruit"]}, "unknown key 'sorces'; did you mean 'sources'?"),
    "unknown key inside": ({"keep": {"build": 1}}, "keep: unknown key 'build'; did you mean 'builds'?"),
    "unlike any": ({"index": {"zzz": 1}}, "index: unknown key 'zzz'; known are shards, replicas, extra"),
    "schedule": ({"schedule": "daily"}, "fruits.yaml: schedule: is no"),
    "value": ({"builder": "marge"}, "builder: Input should be 'merge' or 'link'"),
    "missing": ({"doc_type": ...}, "doc_type is missing"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_configuration_is_told_with_the_nearest_key(
    sourcebook: Sourcebook, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    values: dict[str, object] = {"name": "fruits", "doc_type": "fruit", "sources": ["fruit"], **change}
    path = tmp_path / "fruits.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not ...}))
    for command in (("build",), ("config", "edit", "fruits", "--file")):
        ended = sourcebook(*command, str(path))
        assert (ended.status, message in ended.err, ended.out) == (2, True, ""), ended


@pytest.mark.usefixtures("no_broker")
def test_a_build_needs_no_file(served: Sourcebook) -> None:
    ended = served("build", "fruits", "--sources", "fruit", "--no-wait")
    assert (ended.status, "give both --sources" in ended.err, "--doc-type, such as gene" in ended.err) == (
        2,
        True,
        True,
    )
    assert served("build", "fruits", "--sources", "fruit, f*", "--doc-type", "fruit", "--no-wait").status == 0
    config = served("config", "show", "fruits", "--json").json
    assert (config["sources"], config["doc_type"], config["builder"]) == (["fruit", "f*"], "fruit", "merge")
    assert served("build", "nope", "--sources", "veg", "--doc-type", "x").status == 3
    both = served("build", "fruits.yaml", "--sources", "fruit")
    assert (both.status, "leave --sources and --doc-type out" in both.err) == (2, True)


@pytest.mark.usefixtures("no_broker")
def test_a_build_with_nothing_new_says_so(served: Sourcebook) -> None:
    name = served("status", "--json").json["builds"][0]["name"]
    assert f"Nothing is new for 'fruit' since build {name}." in served("build", "fruit", "--no-wait").err


def test_configurations_are_listed_shown_and_edited(
    served: Sourcebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served("config", "list").out.splitlines()[1].split() == ["fruit", "document", "fruit", "off"]
    shown = served("config", "show", "fruit").out
    assert yaml.safe_load(shown) == {"name": "fruit", "doc_type": "document", "sources": ["fruit"], "builder": "link"}
    path = tmp_path / "fruit.json"
    path.write_text(json.dumps({**yaml.safe_load(shown), "schedule": "0 4 * * 1"}))
    assert "its next build uses it" in served("config", "edit", "fruit", "--file", str(path)).out
    assert served("config", "show", "fruit", "--json").json["schedule"] == "0 4 * * 1"
    other = served("config", "edit", "other", "--file", str(path))
    assert (other.status, "The name is 'fruit' there" in other.err) == (2, True)
    monkeypatch.setenv("EDITOR", "sed -i s/document/berry/")
    assert served("config", "edit", "fruit").status == 0
    assert served("config", "show", "fruit", "--json").json["doc_type"] == "berry"
    monkeypatch.setenv("EDITOR", "sed -i s/berry/query/")
    refused = served("config", "edit", "fruit")
    assert (refused.status, "The configuration is as it was. Your text is in" in refused.err) == (2, True)
    assert served("config", "show", "nope").status == 3
