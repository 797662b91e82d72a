"""What's new: the sources of which a build configuration has newer documents than its last build."""

import fnmatch

from pydantic import BaseModel, Field

from sourcebook.context import Context
from sourcebook.hub.builds.answers import list_builds
from sourcebook.hub.builds.model import Build, BuildConfig
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.sources.model import SourceState, Upload


class NewUpload(BaseModel):
    """An upload that is not in the last build; `built` is the version of this source that is, if any."""

    upload: str
    version: str
    count: int
    built: str | None = None


class ConfigNews(BaseModel):
    """What is new for a build configuration since its last build."""

    config: str
    build: str | None = None
    newer: list[NewUpload] = Field(default_factory=list)


async def find_news(context: Context, config: str | None = None) -> list[ConfigNews]:
    """Return what is new for each build configuration, or for one."""
    configs = await context.state.find(BuildConfig, {"name": config} if config else None)
    states = await context.state.find(SourceState)
    return [await _compare(context, item, states) for item in configs]


async def _compare(context: Context, config: BuildConfig, states: list[SourceState]) -> ConfigNews:
    builds = [build for build in await list_builds(context, config.name) if build.uploads]
    last = builds[0] if builds else None
    built = await _uploads_of(context, last) if last else {}
    newer = []
    for name, upload_id in current_uploads(config, states).items():
        before = built.get(name)
        upload = await context.state.get(Upload, upload_id)
        if upload is None or (before is not None and (before.count, before.digest) == (upload.count, upload.digest)):
            continue
        built_version = before.version if before is not None else None
        newer.append(NewUpload(upload=name, version=upload.version, count=upload.count, built=built_version))
    return ConfigNews(config=config.name, build=last.name if last else None, newer=newer)


async def _uploads_of(context: Context, build: Build) -> dict[str, Upload]:
    found = [await context.state.get(Upload, upload_id) for upload_id in build.uploads]
    return {build_upload_name(item.source, item.uploader): item for item in found if item is not None}


def current_uploads(config: BuildConfig, states: list[SourceState]) -> dict[str, str]:
    """Return the ids of the uploads that a configuration would build now, by name."""
    found = {}
    for pattern in config.sources:
        source, _, uploader = pattern.partition("/")
        for state in states:
            if not fnmatch.fnmatch(state.name, source):
                continue
            for name, upload_id in state.uploads.items():
                if fnmatch.fnmatch(name, uploader or "*"):
                    found[build_upload_name(state.name, name)] = upload_id
    return dict(sorted(found.items()))
