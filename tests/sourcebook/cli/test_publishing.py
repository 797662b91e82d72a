"""Publishing, installing and subscribing from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.usefixtures("no_broker")
def test_releases_are_published_and_installed(served: Any, tmp_path: Path) -> None:
    (build,) = served("status", "--json").json["builds"]
    started = served("release", "publish", "fruit", "--to", f"file://{tmp_path}/out", "--no-wait", "--json")
    assert started.status == 0, started.err
    (job,) = started.json
    assert (job["kind"], job["target"], job["command"]["mode"]) == ("publish", build["name"], "auto")
    refused = served("release", "publish", "fruit", "--to", "https://host/x", "--no-wait")
    assert (refused.status, "allowed are file" in refused.err) == (2, True)
    started = served("release", "install", f"file://{tmp_path}/out/fruit", "--name", "copy", "--no-wait", "--json")
    (job,) = started.json
    assert (job["kind"], job["command"]["config"], job["command"]["api"]) == ("install", "copy", "copy")
    again = served("release", "install", f"file://{tmp_path}/out/fruit", "--name", "copy", "--no-wait")
    assert again.status == 5
    taken = served("release", "install", f"file://{tmp_path}/out/fruit", "--no-wait")
    assert (taken.status, "--name" in taken.err) == (5, True)


def test_subscriptions_are_kept_and_ended(sourcebook: Any) -> None:
    made = sourcebook("release", "subscribe", "https://u:secret@host/genes", "--cron", "0 4 * * *")
    assert (made.status, made.out) == (0, "genes is looked for at https://u:***@host/genes (0 4 * * *).\n")
    listed = sourcebook("release", "subscriptions", "--json")
    assert [(item["name"], item["keep"]) for item in listed.json] == [("genes", 2)]
    assert "genes" in sourcebook("release", "subscriptions").out
    assert "subscribe" in sourcebook("status").out
    assert sourcebook("release", "unsubscribe", "genes").status == 0
    assert sourcebook("release", "unsubscribe", "genes").status == 3
    assert sourcebook("release", "subscribe", "https://host/genes", "--cron", "sometimes").status == 2


@pytest.mark.usefixtures("no_broker")
def test_a_release_can_be_asked_for_without_the_word_apply(served: Any) -> None:
    for words in (("release", "apply", "fruit"), ("release", "fruit", "--api", "other")):
        started = served(*words, "--no-wait", "--json")
        assert started.json[0]["kind"] in {"index", "apply"}, started.err


def test_builds_are_archived_and_cleaned(served: Any) -> None:
    (build,) = served("status", "--json").json["builds"]
    refused = served("archive", build["name"])
    assert (refused.status, "serves build" in refused.err) == (5, True)
    plan = served("clean", "--dry-run", "--json").json
    assert {"builds", "uploads", "jobs", "changes"} <= plan.keys()
    assert not any(plan.values())
    cleaned = served("clean")
    assert (cleaned.status, "clean home: succeeded, removed nothing" in cleaned.out) == (0, True), cleaned.err
    assert "removed nothing" in served("jobs").out
    assert json.loads(served("archive", "nothing", "--json").err)["code"] == "not_found"
