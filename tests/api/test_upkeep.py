"""What is new, what is scheduled and what may go, asked over HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import make_record
from sourcebook.hub.sources.model import SourceState, Upload
from sourcebook.worker import run_queued_jobs

Hub = Callable[..., Any]


def make_plugin(folder: Path) -> Path:
    folder.mkdir()
    manifest = {"dumper": {"data_url": "x.tsv", "schedule": "0 3 * * *"}, "uploader": {"parser": "parser:load"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_news_and_schedules_are_listed(hub: Hub, tmp_path: Path) -> None:
    async def work(gateway: Any) -> None:
        await gateway.ask("POST", "/hub/plugins", json={"folder": str(make_plugin(tmp_path / "hgnc"))})
        wrong = {"doc_type": "gene", "sources": ["hgnc"], "schedule": "daily"}
        refused = await gateway.ask("PUT", "/hub/build-configs/genes", json=wrong)
        assert (refused.status_code, "is not a valid cron expression" in refused.text) == (422, True)
        config = wrong | {"schedule": "@daily", "on_new_upload": True, "release": "auto", "keep": {"builds": 3}}
        assert (await gateway.ask("PUT", "/hub/build-configs/genes", json=config)).is_success
        upload = Upload(
            id="hgnc/hgnc@1",
            source="hgnc",
            uploader="hgnc",
            version="7",
            collection="upload~hgnc.hgnc~1",
            count=2,
            digest="0",
        )
        await gateway.context.state.put(upload.id, upload)
        await gateway.context.state.put("hgnc", SourceState(name="hgnc", uploads={"hgnc": upload.id}))
        (news,) = (await gateway.ask("GET", "/hub/news")).json()
        assert news["newer"] == [{"upload": "hgnc/hgnc", "version": "7", "count": 2, "built": None}]
        schedules = (await gateway.ask("GET", "/hub/schedules")).json()
        assert [(item["kind"], item["target"]) for item in schedules] == [
            ("clean", "home"),
            ("verify", "home"),
            ("dump", "hgnc"),
            ("build", "genes"),
        ]

    hub(work)


def test_builds_are_archived_and_cleaned_up(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        for number in (1, 2):
            async with gateway.context.documents.create(f"build~c~{number}") as writer:
                await writer.write([make_record({"_id": "1"})])
                info = await writer.commit()
            fields = {"name": f"c_{number}", "config": "c", "doc_type": "thing", "uploads": []}
            build = Build.model_validate({**fields, "collection": info.name, "count": 1, "digest": info.digest})
            await gateway.context.state.put(build.name, build)
        archived = await gateway.ask("POST", "/hub/builds/c_1/archive")
        assert (archived.status_code, archived.json()["kind"]) == (202, "archive")
        assert (await gateway.ask("POST", "/hub/builds/c_1/archive")).json()["code"] == "busy"
        await run_queued_jobs(gateway.context, gateway.context.bus)
        refused = await gateway.ask("POST", "/hub/builds/c_1/release")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert await gateway.context.documents.names() == ["build~c~2"]
        plan = (await gateway.ask("GET", "/hub/clean")).json()
        assert plan == {"builds": [], "uploads": [], "jobs": [], "changes": [], "staging": []}
        job = await gateway.ask("POST", "/hub/clean")
        assert (job.status_code, job.json()["kind"]) == (202, "clean")

    hub(work)
