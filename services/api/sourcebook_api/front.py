"""The front page: what is served, from which sources, and where to read on. Plain HTML, nothing from elsewhere."""

import html
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from sourcebook.hub.releases.answers import list_apis
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.sources.answers import SourceView, list_sources
from sourcebook_api.dependencies import Engines

router = APIRouter()

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sourcebook</title><link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 2rem 1.5rem; color: #1d2733 }}
h1 {{ margin: 0 0 .25rem; font-size: 1.7rem }} h2 {{ margin: 2.2rem 0 .6rem; font-size: 1.15rem }}
a {{ color: #0b5cad }} p {{ margin: .4rem 0 }} .muted {{ color: #5a6877 }} .bad {{ color: #a3231f }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .45rem .9rem .45rem 0; border-bottom: 1px solid #dde4ea; vertical-align: top }}
th {{ font-weight: 600; color: #5a6877; font-size: .9rem }} td.number {{ font-variant-numeric: tabular-nums }}
code {{ background: #f1f4f7; padding: .1rem .3rem; border-radius: 4px }}
</style></head><body>
<h1>Sourcebook</h1>
<p class="muted">Data sources as searchable, always current APIs.</p>
<h2>APIs</h2>{apis}
<h2>Sources</h2>{sources}
<h2>For programs and operators</h2>
<p><a href="/docs">Console of the hub</a> · <a href="/openapi.json">its OpenAPI document</a> ·
<a href="/hub/jobs">jobs</a> · <a href="/health/ready">health</a></p>
</body></html>
"""


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def front_page(context: Engines) -> HTMLResponse:
    """Show what is served, and from which sources."""
    apis = await list_apis(context)
    releases = [await context.state.get(Release, api.release) if api.release else None for api in apis]
    rows = "".join(_api_row(api, release) for api, release in zip(apis, releases, strict=True))
    sources = "".join(_source_row(source) for source in await list_sources(context))
    page = _PAGE.format(
        apis=_table(("API", "release", "documents", "try"), rows)
        or "<p>None yet: build a configuration, then release it (<code>sourcebook build</code>, "
        "<code>sourcebook release</code>).</p>",
        sources=_table(("source", "version", "documents", "state"), sources)
        or "<p>None yet: <code>sourcebook plugin add FOLDER</code>.</p>",
    )
    return HTMLResponse(page)


def _table(titles: tuple[str, ...], rows: str) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<table><tr>{head}</tr>{rows}</table>" if rows else ""


def _api_row(api: Api, release: Release | None) -> str:
    name, root = html.escape(api.name), f"/apis/{quote(api.name)}"
    if release is None:
        return f'<tr><td>{name}</td><td colspan="3" class="muted">no release yet</td></tr>'
    links = f'<a href="{root}/query?q=*&amp;format=html">query</a> · <a href="{root}/metadata?format=html">metadata</a>'
    cells = f'<td><a href="{root}/docs">{name}</a></td><td>{html.escape(release.name)}</td>'
    return f'<tr>{cells}<td class="number">{release.count:,}</td><td>{links}</td></tr>'


def _source_row(source: SourceView) -> str:
    name = f'<a href="/hub/sources/{quote(source.name)}">{html.escape(source.name)}</a>'
    title = (
        f' <span class="muted">{html.escape(source.display_name)}</span>' if source.display_name != source.name else ""
    )
    count = sum(upload.count for upload in source.uploads.values())
    version = html.escape(source.dump.version) if source.dump else "—"
    return (
        f'<tr><td>{name}{title}</td><td>{version}</td><td class="number">{count:,}</td><td>{_state(source)}</td></tr>'
    )


def _state(source: SourceView) -> str:
    if source.error:
        return f'<span class="bad">{html.escape(source.error)}</span>'
    if source.active_jobs:
        return f"working ({len(source.active_jobs)})"
    if source.dump is None and source.state.last_dump_error is None:
        return '<span class="muted">nothing downloaded yet</span>'
    failed = source.state.last_dump_error is not None or source.state.last_upload_errors
    return '<span class="bad">last job failed</span>' if failed else "ok"
