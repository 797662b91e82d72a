"""Hub control: one resource a file."""

from fastapi import APIRouter

from sourcebook_api.dependencies import show_docstrings
from sourcebook_api.routers import apis, build_configs, builds, jobs, plugins, publishing, releases, sources, upkeep

hub = APIRouter(prefix="/hub")
for module in (plugins, sources, build_configs, builds, publishing, apis, releases, upkeep, jobs):
    hub.include_router(show_docstrings(module.router))
