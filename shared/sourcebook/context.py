"""The composition root: opens the engines that the settings name, and closes them."""

import dataclasses
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sourcebook.backends import open_bus, open_documents, open_files, open_locks, open_search, open_state
from sourcebook.home import prepare_home
from sourcebook.hub.access.model import Caller
from sourcebook.ports.bus import Bus
from sourcebook.ports.documents import DocumentStore
from sourcebook.ports.files import FileStore
from sourcebook.ports.locks import Locks
from sourcebook.ports.search import SearchEngine
from sourcebook.ports.state import StateStore
from sourcebook.settings import Settings

# Stages hold many records and make hardly any cycles: Python's own threshold has it look for those all the time.
_GARBAGE_THRESHOLD = 50_000


@dataclass(frozen=True, slots=True)
class Context:
    """What business code works with."""

    settings: Settings
    state: StateStore
    documents: DocumentStore
    search: SearchEngine
    files: FileStore
    locks: Locks
    bus: Bus
    caller: Caller
    """Who asks: it is recorded with every job that is started in this context."""

    def asked_by(self, caller: Caller) -> Self:
        """Return the same engines, to work with in the name of `caller`."""
        return dataclasses.replace(self, caller=caller)

    def scratch_folder(self, job_id: str) -> Path:
        """Return (and make) the local folder for temporary files of a job; `worker` removes it when the job ends."""
        folder = self.settings.home / "scratch" / job_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@asynccontextmanager
async def open_context(settings: Settings, caller: Caller, *, bus: Bus | None = None) -> AsyncIterator[Context]:
    """Open every engine for `caller`; `bus` replaces the one the settings name (to run jobs in this process)."""
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 50)
    prepare_home(settings.home)
    async with AsyncExitStack() as stack:
        state = await open_state(settings)
        stack.push_async_callback(state.close)
        locks = await open_locks(settings)
        stack.push_async_callback(locks.close)
        documents = await open_documents(settings)
        stack.push_async_callback(documents.close)
        search = await open_search(settings, documents)
        stack.push_async_callback(search.close)
        chosen_bus = bus or await open_bus(settings)
        stack.push_async_callback(chosen_bus.close)
        yield Context(settings, state, documents, search, await open_files(settings), locks, chosen_bus, caller)
