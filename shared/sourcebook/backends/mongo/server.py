"""A MongoDB server as both ports use it: opened from a URL, patient while it is away, with errors that say what to do."""

import asyncio
import time
import warnings
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidName,
    OperationFailure,
    PyMongoError,
)

from sourcebook.errors import DocumentError, EngineUnavailable, SettingsError, SourcebookError
from sourcebook.logging import get_logger, hide_secrets
from sourcebook.settings import Settings

log = get_logger(__name__)

T = TypeVar("T")

_DEFAULT_DATABASE = "sourcebook"
_WRONG_LOGIN = {18, 8000}  # AuthenticationFailed, and what Atlas says
_NOT_ALLOWED = 13
_LONGEST_PAUSE_SECONDS = 1.0
_SELECTION_SECONDS = 5.0
_CONNECT_SECONDS = 10.0


class MongoServer:
    """A client of one database. It connects at the first call, in the loop that made it."""

    def __init__(self, setting: str, url: str, patience: timedelta) -> None:
        self._setting = f"SOURCEBOOK_{setting.upper()}"
        self._url, self._given_patience = url, patience
        self._patience = patience.total_seconds()
        self._hosts = _hosts(url)
        options = self._options(url)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # pymongo ignores an option it does not understand, such as tls=yes
                self._client: Any = AsyncIOMotorClient(url, io_loop=asyncio.get_running_loop(), **options)
            database = self._client.get_default_database(_DEFAULT_DATABASE)
        # What pymongo says of a URL may quote a part of its password.
        except (ConfigurationError, InvalidName, ValueError, TypeError, Warning):
            raise SettingsError(
                f"{self._setting} is not the URL of a MongoDB server, or has an option that MongoDB does not know. It must be "
                "mongodb://user:password@host:27017/database, or mongodb+srv://...; characters such as / : @ % in a password "
                "are written as %2F %3A %40 %25.",
                setting=setting,
            ) from None
        # Pointers are read where they are written, and what was acknowledged survives a change of the primary.
        concern = WriteConcern() if {"w", "journal"} & _query_options(url) else WriteConcern(w="majority")
        self.database: Any = database.with_options(read_preference=ReadPreference.PRIMARY, write_concern=concern)

    def _options(self, url: str) -> dict[str, Any]:
        milliseconds = int(self._patience * 1000)
        wanted = {
            "appname": "sourcebook",
            "serverselectiontimeoutms": min(milliseconds, int(_SELECTION_SECONDS * 1000)),
            "connecttimeoutms": min(milliseconds, int(_CONNECT_SECONDS * 1000)),
            "sockettimeoutms": milliseconds,
            "retryreads": False,  # `run` tries again; the driver's own second try would double the patience
        }
        given = _query_options(url)
        return {name: value for name, value in wanted.items() if name not in given}

    def reopen(self) -> "MongoServer":
        """Return another client of the same database, for the loop that runs now."""
        return MongoServer(self._setting.removeprefix("SOURCEBOOK_").lower(), self._url, self._given_patience)

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()`, again and again while the server is away, as long as `engine_patience` says.

        A call may have been carried out although its answer was lost: it must bear to be repeated.

        Raises:
            EngineUnavailable: the server does not answer, or cannot do its work.
            SettingsError: it refuses the user or the password, or its certificate is not trusted.
            DuplicateKeyError, BulkWriteError: as they are, the caller knows what they mean.
        """
        deadline, pause = time.monotonic() + self._patience, 0.05
        while True:
            try:
                return await call()
            except ConnectionFailure as error:
                log.warning("mongodb_away", hosts=self._hosts, problem=_problem(error))
                if time.monotonic() + pause >= deadline or "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise self._explain(error) from error
            except DuplicateKeyError:
                raise
            except DocumentTooLarge as error:
                raise _too_large(error) from error
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and (error.details or {}).get("writeErrors"):
                    raise
                raise self._explain(error) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _explain(self, error: PyMongoError) -> SourcebookError:
        code = error.code if isinstance(error, OperationFailure) else None
        if code in _WRONG_LOGIN:
            return SettingsError(
                f"MongoDB at {self._hosts} refuses the login of {self._setting}: check user, password and authSource.",
                hosts=self._hosts,
            )
        if code == _NOT_ALLOWED:
            return SettingsError(
                f"MongoDB at {self._hosts} does not allow what Sourcebook does ({_problem(error)}): put a user and a password "
                f"into {self._setting} that have the role readWrite on the database {self.database.name!r}.",
                hosts=self._hosts,
            )
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return SettingsError(
                f"The certificate of MongoDB at {self._hosts} is not trusted: add tlsCAFile=/path/of/the/authority.pem to "
                f"{self._setting}.",
                hosts=self._hosts,
            )
        if isinstance(error, ConnectionFailure):
            return EngineUnavailable(
                f"MongoDB at {self._hosts} does not answer ({_problem(error)}). Check that it runs and that {self._setting} "
                "names it.",
                hosts=self._hosts,
                engine="MongoDB",
            )
        return EngineUnavailable(
            f"MongoDB at {self._hosts} could not do its work: {_problem(error)}.", hosts=self._hosts, engine="MongoDB"
        )

    async def close(self) -> None:
        """Close every connection; the driver says goodbye to the server first, which blocks."""
        await asyncio.to_thread(self._client.close)


def _too_large(error: DocumentTooLarge) -> DocumentError:
    return DocumentError(
        f"MongoDB holds documents of at most 16 MB: {error}. Split the document, or use the LMDB store."
    )


def _problem(error: Exception) -> str:
    """Return the first sentence of what the driver says; the rest lists timeouts and its view of every server."""
    text = str(error).partition(" (configured timeouts")[0].partition(", Timeout:")[0].partition(", full error")[0]
    return hide_secrets(text).rstrip(".")


def _hosts(url: str) -> str:
    netloc = url.partition("://")[2].partition("/")[0].partition("?")[0]
    return netloc.rpartition("@")[2]


def _query_options(url: str) -> set[str]:
    return {name.lower() for name in parse_qs(url.partition("?")[2], keep_blank_values=True)}


def open_mongo_server(settings: Settings, setting: str) -> MongoServer:
    """Return the server that the setting named `setting` holds the URL of."""
    return MongoServer(setting, getattr(settings, setting), settings.engine_patience)
