"""Which uploads a build configuration means, in the order in which they are merged."""

import fnmatch
from typing import NamedTuple

from sourcebook.context import Context
from sourcebook.errors import InvalidRequest, MissingUpload
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.names import build_upload_name
from sourcebook.hub.sources.model import Plugin, SourceState, Upload


class ChosenUpload(NamedTuple):
    """An upload, and whether its documents may create ids."""

    upload: Upload
    is_root: bool

    @property
    def name(self) -> str:
        """Its name in the state."""
        return build_upload_name(self.upload.source, self.upload.uploader)


async def select_uploads(context: Context, config: BuildConfig) -> list[ChosenUpload]:
    """Return the current uploads of a configuration: root sources first, then the others, each group by name.

    Raises:
        MissingUpload: a source has no upload, or a pattern matches none; the message names them.
        InvalidRequest: the root rule leaves no source that may create ids.
    """
    states = {state.name: state for state in await context.state.find(SourceState)}
    registered = [plugin.name for plugin in await context.state.find(Plugin)]
    names: dict[str, str] = {}
    missing: list[str] = []
    for pattern in config.sources:
        found, absent = _match(pattern, registered, states)
        names |= found
        missing += absent
    if missing:
        raise MissingUpload(
            f"Build configuration {config.name!r} needs uploads that are not there: {', '.join(sorted(set(missing)))}. "
            f"Run `sourcebook dump {missing[0].partition('/')[0]}` first (`sourcebook status` shows what failed).",
            config=config.name,
            missing=sorted(set(missing)),
        )
    chosen = []
    for upload_id in names.values():
        upload = await context.state.get(Upload, upload_id)
        if upload is not None:
            chosen.append(ChosenUpload(upload, _is_root(config.root, upload)))
    if not any(item.is_root for item in chosen):
        raise InvalidRequest(
            f"Build configuration {config.name!r}: its root {config.root} leaves no source that may create ids; its sources are "
            f"{', '.join(item.name for item in chosen)}.",
            root=config.root,
        )
    return sorted(chosen, key=lambda item: (not item.is_root, item.name))


def _match(pattern: str, registered: list[str], states: dict[str, SourceState]) -> tuple[dict[str, str], list[str]]:
    """Return the ids of the uploads that a pattern names, by name, and the names of those that are not there."""
    source_pattern, _, uploader_pattern = pattern.partition("/")
    found: dict[str, str] = {}
    absent: list[str] = []
    sources = fnmatch.filter(registered, source_pattern)
    for source in sources:
        state = states.get(source)
        uploads = state.uploads if state else {}
        matching = [name for name in uploads if fnmatch.fnmatch(name, uploader_pattern or "*")]
        found |= {build_upload_name(source, name): uploads[name] for name in matching}
        failed = [name for name in (state.last_upload_errors if state else {}) if name not in uploads]
        absent += [build_upload_name(source, name) for name in failed if fnmatch.fnmatch(name, uploader_pattern or "*")]
        if not matching:
            absent.append(build_upload_name(source, uploader_pattern) if uploader_pattern else source)
    return found, absent if sources else [pattern]


def _is_root(rules: list[str], upload: Upload) -> bool:
    names = (upload.source, build_upload_name(upload.source, upload.uploader))
    excluded = [rule[1:] for rule in rules if rule.startswith("!")]
    included = [rule for rule in rules if not rule.startswith("!")]
    if any(fnmatch.fnmatch(name, rule) for rule in excluded for name in names):
        return False
    return not included or any(fnmatch.fnmatch(name, rule) for rule in included for name in names)
