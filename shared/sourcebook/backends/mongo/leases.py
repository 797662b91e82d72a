"""Who works on which MongoDB collection: a lease is renewed while its reader or writer lives, and runs out when it is dead."""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo import IndexModel

from sourcebook.backends.mongo.server import MongoServer
from sourcebook.errors import EngineUnavailable
from sourcebook.renewal import Renew, Renewal

# Long against the difference of two machines' clocks, and against the pauses of a machine that is overloaded.
_LEASE_SECONDS = 600.0
_RENEW_SECONDS = 60.0


class MongoLeases:
    """The leases of one process; all it has are renewed together."""

    def __init__(self, server: MongoServer) -> None:
        self._server = server
        self._leases = server.database["documents.leases"]
        self._owner = secrets.token_hex(8)
        self._is_indexed = False
        self._held: set[str] = set()
        self._renewal: Renewal | None = None
        self._failure: Exception | None = None

    @asynccontextmanager
    async def hold(self, collection: str) -> AsyncIterator[str]:
        """Keep a collection from being removed while the body runs; the value is for `check`.

        Raises:
            Exception: what kept the lease from being renewed, at the end of the body.
        """
        lease = secrets.token_hex(8)

        async def take() -> None:
            if not self._is_indexed:
                await self._leases.create_indexes([IndexModel("owner"), IndexModel("until")])
                self._is_indexed = True
            fields = {"owner": self._owner, "collection": collection, "until": time.time() + _LEASE_SECONDS}
            await self._leases.update_one({"_id": lease}, {"$set": fields}, upsert=True)

        await self._server.run(take)
        self._held.add(lease)
        if self._renewal is None:
            self._renewal = Renewal(self._open_renew, seconds=_RENEW_SECONDS, end=self._note_end)
            self._renewal.start()
        try:
            yield lease
            if self._failure is not None:
                raise self._failure
        finally:
            self._held.discard(lease)
            if not self._held:
                await self.close()
            # It runs out by itself if the server is away now.
            with contextlib.suppress(EngineUnavailable):
                await self._server.run(lambda: self._leases.delete_one({"_id": lease}))

    async def check(self, lease: str) -> bool:
        """Whether the lease has held all the time: who finds it run out removes it, and it never comes back."""
        return await self._server.run(lambda: self._leases.find_one({"_id": lease})) is not None

    async def held_collections(self) -> set[str]:
        """Return what somebody who lives works on; leases that ran out are removed."""
        await self._server.run(lambda: self._leases.delete_many({"until": {"$lt": time.time()}}))
        rows: list[dict[str, Any]] = await self._server.run(lambda: self._leases.find({}).to_list(None))
        return {row["collection"] for row in rows}

    @asynccontextmanager
    async def _open_renew(self) -> AsyncIterator[Renew]:
        server = self._server.reopen()

        async def renew() -> None:
            until = {"$set": {"until": time.time() + _LEASE_SECONDS}}
            leases = server.database["documents.leases"]
            await server.run(lambda: leases.update_many({"owner": self._owner}, until))

        try:
            yield renew
        finally:
            await server.close()

    def _note_end(self, error: Exception) -> None:
        self._failure = error

    async def close(self) -> None:
        """Stop renewing."""
        renewal, self._renewal, self._failure = self._renewal, None, None
        if renewal is not None:
            await renewal.stop()
