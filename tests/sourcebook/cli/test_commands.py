"""Every command: what it prints, and the exit status that says how it ended."""

import json
import sys
from pathlib import Path

import pytest
from support.context import run_in_context

from sourcebook.context import Context
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs import answers as job_answers
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.sources import commands as source_commands

from .conftest import Sourcebook, write_plugin

CONFIG = {"name": "fruits", "doc_type": "fruit", "sources": ["fruit"]}


BAD = {
    "dump": ("dump ../x", 3, "There is no source '../x'"),
    "dump without a broker": ("dump fruit", 4, "does not answer"),
    "upload": ("upload fruit/x", 3, "has no uploader 'x'; it has fruit"),
    "inspect": ("inspect nope", 3, "Registered are: fruit"),
    "mapping show": ("mapping show nope", 3, "There is no source"),
    "mapping commit": ("mapping commit fruit/x", 3, "no uploader"),
    "build": ("build nope", 3, "There is no build configuration 'nope'. There are: fruit."),
    "build of a file that is not there": ("build nope.json", 2, "nope.json cannot be read"),
    "release": ("release nope", 3, "There is no build 'nope'"),
    "release as": ("release fruit --api ../x", 2, "[invalid_name]"),
    "rollback": ("rollback fruit", 5, "keeps no release before this one"),
    "rollback to": ("rollback fruit --to x", 5, "keeps no release x"),
    "serve": ("serve nope", 3, "There are: fruit"),
    "serve on a port that is none": ("serve fruit --port 70000", 2, "--port"),
    "worker": ("worker nope", 2, "there are dump, upload, build, index, beat"),
    "jobs": ("jobs --state nope", 2, "known are queued, running"),
    "jobs of a kind": ("jobs --kind nope", 2, "known are dump, upload"),
    "jobs show": ("jobs show ../x", 3, "There is no job '../x'"),
    "jobs cancel": ("jobs cancel nope", 3, "There is no job"),
    "plugin add": ("plugin add /nowhere", 2, "does not exist"),
    "plugin remove": ("plugin remove nope", 3, "There is no source"),
    "plugin remove what is built": ("plugin remove fruit", 5, "Build configuration 'fruit' names 'fruit'"),
    "plugin check": ("plugin check /nowhere", 2, "does not exist"),
    "run": ("run /nowhere", 2, "does not exist"),
    "delete api": ("delete api nope", 3, "There is no API"),
    "delete build": ("delete build nope", 3, "There is no build"),
    "delete config": ("delete config nope", 3, "There is no build configuration"),
    "no such command": ("nope", 2, "No such command"),
}


def test_what_cannot_be_done_is_said_and_ends_with_its_status(served: Sourcebook) -> None:
    wrong = {}
    for name, (line, status, message) in BAD.items():
        ended = served(*line.split())
        if (ended.status, message in ended.err, ended.out) != (status, True, ""):
            wrong[name] = ended
    assert wrong == {}


def test_an_error_is_json_where_json_was_asked_for(sourcebook: Sourcebook) -> None:
    ended = sourcebook("jobs", "show", "nope", "--json")
    assert json.loads(ended.err) == {
        "code": "not_found",
        "message": "There is no job 'nope'.",
        "details": {"job": "nope"},
    }
    assert (ended.status, ended.out) == (3, "")


def test_run_takes_a_plugin_from_its_files_to_an_api(served: Sourcebook, plugin: Path) -> None:
    assert [job["kind"] for job in served("jobs", "--json").json] == ["index", "build", "upload", "dump"]
    again = served("run", str(plugin), "--no-serve")
    assert (again.status, again.err.count("unchanged")) == (0, 2)


def test_status_shows_all_there_is_and_no_empty_table(sourcebook: Sourcebook, plugin: Path, home: Path) -> None:
    empty = sourcebook("status")
    assert (empty.status, empty.out.splitlines()[0]) == (0, f"home    {home}")
    assert "does not answer (`sourcebook up` starts one)" in empty.out
    assert "There are no sources yet" in empty.out
    assert "release" not in empty.out
    sourcebook("run", str(plugin), "--no-serve")
    shown = sourcebook("status").out
    assert [line.split()[0] for line in shown.splitlines() if line] == [
        *("home", "broker", "source", "fruit", "build"),
        *(shown.splitlines()[7].split()[0], "api", "fruit"),
    ]
    found = sourcebook("status", "--json").json
    assert (found["sources"][0]["name"], found["builds"][0]["count"], found["active_jobs"]) == ("fruit", 3, [])
    assert found["broker"]["answers"] is False


