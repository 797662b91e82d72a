"""Repositories by git."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sourcebook.errors import DownloadInterrupted, DownloadRefused, ManifestError
from sourcebook_dumper.fetchers import git
from sourcebook_dumper.fetchers.git import GitFetcher, Repository, parse_git_url
from sourcebook_dumper.fetchers.partial import PartialFile
from sourcebook_dumper.progress import Count

if TYPE_CHECKING:
    from support.downloads import DumpBench, Site

URL = "git+https://localhost/me/data.git"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Upstream:
    """A repository of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), "-c", "protocol.file.allow=always", *arguments]
        return subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    made = Upstream(tmp_path / "upstream")
    real = parse_git_url

    def find_on_disk(url: str) -> Repository:
        found = real(url)
        return Repository(f"file://{made.folder}", found.ref, found.login)

    monkeypatch.setattr(git, "parse_git_url", find_on_disk)
    monkeypatch.setattr(
        "sourcebook_dumper.fetchers.GitFetcher", lambda timeout, size, **_: GitFetcher(timeout, size, protocols="file")
    )
    return made


def test_a_repository_is_unpacked_without_its_history(bench: DumpBench, upstream: Upstream) -> None:
    upstream.commit(old="1")
    (upstream.folder / "old").unlink()
    commit = upstream.commit(data="genes", inner__more="x" * 1000)
    bench.write(URL)
    assert bench.dump().version == commit[:12]
    content = bench.content()
    assert content.pop("data.tar").startswith(b"")
    assert content == {"data": b"genes", "inner/more": b"x" * 1000}
    assert bench.dump().unchanged
    newer = upstream.commit(data="new")
    assert bench.dump().version == newer[:12]
    assert bench.content()["data"] == b"new"


@pytest.mark.parametrize("mark", ["@", "#"])
def test_a_branch_a_tag_or_a_commit_can_be_named(bench: DumpBench, upstream: Upstream, mark: str) -> None:
    first = upstream.commit(data="first")
    upstream.git("tag", "--annotate", "--message=x", "v1.0")
    upstream.git("switch", "--quiet", "--create", "feature/x")
    second = upstream.commit(data="second")
    upstream.git("switch", "--quiet", "main")
    upstream.commit(data="third")
    for ref, commit, text in (
        ("v1.0", first, b"first"),
        ("feature/x", second, b"second"),
        (first, first, b"first"),
        ("main", None, b"third"),
    ):
        bench.write(f"{URL}{mark}{ref}")
        version = bench.dump().version
        assert commit is None or version == commit[:12]
        assert bench.content()["data"] == text


def test_neither_hooks_nor_filters_nor_submodules_nor_attributes_act(
    bench: DumpBench, upstream: Upstream, tmp_path: Path
) -> None:
    inner = Upstream(tmp_path / "inner")
    inner.commit(secret="x")
    upstream.git("submodule", "--quiet", "add", f"file://{inner.folder}", "sub")
    attributes = "hidden export-ignore\nversion export-subst\nfiltered filter=evil\n"
    upstream.commit(**{".gitattributes": attributes}, hidden="seen", version="$Format:%H$", filtered="as it is")
    bench.write(URL)
    bench.dump()
    content = bench.content()
    assert (content["hidden"], content["version"], content["filtered"]) == (b"seen", b"$Format:%H$", b"as it is")
    assert not [name for name in content if name.startswith(("sub/", ".git/"))]


def test_a_link_in_a_repository_is_refused(bench: DumpBench, upstream: Upstream) -> None:
    (upstream.folder / "link").symlink_to("/etc/passwd")
    upstream.commit(data="x")
    bench.write(URL)
    with pytest.raises(Exception, match="'link' is a link out of the folder"):
        bench.dump()


def test_what_is_not_there_is_refused_with_what_to_do(bench: DumpBench, upstream: Upstream) -> None:
    upstream.commit(data="x")
    bench.write(f"{URL}@nothing")
    with pytest.raises(DownloadRefused, match="no branch or tag 'nothing'"):
        bench.dump()
    bench.write(f"{URL}@{'0' * 40}")
    with pytest.raises((DownloadRefused, DownloadInterrupted), match="git says"):
        bench.dump()


def test_a_repository_beyond_the_bound_is_refused(bench: DumpBench, upstream: Upstream) -> None:
    upstream.commit(data="x" * 500_000)
    bench.overrides["unpack_max_bytes"] = 100_000
    bench.write(URL)
    with pytest.raises(DownloadRefused, match="larger than 100000 bytes"):
        bench.dump()
    assert bench.staged == []


@pytest.mark.parametrize("ref", ["--upload-pack=x", "a:b", "a b", "$(x)", "-x"])
def test_a_ref_is_never_an_option(ref: str) -> None:
    with pytest.raises(ManifestError, match="@branch, @tag or @commit"):
        parse_git_url(f"{URL}@{ref}")


def test_the_login_is_no_argument_and_in_no_error(tmp_path: Path) -> None:
    url = "git+https://me:hunter2@localhost:1/me/data.git@main"
    parsed = parse_git_url(url)
    assert parsed == Repository("https://localhost:1/me/data.git", "main", "me:hunter2")
    fetcher = GitFetcher(dt.timedelta(seconds=5), 1000)
    environment = fetcher._environment(parsed)
    assert "Basic bWU6aHVudGVyMg==" in str(environment)
    with pytest.raises((DownloadRefused, DownloadInterrupted)) as caught:
        asyncio.run(fetcher.fetch(url, PartialFile(tmp_path / "data.tar", url), Count()))
    assert "hunter2" not in str(caught.value)


def test_a_server_that_hangs_ends_with_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    async def main() -> None:
        task = asyncio.create_task(GitFetcher(dt.timedelta(seconds=5), 1000).look(URL))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < 20
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_without_git_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DownloadRefused, match="needs the program git"):
        asyncio.run(GitFetcher(dt.timedelta(seconds=5), 1000).look(URL))


@pytest.mark.parametrize("follows", [False, True])
def test_redirects_of_a_repository_are_followed_only_where_redirects_may_lead_anywhere(
    site: Site, elsewhere: Site, follows: bool
) -> None:
    site.add("/x.git/info/refs", status=302, headers={"Location": f"{elsewhere.url}/x.git/info/refs"})
    fetcher = GitFetcher(dt.timedelta(seconds=5), 1000, protocols="http", follows=follows)
    with pytest.raises((DownloadRefused, DownloadInterrupted)) as caught:
        asyncio.run(fetcher.look(f"git+{site.url}/x.git"))
    assert bool(elsewhere.log) is follows
    assert follows or "redirects are not followed" in caught.value.message
