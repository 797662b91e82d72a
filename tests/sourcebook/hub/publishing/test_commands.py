"""Subscriptions, and what is published and installed by itself."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.context import run_in_context
from support.releases import add_build, install, make_documents, play, publish, run

from sourcebook.context import Context
from sourcebook.errors import Conflict, InvalidName, InvalidRequest, NotFound
from sourcebook.hub.builds.commands import put_build_config, start_release
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.jobs.answers import get_job
from sourcebook.hub.publishing.answers import list_subscriptions
from sourcebook.hub.publishing.commands import start_install, start_publish, subscribe, unsubscribe
from sourcebook.hub.releases.answers import get_api
from sourcebook.hub.schedules.commands import follow_chains, list_schedules, run_schedules
from sourcebook.hub.sources.model import Plugin
from sourcebook.hub.upkeep.cleanup import clean_up, plan_clean_up

NOW = time.time()


def alone(tmp_path: Path, scenario: Callable[[Context], Awaitable[None]]) -> None:
    run_in_context(tmp_path / "home", scenario)


def test_a_subscription_installs_what_is_new_and_old_builds_go(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await subscribe(other, f"{url}/genes", "@hourly", keep=1)
        await run_schedules(other, now=NOW)
        for hour, number in enumerate((1, 2, 3, None), start=1):
            if number is not None:
                await add_build(publisher, number, make_documents(number))
                await publish(publisher, f"genes_{number}", url)
            started = await run_schedules(other, now=NOW + 3600 * hour)
            (job_id,) = [item for item in started if (await get_job(other, item)).kind == "install"]
            job = await run(other, await get_job(other, job_id))
            assert job.result, job.error
        assert job.result
        assert job.result["unchanged"]
        api = await get_api(other, "genes")
        assert (api.release, api.history) == ("genes_3", ["genes_2"])
        await clean_up(other, await plan_clean_up(other))
        gone = [build.name for build in await other.state.find(Build) if build.archived_at]
        assert gone == ["genes_1"]

    play(tmp_path, scenario, keep_indices=2)


def test_subscriptions_are_listed_without_secrets_changed_and_ended(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await subscribe(context, "https://user:secret@host/releases/genes/latest.json", "@daily")
        await subscribe(context, "https://user:secret@host/releases/genes", "@hourly", api="web", keep=5)
        (found,) = await list_subscriptions(context)
        assert found.model_dump() == {
            "name": "genes",
            "url": "https://user:***@host/releases/genes",
            "cron": "@hourly",
            "api": "web",
            "keep": 5,
        }
        assert "secret" not in str(await list_schedules(context))
        await unsubscribe(context, "genes")
        with pytest.raises(NotFound, match="There are: none"):
            await unsubscribe(context, "genes")

    alone(tmp_path, scenario)


def test_what_cannot_be_subscribed_to_is_refused(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        with pytest.raises(InvalidRequest, match="not a valid cron expression"):
            await subscribe(context, "https://host/genes", "sometimes")
        with pytest.raises(InvalidRequest, match="allowed are"):
            await subscribe(context, "gopher://host/genes", "@daily")
        with pytest.raises(InvalidName):
            await subscribe(context, "https://host/genes", "@daily", name="../x")
        with pytest.raises(InvalidName):
            await start_install(context, "https://host/genes", api="a/b")
        await context.state.put("genes", BuildConfig(name="genes", doc_type="gene", sources=["a"]))
        with pytest.raises(Conflict, match="is built here"):
            await subscribe(context, "https://host/genes", "@daily")

    alone(tmp_path, scenario)


def test_publishing_needs_an_address_that_can_be_written(tmp_path: Path) -> None:
    async def scenario(context: Context) -> None:
        await add_build(context, 1, make_documents())
        with pytest.raises(InvalidRequest, match="allowed are file"):
            await start_publish(context, "genes_1", "https://host/out")
        await context.state.put("genes", BuildConfig(name="genes", doc_type="gene", sources=["a"]))
        with pytest.raises(InvalidRequest, match="says no address to publish to"):
            await start_publish(context, "genes_1")
        with pytest.raises(NotFound):
            await start_publish(context, "genes_9", "file:///x")
        with pytest.raises(ValueError, match="allowed are"):
            BuildConfig(name="genes", doc_type="gene", sources=["a"], publish="http://host/x")

    alone(tmp_path, scenario)


def test_each_new_release_is_published_by_itself_once(tmp_path: Path) -> None:
    async def scenario(publisher: Context, other: Context) -> None:
        url = f"file://{tmp_path}/out"
        await publisher.state.put("a", Plugin(name="a", folder="a"))
        config = {"name": "genes", "doc_type": "gene", "sources": ["a"], "publish": url, "release": "auto"}
        await put_build_config(publisher, BuildConfig.model_validate(config))
        await add_build(publisher, 1, make_documents(), finished_at=time.time())
        for kind in ("index", "publish"):
            (job_id,) = await follow_chains(publisher)
            job = await run(publisher, await get_job(publisher, job_id))
            assert (job.kind, job.error) == (kind, None)
        assert await follow_chains(publisher) == []
        await install(other, f"{url}/genes")
        assert (await get_api(other, "genes")).release == "genes_1"
        await run(publisher, await start_release(publisher, "genes_1", "genes"))
        (job_id,) = await follow_chains(publisher)  # released again: looked at, and nothing is written
        job = await run(publisher, await get_job(publisher, job_id))
        assert job.result
        assert job.result["unchanged"]

    play(tmp_path, scenario)
