"""The gene example gives what its README says."""

import runpy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sourcebook.hub.builds.model import BuildConfig
from sourcebook.sdk.manifest import load_manifest

GENES = Path(__file__).resolve().parents[2] / "examples" / "genes"
SOURCES = ("hgnc", "ncbi_gene", "cpic")


@cache
def parse(source: str) -> list[dict[str, Any]]:
    return list(runpy.run_path(str(GENES / source / "parser.py"))["load_data"](str(GENES / source)))


def documents_by_id(source: str) -> dict[str, dict[str, Any]]:
    return {document["_id"]: document for document in parse(source)}


@pytest.mark.parametrize("source", SOURCES)
def test_manifest_is_valid_without_warnings(source: str) -> None:
    loaded = load_manifest(GENES / source)
    assert loaded.warnings == []
    assert {"license", "license_url", "url", "author"} <= set(loaded.manifest.metadata)


@pytest.mark.parametrize("source", SOURCES)
def test_data_file_stands_beside_its_manifest(source: str) -> None:
    urls = load_manifest(GENES / source).manifest.dumper.data_url
    assert [url for url in urls if not (GENES / source / url).is_file()] == []


@pytest.mark.parametrize("source", SOURCES)
def test_release_is_a_function_of_the_data(source: str) -> None:
    assert runpy.run_path(str(GENES / source / "parser.py"))["release"](None)


@pytest.mark.parametrize(
    ("source", "documents", "ids"), [("hgnc", 44997, 44997), ("ncbi_gene", 77614, 77510), ("cpic", 119, 119)]
)
def test_parser_gives_all_documents(source: str, documents: int, ids: int) -> None:
    assert (len(parse(source)), len(documents_by_id(source))) == (documents, ids)


def test_only_ncbi_repeats_symbols_and_it_declares_what_to_do() -> None:
    declared = {source: load_manifest(GENES / source).manifest.uploader_list[0].on_duplicates for source in SOURCES}
    assert declared == {"hgnc": "error", "ncbi_gene": "merge", "cpic": "error"}


def test_cpic_names_one_gene_that_hgnc_does_not() -> None:
    assert set(documents_by_id("cpic")) - set(documents_by_id("hgnc")) == {"GBA"}


def test_cyp2d6_has_all_its_pairs() -> None:
    assert len(documents_by_id("cpic")["CYP2D6"]["cpic"]["pairs"]) == 75


def test_the_earlier_release_of_cpic_has_fewer_columns_and_pairs(tmp_path: Path) -> None:
    (tmp_path / "cpic_pairs_2023.csv").write_bytes((GENES / "cpic" / "cpic_pairs_2023.csv").read_bytes())
    module = runpy.run_path(str(GENES / "cpic" / "parser.py"))
    earlier = {document["_id"]: document["cpic"]["pairs"] for document in module["load_data"](str(tmp_path))}
    now = documents_by_id("cpic")
    assert (earlier.keys(), len(earlier["CYP2D6"])) == (now.keys(), 73)
    fields = [
        {key for pairs in found for pair in pairs for key in pair}
        for found in (earlier.values(), (document["cpic"]["pairs"] for document in now.values()))
    ]
    assert fields[1] - fields[0] == {"rxnorm", "atc"}
    assert fields[0] <= fields[1]
    urls = {"cpic_pairs_2023.csv": "pypgx-0.20.0", "cpic_pairs.csv": "pypgx-0.27.0"}
    for name, version in urls.items():
        assert module["release"](SimpleNamespace(data_urls=[f"file:///x/{name}"])) == version


def test_a_field_has_one_type_in_every_document() -> None:
    types: dict[str, set[type]] = {}
    for source in SOURCES:
        for document in parse(source):
            collect_types(document, "", types)
    assert {path: kinds for path, kinds in types.items() if len(kinds) > 1} == {}


def collect_types(value: object, path: str, types: dict[str, set[type]]) -> None:
    types.setdefault(path, set()).add(type(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            collect_types(inner, f"{path}.{key}", types)
    elif isinstance(value, list):
        for inner in value:
            collect_types(inner, f"{path}[]", types)


def test_build_configuration_is_valid() -> None:
    config = BuildConfig.model_validate_json((GENES / "build.json").read_text())
    assert (config.sources, config.root) == (list(SOURCES), ["hgnc"])
