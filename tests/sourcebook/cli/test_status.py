"""What `status` says of sources and APIs, and where a release is served."""

from pathlib import Path

import pytest
from support.context import run_in_context

from sourcebook.cli import progress
from sourcebook.context import Context
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.sources.model import Dump, SourceState

from .conftest import Sourcebook

URL = "http://127.0.0.1:8000/apis/fruit/query?q=*"


def test_a_source_whose_newest_dump_is_not_uploaded_is_not_ok(
    served: Sourcebook, home: Path, sourcebook: Sourcebook, tmp_path: Path
) -> None:
    assert served("status").out.splitlines()[4].split()[-1] == "ok"

    async def dump_again(context: Context) -> None:  # as a dump leaves it whose upload was cancelled
        dump = Dump(id="fruit@new", source="fruit", version="new", folder="archive/fruit/new", files=[])
        await context.state.put(dump.id, dump)
        await context.state.update(SourceState, "fruit", lambda state: state.model_copy(update={"dump": dump.id}))

    run_in_context(home, dump_again)
    line = served("status").out.splitlines()[4]
    assert line.endswith("version new is not uploaded: sourcebook upload fruit")
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"dumper": {"data_url": "data.txt"}}')
    sourcebook("plugin", "add", str(folder))
    assert "not downloaded yet" in served("status").out


def test_status_names_the_address_of_an_api(served: Sourcebook) -> None:
    assert URL in served("status").out
    assert served("status", "--json").json["urls"] == {"fruit": URL}


def test_a_release_names_the_address_of_its_api(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    del home
    job = Job(kind="index", target="fruit", lock="index:fruit", state=JobState.SUCCEEDED)
    result = {"release": "r1", "api": "fruit", "count": 3, "kind": "full", "reason": "new"}
    progress._show_jobs([job.model_copy(update={"result": result}), job], as_json=False)
    assert capfd.readouterr().out.count(URL) == 1
