"""Locks in Redis or Valkey: a key with an expiry for each, changed by scripts that look and write in one step."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sourcebook.errors import EngineUnavailable, SettingsError
from sourcebook.logging import get_logger, hide_secrets
from sourcebook.settings import Settings

log = get_logger(__name__)

_PREFIX = "sourcebook:lock:"
_LONGEST_PAUSE_SECONDS = 1.0
_SECONDS = 5.0  # for an answer, or for a connection
# KEYS[1] the lock, ARGV[1] the owner, ARGV[2] milliseconds. A lock that is not there is free.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) else redis.call('DEL', KEYS[1]) end
return 1
"""
_GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisLocks:
    """The locks port on Redis; expiries are by the server's clock."""

    def __init__(self, url: str, patience: timedelta) -> None:
        self._url = hide_secrets(url)
        self._patience = patience.total_seconds()
        self._held: set[tuple[str, str]] = set()
        seconds = min(self._patience, _SECONDS)
        try:
            self._client: Any = redis.from_url(
                _client_url(url),
                socket_timeout=seconds,
                socket_connect_timeout=seconds,
                retry=Retry(NoBackoff(), 0),  # `_run` tries again; the library's own tries would multiply the patience
                decode_responses=True,
            )
        except ValueError:  # its text may quote a part of the password
            raise SettingsError(
                "The URL of the locks is not that of a Redis server: write redis://:password@host:6379/0, or rediss://... for "
                "TLS; characters such as / : @ % in a password are written as %2F %3A %40 %25.",
                setting="locks_url",
            ) from None

    async def acquire(self, name: str, owner: str, ttl: timedelta) -> bool:
        taken = await self._take(name, owner, ttl)
        if taken:
            self._held.add((name, owner))
        return taken

    async def renew(self, name: str, owner: str, ttl: timedelta) -> bool:
        # A lock of ours that is gone and that nobody took since was lost with a server that restarted: it is ours still.
        return (name, owner) in self._held and await self._take(name, owner, ttl)

    async def _take(self, name: str, owner: str, ttl: timedelta) -> bool:
        milliseconds = int(ttl.total_seconds() * 1000)
        return bool(await self._run(lambda: self._client.eval(_TAKE, 1, _PREFIX + name, owner, milliseconds)))

    async def release(self, name: str, owner: str) -> None:
        self._held.discard((name, owner))
        await self._run(lambda: self._client.eval(_GIVE_BACK, 1, _PREFIX + name, owner))

    async def holder(self, name: str) -> str | None:
        owner: str | None = await self._run(lambda: self._client.get(_PREFIX + name))
        return owner

    async def close(self) -> None:
        await self._client.aclose()

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Await `call()`, again and again while the server is away; each of ours may be repeated."""
        deadline, pause = time.monotonic() + self._patience, 0.05
        while True:
            try:
                return await call()
            except (AuthenticationError, AuthorizationError) as error:
                raise self._refused(error) from error
            except (RedisConnectionError, RedisTimeoutError) as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise self._not_trusted() from error
                log.warning("locks_away", url=self._url, problem=hide_secrets(str(error)))
                if time.monotonic() + pause >= deadline:
                    raise self._unavailable(error) from error
            except ResponseError as error:
                raise (self._refused if _is_refusal(error) else self._unavailable)(error) from error
            except RedisError as error:
                raise self._unavailable(error) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _refused(self, error: RedisError) -> SettingsError:
        return SettingsError(
            f"Redis at {self._url} refuses the login ({hide_secrets(str(error))}): check user and password in "
            "SOURCEBOOK_LOCKS_URL, or in SOURCEBOOK_BROKER_URL if that is not set.",
            url=self._url,
        )

    def _not_trusted(self) -> SettingsError:
        return SettingsError(
            f"The certificate of Redis at {self._url} is not trusted: add ssl_ca_certs=/path/of/the/authority.pem to "
            "SOURCEBOOK_LOCKS_URL, or to SOURCEBOOK_BROKER_URL if that is not set, or name the host as the certificate does.",
            url=self._url,
        )

    def _unavailable(self, error: RedisError) -> EngineUnavailable:
        return EngineUnavailable(
            f"Redis at {self._url}, which keeps the locks, does not answer ({hide_secrets(str(error))}). Check that it runs and "
            "that SOURCEBOOK_LOCKS_URL, or SOURCEBOOK_BROKER_URL if that is not set, names it.",
            url=self._url,
            engine="Redis",
        )


def _is_refusal(error: ResponseError) -> bool:
    return str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM"))


def _client_url(url: str) -> str:
    """Return what redis-py calls the URL: for a socket, Celery writes `redis+socket://` and redis-py `unix://`."""
    return url.replace("redis+socket://", "unix://", 1)


async def open_redis_locks(settings: Settings) -> RedisLocks:
    """Open the locks of `SOURCEBOOK_LOCKS_URL`, or of the broker's Redis; they connect at the first call."""
    return RedisLocks(settings.locks_url or settings.celery_broker_url, settings.engine_patience)
