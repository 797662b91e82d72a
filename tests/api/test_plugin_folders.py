"""Plugins in the folders of `SOURCEBOOK_PLUGINS` are there when the gateway is; a broken one is listed with its error."""

import asyncio
import json
from pathlib import Path

import httpx

from sourcebook.settings import Settings
from sourcebook_api.app import create_app


async def list_sources(settings: Settings) -> dict[str, str | None]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client,
    ):
        return {source["name"]: source["error"] for source in (await client.get("/hub/sources")).json()}


def test_plugins_of_the_settings_are_registered_at_start(tmp_path: Path) -> None:
    manifests = {"good": {"dumper": {"data_url": "data.txt"}}, "odd": {"dumper": 5}, "no name": {}}
    for name, manifest in manifests.items():
        (tmp_path / "plugins" / name).mkdir(parents=True)
        (tmp_path / "plugins" / name / "manifest.json").write_text(json.dumps(manifest))
    settings = Settings(home=tmp_path / "home", plugins=f"{tmp_path / 'plugins'}:{tmp_path / 'nowhere'}")
    for _ in range(2):  # a second start finds them registered
        sources = asyncio.run(list_sources(settings))
        assert sources.keys() == {"good", "odd"}
        assert sources["good"] is None
        assert "manifest.json: dumper" in (sources["odd"] or "")
