"""Publishing, installing and subscribing over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.releases import add_build, make_documents

from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.sources.model import Plugin

Hub = Callable[..., Any]


def test_builds_are_published_and_installed(hub: Hub, tmp_path: Path) -> None:
    async def work(gateway: Any) -> None:
        await add_build(gateway.context, 1, make_documents(3))
        url = f"file://{tmp_path}/out"
        started = await gateway.ask("POST", "/hub/builds/genes_1/publish", json={"url": url})
        assert (started.status_code, started.json()["kind"]) == (202, "publish")
        assert started.headers["location"] == f"/hub/jobs/{started.json()['id']}"
        refused = await gateway.ask("POST", "/hub/builds/genes_1/publish", json={"url": "http://u:secret@host"})
        assert (refused.status_code, "secret" in refused.text) == (422, False)
        started = await gateway.ask("POST", "/hub/install", json={"url": f"{url}/genes", "name": "copy"})
        assert (started.status_code, started.json()["target"]) == (202, "copy")
        busy = await gateway.ask("POST", "/hub/install", json={"url": f"{url}/genes", "name": "copy"})
        assert (busy.status_code, busy.json()["code"]) == (409, "busy")

    hub(work)


def test_subscriptions_are_put_listed_and_removed(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        wanted = {"url": "https://u:secret@host/genes", "cron": "@daily"}
        made = await gateway.ask("PUT", "/hub/subscriptions/genes", json=wanted)
        assert (made.status_code, made.json()["url"]) == (200, "https://u:***@host/genes")
        assert len((await gateway.ask("GET", "/hub/subscriptions")).json()) == 1
        wrong = await gateway.ask("PUT", "/hub/subscriptions/genes", json={**wanted, "cron": "never"})
        assert wrong.status_code == 422
        assert (await gateway.ask("DELETE", "/hub/subscriptions/genes")).status_code == 204
        assert (await gateway.ask("DELETE", "/hub/subscriptions/genes")).status_code == 404

    hub(work)


def test_a_password_in_a_configuration_is_kept_but_not_shown(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        await gateway.context.state.put("a", Plugin(name="a", folder="a"))
        config = {"doc_type": "gene", "sources": ["a"], "publish": "ftp://u:secret@host/out"}
        for _ in range(2):
            shown = await gateway.ask("PUT", "/hub/build-configs/genes", json=config)
            assert shown.json()["publish"] == "ftp://u:***@host/out"
            config = (await gateway.ask("GET", "/hub/build-configs/genes")).json()
            assert "secret" not in (await gateway.ask("GET", "/hub/build-configs")).text
        stored = await gateway.context.state.get(BuildConfig, "genes")
        assert stored.publish == "ftp://u:secret@host/out"
        refused = await gateway.ask("PUT", "/hub/build-configs/genes", json={**config, "publish": "x://u:secret@host"})
        assert (refused.status_code, "secret" in refused.text) == (422, False)

    hub(work)
