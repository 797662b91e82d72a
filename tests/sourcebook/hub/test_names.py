"""Names that are safe everywhere, and inverse functions that are inverse."""

import pytest

from sourcebook.errors import InvalidName
from sourcebook.hub.names import (
    build_changes_key,
    build_collection_name,
    build_part_collection_name,
    build_upload_name,
    build_version_folder_name,
    check_name,
    parse_changes_key,
    parse_collection_name,
    parse_upload_name,
)


@pytest.mark.parametrize("name", ["hgnc", "ncbi_gene", "a.b-c", "0", "x" * 100])
def test_a_plain_name_is_accepted(name: str) -> None:
    assert check_name("source", name) == name


@pytest.mark.parametrize(
    "name", ["", "../x", ".hidden", "a/b", "a b", "a~b", "%2e%2e", "ü", "x" * 101, "a\n", "-rf", "a\0"]
)
def test_a_name_that_could_escape_is_refused(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_name("source", name)
    assert caught.value.details == {"kind": "source", "name": name}


def test_names_are_built_and_parsed_inversely() -> None:
    assert parse_collection_name(build_collection_name("upload", "hgnc.genes", "1a.2")) == (
        "upload",
        "hgnc.genes",
        "1a.2",
    )
    assert parse_collection_name(build_part_collection_name("1a.2.p10-ff")) == ("part", "1a.2", "p10-ff")
    assert parse_upload_name(build_upload_name("hgnc", "genes")) == ("hgnc", "genes")
    assert parse_upload_name("hgnc") == ("hgnc", "hgnc")
    for ignore_list_order in (False, True):
        key = build_changes_key("genes_2", "genes_1", ignore_list_order=ignore_list_order)
        assert parse_changes_key(key) == ("genes_2", "genes_1")
    with pytest.raises(InvalidName):
        parse_collection_name("something else")


@pytest.mark.parametrize(
    ("release", "copy", "folder"),
    [
        ("2024-01-02", 1, "2024-01-02"),
        ("../../etc", 1, "_.._etc"),
        ("v 1/2", 3, "v_1_2~3"),
        ("...", 1, "_"),
        ("", 1, "_"),
    ],
)
def test_the_folder_of_a_release_stays_in_its_folder(release: str, copy: int, folder: str) -> None:
    assert build_version_folder_name(release, copy) == folder
