"""Which release an API serves right now. Releases never change but for the index that stands for theirs, so they are kept."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sourcebook.context import Context
from sourcebook.errors import EngineUnavailable, NotFound
from sourcebook.hub.mappings.model import iterate_fields
from sourcebook.hub.releases.model import Api, Release
from sourcebook.logging import get_logger
from sourcebook_api.query.errors import QueryError
from sourcebook_api.query.shape import ROW_KEYS, AnswerShape, mark_keys

log = get_logger(__name__)

_FRESH_SECONDS = 0.5  # how late a new release may be seen
_RETRY_SECONDS = 5.0  # how long a state store that is away is not asked again, where a release is known
_WAIT_SECONDS = 0.5  # how long a request waits for a state store that does not answer, where a release is known
_KEPT = 256  # APIs and releases remembered
_UNAVAILABLE = 503


@dataclass(frozen=True)
class OpenRelease:
    """A release with what the routes need of it, worked out once."""

    release: Release
    max_age: int = 60
    licenses: Mapping[str, str] = field(default_factory=dict)
    """License URL by the name of the source that contributes the object."""

    @cached_property
    def plain_shape(self) -> AnswerShape:
        """What changes a document when no option does: the licences."""
        return AnswerShape(licenses=self.licenses or None, marks=mark_keys(self.licenses))

    @cached_property
    def marks(self) -> tuple[bytes, ...]:
        """What the JSON of a document has in it that must be decoded; nearly no release has fields of the names of rows."""
        return mark_keys((*self.licenses, *(key for key in ROW_KEYS if key in self.release.mapping)))

    @cached_property
    def indexed_fields(self) -> frozenset[str]:
        """The fields that can be searched."""
        fields = iterate_fields(self.release.mapping)
        return frozenset(entry.path for entry in fields if not entry.is_object and entry.spec.get("index", True))


class Releases:
    """Reads the state at most twice a second for each API, and each release once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._current: dict[str, tuple[float, OpenRelease]] = {}
        self._opened: dict[tuple[str, int], OpenRelease] = {}
        self._reading: dict[str, asyncio.Task[OpenRelease]] = {}
        self.store_away_until = 0.0
        """Until when, on the monotonic clock, the document store is taken to be away."""

    async def current(self, api: str) -> OpenRelease:
        """Return the release that an API serves.

        Raises:
            QueryError: there is no such API (404), or it has no release yet (503).
            EngineUnavailable: the state store does not answer, and this API was never asked for before.
        """
        known = self._current.get(api)
        if known is not None and time.monotonic() - known[0] < _FRESH_SECONDS:
            return known[1]
        reading = self._reading.get(api)
        if reading is None:
            reading = self._reading[api] = asyncio.create_task(self._refresh(api, known and known[1]))
            reading.add_done_callback(lambda task: self._forget(api, task))
        if known is not None and not (await asyncio.wait({reading}, timeout=_WAIT_SECONDS))[0]:
            return known[1]
        return await asyncio.shield(reading)

    def _forget(self, api: str, reading: asyncio.Task[OpenRelease]) -> None:
        self._reading.pop(api, None)
        if not reading.cancelled():
            reading.exception()  # it was raised to those who still wait

    async def _refresh(self, api: str, known: OpenRelease | None) -> OpenRelease:
        read_at = time.monotonic()
        try:
            opened = await self._read(api)
        except EngineUnavailable:
            if known is None:
                raise
            log.warning("state_unavailable_serving_last_release", api=api)
            opened = known
            # It took its time to fail: requests must not pay for that one after the other.
            read_at = time.monotonic() + _RETRY_SECONDS
        except QueryError:
            self._current.pop(api, None)
            raise
        if len(self._current) >= _KEPT:
            self._current.clear()
        self._current[api] = (read_at, opened)
        return opened

    async def _read(self, api: str) -> OpenRelease:
        record = await self._context.state.get(Api, api)
        if record is None:
            raise QueryError(404, details=f"There is no API {api!r}.")
        if record.release is None:
            raise QueryError(
                _UNAVAILABLE, details=f"The API {api!r} has no release yet: build its configuration, then release it."
            )
        try:
            return await self.by_name(record.release, record.max_age)
        except NotFound as error:
            # The API moved on between the two looks, and this release was cleaned up.
            raise EngineUnavailable(error.message) from error

    async def by_name(self, name: str, max_age: int) -> OpenRelease:
        """Return a release that is current, or was and is kept.

        Raises:
            NotFound: it is gone.
        """
        known = self._opened.get((name, max_age))
        if known is not None:
            return known
        release = await self._context.state.get(Release, name)
        if release is None:
            raise NotFound(f"There is no release {name!r}.", release=name)
        if len(self._opened) >= _KEPT:
            self._opened.clear()
        opened = self._opened[name, max_age] = open_release(release, max_age)
        return opened

    async def reread(self, opened: OpenRelease) -> OpenRelease:
        """Return a release as it is now: its index may have been made again.

        Raises:
            NotFound: it is gone.
        """
        self._opened.pop((opened.release.name, opened.max_age), None)
        return await self.by_name(opened.release.name, opened.max_age)


def open_release(release: Release, max_age: int) -> OpenRelease:
    """Work out what the routes need of a release."""
    return OpenRelease(release, max_age, _find_licenses(release))


def _find_licenses(release: Release) -> dict[str, str]:
    sources: dict[str, Any] = release.metadata.get("src") or {}
    return {
        name: str(source["license_url"])
        for name, source in sources.items()
        if isinstance(source, dict) and source.get("license_url") and "properties" in release.mapping.get(name, {})
    }
