"""Whether an upload is what the newest dump and the present code of its plugin make."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.hub.sources.model import Dump, Plugin, SourceState, Upload
from sourcebook.hub.sources.policy import find_behind
from sourcebook.sdk.code_digest import digest_code
from sourcebook.sdk.manifest import UploaderManifest

UPLOADER = {"parser": "parser:load"}


def digest(folder: Path, **uploader: Any) -> str:
    return digest_code(folder, UploaderManifest.model_validate({"name": "one", **UPLOADER, **uploader}))


async def prepare(context: Context, folder: Path, **upload: Any) -> Upload:
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"dumper": {"data_url": "a.tsv"}, "uploader": UPLOADER}))
    (folder / "parser.py").write_text("def load(folder): ...")
    await context.state.put("one", Plugin(name="one", folder=str(folder)))
    for number in (1, 2):
        dump = Dump(id=f"one@{number}", source="one", version=f"r{number}", folder="x", files=[])
        await context.state.put(dump.id, dump)
    await context.state.put("one", SourceState(name="one", dump="one@2", uploads={"one": "one/one@x"}))
    known = {"dump": "one@2", "version": "r2", "code": digest(folder), "collection": "c", "count": 1, "digest": "d"}
    made = Upload.model_validate({"id": "one/one@x", "source": "one", "uploader": "one", **known, **upload})
    await context.state.put(made.id, made)
    return made


@pytest.mark.parametrize(
    ("upload", "why"),
    [
        ({}, None),
        ({"code": ""}, None),  # made by a version that did not note it
        ({"dump": "one@1", "version": "r1"}, "version r2 is downloaded, its documents are of version r1"),
        ({"code": "another"}, "its plugin was edited since its documents were made"),
    ],
)
def test_an_upload_is_behind(tmp_path: Path, upload: dict[str, str], why: str | None) -> None:
    async def scenario(context: Context) -> None:
        made = await prepare(context, tmp_path / "one", **upload)
        assert await find_behind(context, [made]) == ({"one/one": why} if why else {})

    run_in_context(tmp_path / "home", scenario)


def test_an_upload_that_failed_is_behind_and_says_of_what(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        made = await prepare(context, tmp_path / "one", dump="one@1", version="r1")
        await context.state.update(
            SourceState,
            "one",
            lambda state: state.model_copy(update={"last_upload_errors": {"one": {"message": "KeyError: 'gene'"}}}),
        )
        (why,) = (await find_behind(context, [made])).values()
        assert why.endswith("of version r1; the last upload failed: KeyError: 'gene'")

    run_in_context(tmp_path / "home", scenario)


def test_what_was_installed_or_does_not_load_is_never_behind(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        made = await prepare(context, tmp_path / "one", dump="one@1")
        (tmp_path / "one" / "manifest.json").write_text("{")
        assert await find_behind(context, [made]) == {}
        await context.state.delete(Plugin, "one")
        assert await find_behind(context, [made]) == {}

    run_in_context(tmp_path / "home", scenario)


def test_the_code_is_the_python_files_and_the_uploaders_section(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "parser.py").write_text("1")
    before = digest(tmp_path)
    for path in (".venv/x.py", "data.tsv"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("1")
        assert digest(tmp_path) == before
    assert digest(tmp_path, nan="drop") != before
    (tmp_path / "inner" / "helper.py").write_text("1")
    assert digest(tmp_path) != before
