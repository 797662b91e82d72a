"""The console of an OpenAPI document: Swagger UI from the files of the package `fastapi-offline`, nothing from elsewhere."""

import html
from importlib.resources import files

import orjson
from starlette.staticfiles import StaticFiles

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{assets}/swagger-ui.css">
<link rel="icon" href="data:,">
</head><body>
<noscript>This page needs JavaScript; the same as text: <a href="{spec}">{spec}</a></noscript>
<div id="console"></div>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  url: {url}, dom_id: "#console", deepLinking: true, tryItOutEnabled: true, displayRequestDuration: true,
  defaultModelsExpandDepth: 0, validatorUrl: null,
}});
</script>
</body></html>
"""


def render_console(*, title: str, spec: str, assets: str) -> bytes:
    """Return the page that shows the OpenAPI document at `spec`, with the files under `assets`."""
    url = orjson.dumps(spec).decode().replace("<", "\\u003c")
    quoted = {
        name: html.escape(value, quote=True) for name, value in (("title", title), ("spec", spec), ("assets", assets))
    }
    return _PAGE.format(**quoted, url=url).encode()


def open_assets() -> StaticFiles:
    """Return the app that serves the console's files."""
    return StaticFiles(directory=str(files("fastapi_offline") / "static"))
