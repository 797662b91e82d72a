"""Addresses that releases are published to and installed from."""

import pytest

from sourcebook.hub.publishing.remotes import check_address, make_remote


@pytest.mark.parametrize(
    "url", ["file:///srv/out", "s3://bucket/x", "https://host/x", "memory://x", "ftp://u:p@host/x", "sftp://host/x"]
)
def test_an_address_is_kept_without_its_last_slash(url: str) -> None:
    assert check_address(f" {url}/ ") == url
    assert make_remote(url).id == make_remote(f"{url}/").id


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must be an address"),
        ("out/folder", "file:///folder"),
        ("github://x:y/z", "allowed are"),
        ("simplecache::https://x/y", "must be an address"),
        ("https:///x", "names no host"),
        ("https://x/y?token=z", "of a folder"),
        ("https://x/\ny", "line breaks"),
    ],
)
def test_other_texts_are_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_address(url)


def test_web_servers_are_read_only() -> None:
    with pytest.raises(ValueError, match="allowed are file, memory, s3"):
        check_address("https://host/x", to_write=True)