def test_jobs_are_listed_shown_and_cancelled(served: Sourcebook, home: Path) -> None:
    async def submit(context: Context) -> Job:
        return await source_commands.start_dump(context, "fruit")

    job = run_in_context(home, submit)
    listed = served("jobs", "--limit", "2").out.splitlines()
    assert listed[1].split()[:4] == [job.id, "dump", "fruit", "queued"]
    assert listed[2].endswith("3 documents, full: API 'fruit' serves nothing yet")
    assert [j["id"] for j in served("jobs", "--state", "queued", "--kind", "dump", "--json").json] == [job.id]
    assert served("jobs", "show", job.id).json["command"]["source"] == "fruit"
    assert served("jobs", "cancel", job.id).out == f"Job {job.id} ended.\n"
    again = served("jobs", "cancel", job.id)
    assert (again.status, "is cancelled already" in again.err) == (5, True)


@pytest.mark.usefixtures("no_broker")
def test_commands_start_jobs_and_return_when_asked_not_to_wait(served: Sourcebook, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "fruits.json"
    file.write_text(json.dumps(CONFIG))
    lines = ("dump fruit --only", "upload fruit", f"build {file}", "release fruit --api other")
    for line in lines:
        ended = served(*line.split(), "--no-wait", "--json")
        assert (ended.status, ended.err) == (0, ""), line
        (job,) = ended.json
        assert (job["kind"], job["state"]) == (line.split()[0].replace("release", "index"), "queued")
    busy = served("dump", "fruit", "--no-wait")
    assert (busy.status, "Wait for it or cancel it" in busy.err) == (5, True)
    for job in served("jobs", "--state", "queued", "--json").json:
        assert served("jobs", "cancel", job["id"]).status == 0
    assert ": queued (" in served("inspect", "fruit/fruit", "--no-wait").out
    config = run_in_context(home, lambda context: build_answers.get_build_config(context, "fruits"))
    assert config == BuildConfig.model_validate(CONFIG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold an object with name, doc_type and sources"),
        ("{", "is neither JSON nor YAML"),
        ("name: c", "doc_type is missing; sources is missing"),
        ("name: c\ndoc_type: d\nsources: 7", "sources: "),
        ("\udcff", "is not UTF-8"),
    ],
    ids=["empty", "broken", "missing key", "wrong type", "bytes"],
)
def test_a_wrong_configuration_file_is_refused(sourcebook: Sourcebook, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    ended = sourcebook("build", str(file))
    assert (ended.status, message in ended.err) == (2, True), ended.err


def test_releases_are_rolled_back_and_deleted(served: Sourcebook, plugin: Path) -> None:
    served("run", str(plugin), "--no-serve")
    first = served("status", "--json").json["builds"][1]["name"]
    assert served("rollback", "fruit").out == f"API fruit serves release {first} now.\n"
    kept = served("delete", "build", first)
    assert (kept.status, "serves build" in kept.err) == (5, True)
    assert served("delete", "api", "fruit").status == 0
    assert served("delete", "build", first).out == f"Build {first} is deleted.\n"
    assert served("delete", "config", "fruit", "--json").json == {"deleted": "fruit"}
    assert served("plugin", "remove", "fruit").status == 0
    assert served("plugin", "list", "--json").json == []


def test_plugins_are_checked_added_and_listed(sourcebook: Sourcebook, plugin: Path, tmp_path: Path) -> None:
    odd = write_plugin(tmp_path / "odd", extra_key=1)
    checked = sourcebook("plugin", "check", str(odd))
    assert (checked.status, "is a valid manifest" in checked.out) == (0, True)
    assert "extra_key" in checked.err
    assert sourcebook("plugin", "check", str(odd), "--json").json["warnings"]
    broken = write_plugin(tmp_path / "broken")
    (broken / "manifest.json").write_text("{")
    for command in (("plugin", "check"), ("plugin", "add", str(plugin)), ("run",)):
        ended = sourcebook(*command, str(broken))
        assert (ended.status, "[manifest]" in ended.err) == (6, True)
    assert sourcebook("plugin", "list", "--json").json == []
    added = sourcebook("plugin", "add", str(plugin), str(odd))
    assert [line.split()[0] for line in added.out.splitlines()] == ["plugin", "fruit", "odd"]
    (plugin / "manifest.json").write_text("{")
    listed = sourcebook("plugin", "list").out.splitlines()
    assert "no valid JSON" in listed[1]
    assert "extra_key" in listed[2]


def test_run_says_what_a_plugin_lacks(sourcebook: Sourcebook, tmp_path: Path) -> None:
    files = write_plugin(tmp_path / "files")
    (files / "manifest.json").write_text('{"dumper": {"data_url": "data.ndjson"}}')
    ended = sourcebook("run", str(files), "--no-serve")
    assert (ended.status, "only downloads" in ended.err) == (2, True)
    named = write_plugin(tmp_path / "bad name")
    ended = sourcebook("run", str(named), "--no-serve")
    assert (ended.status, "'bad name' cannot name a source" in ended.err) == (6, True)


def test_a_parser_that_fails_ends_run_with_the_plugins_traceback(
    sourcebook: Sourcebook, plugin: Path, home: Path
) -> None:
    (plugin / "parser.py").write_text("def load_data(folder):\n    raise ValueError('row [bold]7[/] is bad')\n")
    ended = sourcebook("run", str(plugin), "--no-serve")
    assert ended.status == 6
    assert "[parser] upload fruit/fruit failed: " in ended.err
    assert "row [bold]7[/] is bad" in ended.err
    assert "parser.py" in ended.err.split("Traceback")[1]
    last = run_in_context(home, lambda context: job_answers.list_jobs(context, limit=1))[0]
    assert last.state is JobState.FAILED


def test_run_ends_what_a_killed_run_left(sourcebook: Sourcebook, plugin: Path, home: Path) -> None:
    async def leave(context: Context) -> str:
        await source_commands.add_plugin(context, plugin)
        job = await source_commands.start_dump(context, "fruit")
        await context.state.update(Job, job.id, lambda j: j.move_to(JobState.RUNNING, attempt=1))
        return job.id

    left = run_in_context(home, leave)
    assert sourcebook("run", str(plugin), "--no-serve").status == 0
    assert sourcebook("jobs", "show", left).json["state"] == "cancelled"


def test_a_mapping_is_shown_edited_and_committed(
    served: Sourcebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [line.split()[:3] for line in served("mapping", "show", "fruit").out.splitlines()[1:]] == [
        ["grams", "integer", "integer"]
    ]
    file = tmp_path / "mapping.json"
    file.write_text('{"grams": {"type": "long", "index": false}}')
    asked = served("mapping", "edit", "fruit", "--file", str(file))
    assert asked.status == 2
    assert "grams" in asked.err
    assert "--yes commits without asking" in asked.err
    assert "long, not indexed" not in served("mapping", "show", "fruit/fruit").out
    assert served("mapping", "edit", "fruit", "--file", str(file), "--yes").status == 0
    assert "long, not indexed" in served("mapping", "show", "fruit/fruit").out
    script = tmp_path / "editor.py"
    script.write_text('import sys; open(sys.argv[1], \'w\').write(\'{"grams": {"type": "text"}}\')')
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    assert served("mapping", "edit", "fruit", "--yes").out == "The mapping of fruit/fruit is committed.\n"
    assert served("mapping", "show", "fruit", "--json").json["committed"] == {"grams": {"type": "text"}}
    assert served("mapping", "commit", "fruit").status == 0
    assert served("mapping", "show", "fruit", "--json").json["committed"] == {"grams": {"type": "integer"}}
    monkeypatch.setenv("VISUAL", "true")  # saves nothing: the inferred mapping, which follows the data
    assert "is as it was. It is the inferred one" in served("mapping", "edit", "fruit").out


def test_an_edit_that_cannot_be_taken_is_not_lost(
    served: Sourcebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    script = tmp_path / "editor.py"
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    for text in ("{,}", '{"grams": {"type": "strnig"}}'):
        script.write_text(f"import sys; open(sys.argv[1], 'w').write({text!r})")
        ended = served("mapping", "edit", "fruit")
        assert ended.status in {2, 6}
        assert "The mapping is as it was. Your text is in " in ended.err
        (kept,) = tmp_path.glob("mapping-*.json")
        assert kept.read_text() == text
        kept.unlink()
    for editor in ("false", "/no/such/editor"):
        monkeypatch.setenv("VISUAL", editor)
        ended = served("mapping", "edit", "fruit")
        assert (ended.status, f"The editor '{editor}' failed" in ended.err) == (2, True)
        assert list(tmp_path.glob("mapping-*")) == []
    assert served("mapping", "edit", "fruit", "--file", "/nowhere").status == 2
