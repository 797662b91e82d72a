"""Names of downloaded files."""

import pytest

from sourcebook_dumper.download import choose_file_names


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/x/a.tsv?version=1#top", "a.tsv"),
        ("https://host/a%20b.tsv", "a b.tsv"),
        ("https://host/..%2f..%2fetc%2fpasswd", "_.._etc_passwd"),
        ("https://host/..%5cx", "_x"),
        ("https://host/.bashrc", "bashrc"),
        ("https://host/%00%0a", "__"),
        ("https://host/folder/", "folder"),
        ("https://host/", "download"),
        ("https://host", "download"),
        ("https://host/..", "download"),
        ("sub/a.tsv", "a.tsv"),
        ("https://host/" + "x" * 300 + ".tsv", "x" * 196 + ".tsv"),
    ],
)
def test_a_name_is_the_last_part_of_the_url_made_safe(url: str, name: str) -> None:
    assert list(choose_file_names([url])) == [name]


def test_equal_names_are_numbered_before_their_endings() -> None:
    urls = ["https://a/x.tsv.gz", "https://b/X.tsv.gz", "https://c/x-2.tsv.gz", "https://d/x", "https://e/x"]
    assert list(choose_file_names(urls)) == ["x.tsv.gz", "X-2.tsv.gz", "x-2-2.tsv.gz", "x", "x-2"]
