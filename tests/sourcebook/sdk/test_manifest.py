"""Manifests: what is accepted, and what an author is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from sourcebook.errors import ManifestError
from sourcebook.sdk.manifest import LoadedManifest, load_manifest

DUMPER = {"data_url": "https://example.org/a.tsv"}
UPLOADER = {"parser": "parser:load_data"}


def load(folder: Path, manifest: Any, name: str = "manifest.json") -> LoadedManifest:
    plugin = folder / "hgnc"
    plugin.mkdir(exist_ok=True)
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (plugin / name).write_text(text)
    return load_manifest(plugin)


def refuse(folder: Path, manifest: Any, name: str = "manifest.json") -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        load(folder, manifest, name)
    assert str(folder) in caught.value.message
    return caught.value


def test_a_whole_biothings_manifest_is_read_without_a_warning(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        {
            "version": "0.2",
            "display_name": "Genes",
            "biothing_type": "gene",
            "requires": ["pandas", "requests"],
            "__metadata__": {
                "url": "https://x",
                "license_url": "https://y",
                "licence": "CC0",
                "author": {"name": "me"},
            },
            "dumper": {
                "data_url": ["https://x/a.zip", "https://x/b.gz"],
                "uncompress": True,
                "release": "version:get_release",
                "schedule": "0 9 * * *",
                "disabled": False,
            },
            "uploader": {
                "parser": "parser : load_data",
                "parser_kwargs": {"limit": 3},
                "on_duplicates": "merge",
                "mapping": "mapping:get_customized_mapping",
                "parallelizer": "parallelizer:jobs",
                "keylookup": {"input_types": [["entrez", "a.b"]], "skip_on_failure": True},
            },
        },
    )
    manifest = loaded.manifest
    assert loaded.warnings == []
    assert loaded.path.name == "manifest.json"
    assert (manifest.name, manifest.display_name, manifest.biothing_type) == ("hgnc", "Genes", "gene")
    assert manifest.metadata == {
        "url": "https://x",
        "license_url": "https://y",
        "license": "CC0",
        "author": {"name": "me"},
    }
    assert manifest.requires == ["pandas", "requests"]
    assert manifest.dumper.data_url == ["https://x/a.zip", "https://x/b.gz"]
    assert manifest.dumper.release == "version:get_release"
    (uploader,) = manifest.uploader_list
    assert (uploader.name, uploader.parser, uploader.parser_kwargs) == ("hgnc", "parser:load_data", {"limit": 3})
    assert (uploader.on_duplicates, uploader.nan, uploader.merger) == ("merge", "error", "overwrite")


def test_one_url_and_one_requirement_may_stand_without_a_list(tmp_path: Path) -> None:
    manifest = load(tmp_path, {"dumper": DUMPER, "requires": "pandas"}).manifest
    assert (manifest.dumper.data_url, manifest.requires) == (["https://example.org/a.tsv"], ["pandas"])


def test_a_plugin_without_uploader_only_downloads(tmp_path: Path) -> None:
    assert load(tmp_path, {"dumper": DUMPER, "uploader": None}).manifest.uploader_list == []


def test_several_uploaders_keep_their_names(tmp_path: Path) -> None:
    uploaders = [{**UPLOADER, "name": "a", "nan": "drop"}, {**UPLOADER, "name": "b", "merger": "deep"}]
    listed = load(tmp_path, {"dumper": DUMPER, "uploaders": uploaders}).manifest.uploader_list
    assert [(item.name, item.nan, item.merger) for item in listed] == [
        ("a", "drop", "overwrite"),
        ("b", "error", "deep"),
    ]


@pytest.mark.parametrize("name", ["manifest.yaml", "manifest.yml"])
def test_yaml_is_read_too(tmp_path: Path, name: str) -> None:
    text = "version: 2024-01-02\n__metadata__: {from: 2024-01-02, 1: one}\ndumper:\n  data_url: a.tsv # mine\n"
    manifest = load(tmp_path, text, name).manifest
    assert manifest.dumper.data_url == ["a.tsv"]
    assert json.loads(json.dumps(manifest.metadata)) == {"from": "2024-01-02", "1": "one"}


def test_json_wins_over_yaml(tmp_path: Path) -> None:
    load(tmp_path, "dumper: {data_url: b.tsv}", "manifest.yaml")
    assert load(tmp_path, {"dumper": {"data_url": "a.tsv"}}).manifest.dumper.data_url == ["a.tsv"]


@pytest.mark.parametrize(
    "url",
    [
        "http://h/a",
        "https://h/a",
        "ftp://h/a",
        "file:///a",
        "s3://b/a",
        "git+https://h/a",
        "HTTPS://h/a",
        "a.tsv",
        "data/a b.tsv",
    ],
)
def test_known_schemes_and_plugin_files_are_urls(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, {"dumper": {"data_url": url}}).manifest.dumper.data_url == [url]


@pytest.mark.parametrize(
    ("manifest", "warning"),
    [
        ({"dumper": DUMPER, "meta": 1}, "unknown key 'meta' is ignored"),
        (
            {"dumper": {**DUMPER, "uncompres": True}},
            "unknown key 'dumper.uncompres' is ignored; did you mean 'uncompress'?",
        ),
        (
            {"dumper": DUMPER, "uploader": {**UPLOADER, "on_duplicate": "x"}},
            "unknown key 'uploader.on_duplicate' is ignored; did you mean 'on_duplicates'?",
        ),
        (
            {"dumper": DUMPER, "uploaders": [{**UPLOADER, "name": "a"}, {**UPLOADER, "name": "b", "parsr": 1}]},
            "unknown key 'uploaders[1].parsr' is ignored; did you mean 'parser'?",
        ),
        ({"dumper": DUMPER, "name": "x"}, "unknown key 'name' is ignored"),
    ],
)
def test_unknown_keys_are_warned_of_with_the_nearest_known_one(tmp_path: Path, manifest: Any, warning: str) -> None:
    (told,) = load(tmp_path, manifest).warnings
    assert told.endswith(warning)
    assert "manifest.json" in told


@pytest.mark.parametrize(
    ("manifest", "key", "message"),
    [
        ({}, "dumper", "dumper: is missing"),
        ({"dumpr": DUMPER}, "dumpr", "dumpr: is an unknown key; did you mean 'dumper'?"),
        ({"dumper": []}, "dumper", "dumper = []: must be an object"),
        ({"dumper": {}}, "dumper.data_url", "dumper.data_url: is missing"),
        (
            {"dumper": {"data_ulr": "x"}},
            "dumper.data_ulr",
            "dumper.data_ulr: is an unknown key; did you mean 'data_url'?",
        ),
        ({"dumper": {"data_url": []}}, "dumper.data_url", "dumper.data_url = []: must not be empty"),
        ({"dumper": {"data_url": 5}}, "dumper.data_url", "dumper.data_url = 5: must be a list"),
        ({"dumper": {"data_url": ["a", 5]}}, "dumper.data_url[1]", "dumper.data_url[1] = 5: must be a string"),
        ({"dumper": {"data_url": " "}}, "dumper.data_url[0]", "must be a URL or a file of the plugin"),
        (
            {"dumper": {"data_url": "htps://h/a"}},
            "dumper.data_url[0]",
            "scheme 'htps'; allowed are http, https, ftp, file",
        ),
        ({"dumper": {"data_url": "htps://h/a"}}, "dumper.data_url[0]", "did you mean 'https'?"),
        ({"dumper": {"data_url": "docker://x"}}, "dumper.data_url[0]", "scheme 'docker'"),
        ({"dumper": {"data_url": "https:///a"}}, "dumper.data_url[0]", "names no host"),
        ({"dumper": {"data_url": "https://[x/a"}}, "dumper.data_url[0]", "Invalid IPv6 URL"),
        ({"dumper": {"data_url": "/etc/passwd"}}, "dumper.data_url[0]", "write file:///etc/passwd"),
        ({"dumper": {**DUMPER, "uncompress": "perhaps"}}, "dumper.uncompress", "'perhaps': must be true or false"),
        ({"dumper": {**DUMPER, "release": "version.get"}}, "dumper.release", "did you mean 'version:get'?"),
        ({"dumper": {**DUMPER, "release": "a:b:c"}}, "dumper.release", "must be 'module:function'"),
        ({"dumper": DUMPER, "uploader": {}}, "uploader.parser", "uploader.parser: is missing"),
        (
            {"dumper": DUMPER, "uploader": {"paser": "a:b"}},
            "uploader.paser",
            "is an unknown key; did you mean 'parser'?",
        ),
        ({"dumper": DUMPER, "uploader": []}, "uploader", "must be an object"),
        (
            {"dumper": DUMPER, "uploader": UPLOADER, "uploaders": []},
            "uploaders",
            "cannot be used together with 'uploader'",
        ),
        ({"dumper": DUMPER, "uploaders": []}, "uploaders", "at least one uploader"),
        ({"dumper": DUMPER, "uploaders": {}}, "uploaders", "must be a list"),
        ({"dumper": DUMPER, "uploaders": [UPLOADER]}, "uploaders[0].name", "uploaders[0].name: is missing"),
        (
            {"dumper": DUMPER, "uploaders": [{**UPLOADER, "name": "a"}, {**UPLOADER, "name": "a"}]},
            "uploaders[1].name",
            "'a' is there already",
        ),
        (
            {"dumper": DUMPER, "uploaders": [{**UPLOADER, "name": "a", "on_duplicates": "ignor"}]},
            "uploaders[0].on_duplicates",
            "uploaders[0].on_duplicates = 'ignor': must be 'error', 'ignore' or 'merge'; did you mean 'ignore'?",
        ),
        ({"dumper": DUMPER, "uploader": {**UPLOADER, "nan": "keep"}}, "uploader.nan", "must be 'error' or 'drop'"),
        ({"dumper": DUMPER, "uploader": {**UPLOADER, "merger": 1}}, "uploader.merger", "must be 'overwrite' or 'deep'"),
        ({"dumper": DUMPER, "__metadata__": "x"}, "__metadata__", "__metadata__ = 'x': must be an object"),
        ({"dumper": DUMPER, "requires": 5}, "requires", "must be a list"),
        ({"dumper": {**DUMPER, "class": "m:C"}}, "dumper.class", "not supported yet"),
        ({"dumper": DUMPER, "uploader": {"class": "m:C"}}, "uploader.class", "not supported yet"),
        ({"dumper": DUMPER, "uploaders": [{"class": "m:C", "name": "a"}]}, "uploaders[0].class", "not supported yet"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(tmp_path: Path, manifest: Any, key: str, message: str) -> None:
    error = refuse(tmp_path, manifest)
    assert message in error.message
    assert error.details["key"] == key
    assert error.details["file"].endswith("manifest.json")


def test_all_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    error = refuse(tmp_path, {"dumper": {**DUMPER, "uncompress": 5}, "uploader": {**UPLOADER, "nan": 5}})
    assert len(error.details["problems"]) == 2


def test_passwords_in_urls_are_not_told(tmp_path: Path) -> None:
    assert "secret" not in refuse(tmp_path, {"dumper": {"data_url": "htp://me:secret@h/a"}}).message


@pytest.mark.parametrize("name", ["../x", "a b", ""])
def test_a_wrong_uploader_name_is_refused(tmp_path: Path, name: str) -> None:
    refuse(tmp_path, {"dumper": DUMPER, "uploaders": [{**UPLOADER, "name": name}]})


def test_a_folder_whose_name_cannot_name_a_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "manifest.json").write_text(json.dumps({"dumper": DUMPER}))
    with pytest.raises(ManifestError, match="'a b' cannot name a source"):
        load_manifest(tmp_path / "a b")


@pytest.mark.parametrize(
    ("name", "text", "line", "column", "problem"),
    [
        ("manifest.json", '{\n  "dumper": {,}\n}', 2, 14, "property name"),
        ("manifest.json", "", 1, 1, "Expecting value"),
        ("manifest.yaml", "dumper:\n  data_url: [a\n", 3, 1, "expected ',' or ']'"),
        ("manifest.yaml", "a: b: c", 1, 5, "mapping values are not allowed"),
        ("manifest.yaml", "a: !!python/object:os.system x", 1, 4, "could not determine a constructor"),
    ],
)
def test_broken_text_is_told_with_line_and_column(  # noqa: PLR0917
    tmp_path: Path, name: str, text: str, line: int, column: int, problem: str
) -> None:
    error = refuse(tmp_path, text, name)
    assert f"line {line}, column {column}: " in error.message
    assert problem in error.message
    assert (error.details["line"], error.details["column"]) == (line, column)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("manifest.json", "[1]", "must hold an object"),
        ("manifest.yaml", "", "must hold an object"),
        ("manifest.json", "[" * 100_000, "nested too deeply"),
        ("manifest.yaml", "a: &a [*a]", "nested too deeply"),
        ("manifest.yaml", "a: &a [" + "1," * 999 + "]\nb: [" + "*a," * 200 + "]", "aliases count"),
        ("manifest.yaml", "a: !!binary aGk=", "type bytes"),
        ("manifest.yaml", "a: 2024-02-31", "day is out of range"),
        ("manifest.yaml", "a: \x01", "not allowed"),
        ("manifest.json", " " * 1_100_000, "larger than"),
    ],
    ids=["list", "empty", "deep", "endless", "bomb", "binary", "date", "control", "large"],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    assert message in refuse(tmp_path, text, name).message


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hgnc").mkdir()
    (tmp_path / "hgnc" / "manifest.json").write_bytes(b'{"a": "\xe4"}')
    with pytest.raises(ManifestError, match=r"not UTF-8 \(byte 7\)"):
        load_manifest(tmp_path / "hgnc")


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"put one of manifest\.json"):
        load_manifest(tmp_path)


def test_an_edit_takes_effect_at_once(tmp_path: Path) -> None:
    load(tmp_path, {"dumper": {"data_url": "a"}})
    assert load(tmp_path, {"dumper": {"data_url": "b"}}).manifest.dumper.data_url == ["b"]
