"""`status`: what there is, and what is running."""

from datetime import UTC, datetime
from typing import Any

from sourcebook.cli.progress import describe_progress
from sourcebook.cli.terminal import JsonOption, api_url, make_table, out, run_command, show
from sourcebook.context import Context
from sourcebook.hub.builds import answers as build_answers
from sourcebook.hub.builds.news import find_news
from sourcebook.hub.jobs.answers import list_active_jobs
from sourcebook.hub.releases import answers as release_answers
from sourcebook.hub.schedules.commands import BUILT_IN, list_schedules
from sourcebook.hub.sources import answers as source_answers
from sourcebook.logging import hide_secrets
from sourcebook.supervisor import broker_answers

_SHOWN_BUILDS = 10


def status(*, as_json: JsonOption = False) -> None:
    """Show sources, builds, APIs, what is new since the last builds, schedules and what is running."""
    found = run_command(_look, inline=True)
    if as_json:
        show(found, as_json=True)
        return
    out.print(f"home    {found['home']}\nbroker  {_describe_broker(found['broker'])}", markup=False)
    tables = (
        (("source", "version", "documents", "state"), [_source_row(view) for view in found["sources"]]),
        (("build", "documents", "configuration"), [(b.name, b.count, b.config) for b in found["builds"]]),
        (
            ("api", "release", "kept for rollback", "served by the gateway at"),
            [(a.name, a.release, ", ".join(a.history), found["urls"][a.name]) for a in found["apis"]],
        ),
        (
            ("new for", "upload", "version", "built", "documents"),
            [(n.config, u.upload, u.version, u.built or "-", u.count) for n in found["news"] for u in n.newer],
        ),
        (
            ("schedule", "of", "cron", "due (UTC)", "last error"),
            [(s.kind, s.target, s.cron, _when(s.due_at), s.last_error) for s in found["schedules"]],
        ),
        (
            ("job", "kind", "target", "state", "progress"),
            [(j.id, j.kind, j.target, j.state.value, describe_progress(j.progress)) for j in found["active_jobs"]],
        ),
    )
    for columns, rows in tables:
        if rows:
            out.print()
            out.print(make_table(columns, rows))
    if not found["sources"]:
        out.print("\nThere are no sources yet: `sourcebook plugin add FOLDER` registers one.", markup=False)


async def _look(context: Context) -> dict[str, Any]:
    settings = context.settings
    return {
        "home": str(settings.home),
        "broker": {"url": hide_secrets(settings.celery_broker_url), "answers": await broker_answers(settings)},
        "sources": await source_answers.list_sources(context),
        "builds": (await build_answers.list_builds(context))[:_SHOWN_BUILDS],
        "apis": (served := await release_answers.list_apis(context)),
        "urls": {api.name: api_url(settings, api.name) for api in served},
        "news": [item for item in await find_news(context) if item.newer],
        "schedules": [item for item in await list_schedules(context) if item.kind not in BUILT_IN],
        "active_jobs": await list_active_jobs(context),
    }


def _describe_broker(broker: dict[str, Any]) -> str:
    if broker["answers"]:
        return f"{broker['url']} answers"
    return f"{broker['url']} does not answer (`sourcebook up` starts one)"


def _source_row(view: source_answers.SourceView) -> tuple[object, ...]:
    documents = sum(upload.count for upload in view.uploads.values())
    return view.name, view.dump.version if view.dump else "-", documents, view.error or _problem(view) or "ok"


def _problem(view: source_answers.SourceView) -> str:
    errors = [view.state.last_dump_error, *view.state.last_upload_errors.values()]
    told = [str(error.get("message", error)) for error in errors if error]
    if told:
        return "; ".join(told)
    if view.dump is None:
        return "" if view.active_jobs else "not downloaded yet"
    # A cancelled upload leaves no error, and nothing else that tells of it.
    current = {name for name, upload in view.uploads.items() if upload.dump == view.dump.id}
    missing = [name for name in view.uploaders if name not in current]
    if not missing or view.active_jobs:
        return ""
    which = "" if len(view.uploaders) == 1 else f" by {', '.join(missing)}"
    return f"version {view.dump.version} is not uploaded{which}: sourcebook upload {view.name}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
