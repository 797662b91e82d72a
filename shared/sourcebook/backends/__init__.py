"""Engines by URL scheme. An engine's file is imported only when a URL names it."""

from typing import Any

from sourcebook.errors import SettingsError
from sourcebook.ports.bus import Bus
from sourcebook.ports.documents import DocumentStore
from sourcebook.ports.files import FileStore
from sourcebook.ports.locks import Locks
from sourcebook.ports.search import SearchEngine
from sourcebook.ports.state import StateStore
from sourcebook.references import load_reference
from sourcebook.settings import Settings

_MONGO = ("mongodb", "mongodb+srv")
_REDIS = ("redis", "rediss", "redis+socket")
_OPENSEARCH = ("opensearch+http", "opensearch+https")
SCHEMES: dict[str, dict[str, str]] = {
    "broker_url": dict.fromkeys(("", *_REDIS), "sourcebook.backends.celery.bus:open_celery_bus"),
    "documents_url": {
        "lmdb": "sourcebook.backends.lmdb.documents:open_lmdb",
        **dict.fromkeys(_MONGO, "sourcebook.backends.mongo.documents:open_mongo_documents"),
    },
    "state_url": {
        "sqlite": "sourcebook.backends.sqlite.state:open_sqlite",
        **dict.fromkeys(_MONGO, "sourcebook.backends.mongo.state:open_mongo_state"),
    },
    "locks_url": {
        "sqlite": "sourcebook.backends.sqlite.locks:open_sqlite_locks",
        **dict.fromkeys(_REDIS, "sourcebook.backends.redis.locks:open_redis_locks"),
    },
    "search_url": {
        "tantivy": "sourcebook.backends.tantivy.search:open_tantivy",
        **dict.fromkeys(_OPENSEARCH, "sourcebook.backends.opensearch.search:open_opensearch"),
    },
    "files_url": {
        "file": "sourcebook.backends.local.files:open_local_files",
        "s3": "sourcebook.backends.s3.files:open_s3_files",
    },
}
"""The URL schemes that each setting takes, and what opens their engine. Files that repeat them are compared with this."""

# What an engine's file needs beyond Sourcebook itself -> the extra that installs it.
EXTRAS = {
    "motor": "mongo",
    "pymongo": "mongo",
    "bson": "mongo",
    "opensearchpy": "opensearch",
    "aiohttp": "opensearch",
    "s3fs": "s3",
    "aiobotocore": "s3",
    "botocore": "s3",
}


async def open_documents(settings: Settings) -> DocumentStore:
    """Open the document store of `SOURCEBOOK_DOCUMENTS_URL`."""
    store: DocumentStore = await _opener("documents_url", settings.documents_url)(settings)
    return store


async def open_state(settings: Settings) -> StateStore:
    """Open the state store of `SOURCEBOOK_STATE_URL`."""
    state: StateStore = await _opener("state_url", settings.state_url)(settings)
    return state


async def open_locks(settings: Settings) -> Locks:
    """Open the locks of `SOURCEBOOK_LOCKS_URL`: by default beside a SQLite state, else in the broker's Redis."""
    url = settings.locks_url
    if not url:
        url = settings.state_url if settings.state_url.startswith("sqlite:") else settings.celery_broker_url
    locks: Locks = await _opener("locks_url", url)(settings)
    return locks


async def open_search(settings: Settings, documents: DocumentStore) -> SearchEngine:
    """Open the search engine of `SOURCEBOOK_SEARCH_URL`; it may read hits from `documents`."""
    engine: SearchEngine = await _opener("search_url", settings.search_url)(settings, documents)
    return engine


async def open_files(settings: Settings) -> FileStore:
    """Open the file store of `SOURCEBOOK_FILES_URL`."""
    files: FileStore = await _opener("files_url", settings.files_url)(settings)
    return files


async def open_bus(settings: Settings) -> Bus:
    """Open the bus of `SOURCEBOOK_BROKER_URL`."""
    bus: Bus = await _opener("broker_url", settings.broker_url)(settings)
    return bus


def broker_transport_options() -> dict[str, Any]:
    """Return the options that workers must share with the Celery bus."""
    options: dict[str, Any] = load_reference("sourcebook.backends.celery.bus:TRANSPORT_OPTIONS")
    return options


def open_inline_bus() -> Any:
    """Make the bus that keeps its messages in this process."""
    return load_reference("sourcebook.backends.inline.bus:InlineBus")()


def _opener(setting: str, url: str) -> Any:
    aliases = SCHEMES[setting]
    scheme = url.partition(":")[0]
    target = aliases.get(scheme)
    if target is None:
        known = ", ".join(f"{name}:" for name in aliases if name)
        raise SettingsError(
            f"SOURCEBOOK_{setting.upper()} has the scheme {scheme!r}; known are {known}.",
            setting=setting,
            allowed=list(aliases),
        )
    try:
        return load_reference(target)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise SettingsError(
            f"SOURCEBOOK_{setting.upper()} names {scheme}:, which needs {error.name}: pip install 'sourcebook[{extra}]'",
            setting=setting,
            extra=extra,
        ) from error
