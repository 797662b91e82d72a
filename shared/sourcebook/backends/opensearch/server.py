"""An OpenSearch cluster as the search engine uses it: opened from a URL, with errors that say what to do.

    opensearch+https://user:password@host:9200/prefix?ca_certs=/path/authority.pem&path=/behind/a/proxy

`prefix` begins the name of every index, so that several installations share a cluster; the default is `sourcebook`. Several nodes
are written `host1:9200,host2:9200`: what one does not answer, another is asked.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from opensearchpy import AIOHttpConnection, AsyncOpenSearch
from opensearchpy._async.http_aiohttp import OpenSearchClientResponse
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import ConnectionTimeout, SerializationError, TransportError
from opensearchpy.serializer import Serializer

from sourcebook.errors import EngineUnavailable, SettingsError
from sourcebook.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

OLDEST_VERSION = (2, 0)
_SETTING = "SOURCEBOOK_SEARCH_URL"
_EXAMPLE = "opensearch+https://user:password@host:9200/prefix"
_DEFAULT_PREFIX = "sourcebook"
_DEFAULT_PORT = 9200
_PREFIX = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}\Z")
_OPTIONS = {"ca_certs", "path"}
_CONNECTIONS = 32
_REQUEST_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 4.0
_JSON = {"content-type": "application/json"}
_BAD_REQUEST, _LOGIN, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _TOO_MANY = 400, 401, 403, 404, 413, 429
# What the caller knows best how to explain.
_REFUSALS = {_BAD_REQUEST, _NOT_FOUND, 405, 409, _TOO_LARGE}
_BLOCKED = "cluster_block_exception"
# What the TLS and HTTP libraries say when they are spoken to in the other's language.
_NO_TLS = ("wrong_version_number", "record layer failure", "wrong version number")
_NO_HTTP = ("disconnected", "expected http", "invalid http", "bad status line", "400, message")
_TOO_BROAD = {"too_many_buckets_exception", "too_many_clauses", "too_many_nested_clauses"}


class RefusedRequest(Exception):
    """The cluster understood who asks, and says no to what is asked."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.status = status
        self.kind = kind
        self.reason = reason


class AnswerTooLarge(Exception):
    """The answer has more bytes than whoever asked wants to read."""


_TOO_MANY_BYTES = "too many bytes"
_max_bytes: ContextVar[int | None] = ContextVar("max_bytes", default=None)


class _BoundedResponse(OpenSearchClientResponse):
    """Stops reading where the answer is larger than is wanted: nobody knows how large documents are before they come."""

    async def read(self) -> bytes:
        most = _max_bytes.get()
        if most is None:
            return bytes(await super().read())
        chunks, size = [], 0
        async for chunk in self.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                self.close()
                chunks = [_TOO_MANY_BYTES.encode()]
                break
        body = self._body = b"".join(chunks)
        return body


class _BoundedConnection(AIOHttpConnection):
    """Reads bounded answers. The client has no other way to say so: an exception would mark the node as dead."""

    async def _create_aiohttp_session(self) -> None:
        await super()._create_aiohttp_session()
        self.session._response_class = _BoundedResponse  # noqa: SLF001


class ServerAddress(NamedTuple):
    """What a URL says."""

    hosts: tuple[tuple[str, int], ...]
    is_tls: bool
    login: tuple[str, str] | None
    prefix: str
    path: str
    ca_certs: str | None

    @property
    def shown(self) -> str:
        """The address without user and password."""
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{'https' if self.is_tls else 'http'}://{nodes}{self.path}"


class _Untouched(Serializer):
    """Leaves JSON as it is: requests are bytes already, and answers are decoded where it is known what is in them."""

    mimetype = "application/json"

    def dumps(self, data: Any) -> Any:
        return data

    def loads(self, data: Any) -> Any:
        return data


class OpenSearchServer:
    """A client of one cluster. It connects at the first call, in the loop that makes it."""

    def __init__(self, url: str, patience: timedelta) -> None:
        self.address = read_url(url)
        self._patience = patience.total_seconds()
        self._is_known = False
        address = self.address
        self._client: Any = AsyncOpenSearch(
            connection_class=_BoundedConnection,
            hosts=[{"host": host, "port": port, "url_prefix": address.path} for host, port in address.hosts],
            http_auth=address.login,
            use_ssl=address.is_tls,
            ca_certs=address.ca_certs,
            serializer=_Untouched(),
            maxsize=_CONNECTIONS,
            # Another node is asked at once, which costs no patience; trying the same one again is `insist`'s.
            max_retries=len(address.hosts) - 1,
            retry_on_status=(),
            timeout=_REQUEST_SECONDS,
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        seconds: float = _REQUEST_SECONDS,
        max_bytes: int | None = None,
        **params: Any,
    ) -> str:
        """Return the JSON of an answer; `body` is bytes or what becomes JSON.

        Raises:
            AnswerTooLarge: it has more than `max_bytes`; no more than that was read.
            EngineUnavailable: the cluster does not answer, or cannot do its work.
            RefusedRequest: the request is wrong, or what it names is not there.
        """
        if not self._is_known:
            await self._meet()
        if max_bytes is None:
            return await self._send(method, path, body, seconds, params)
        token = _max_bytes.set(max_bytes)
        try:
            text = await self._send(method, path, body, seconds, params)
        finally:
            _max_bytes.reset(token)
        if text == _TOO_MANY_BYTES:
            raise AnswerTooLarge
        return text

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()`, again and again while the cluster is away or overloaded, as long as `engine_patience` says.

        A call may have been carried out although its answer was lost: it must bear to be repeated.
        """
        deadline, pause = 0.0, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await call()
            except EngineUnavailable as error:
                now = time.monotonic()
                deadline = deadline or now + self._patience
                if now >= deadline or not error.details.get("passing"):
                    raise
                log.warning("opensearch_away", address=self.address.shown, problem=error.message)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def close(self) -> None:
        """Close every connection."""
        # The client forgets those of nodes that did not answer.
        for connection in getattr(self._client.transport.connection_pool, "orig_connections", ()):
            await connection.close()
        await self._client.close()

    async def _send(self, method: str, path: str, body: Any, seconds: float, params: dict[str, Any]) -> str:
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        try:
            answer: Any = await self._client.transport.perform_request(
                method, path, params={**params, "request_timeout": seconds}, body=data, headers=_JSON
            )
        except TransportError as error:
            raise self._explain(error) from error
        except (UnicodeDecodeError, SerializationError) as error:
            raise self._is_no_opensearch() from error
        return str(answer or "")

    async def _meet(self) -> None:
        """Ask once who answers: an older version, or another program, would fail later and less clearly."""
        try:
            about = orjson.loads(await self._send("GET", "/", None, _REQUEST_SECONDS, {}))
            version, distribution = str(about["version"]["number"]), about["version"].get("distribution")
            numbers = tuple(int(part) for part in version.split(".")[:2])
        except RefusedRequest as error:
            raise self._is_no_opensearch() from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._is_no_opensearch() from error
        wanted = f"Sourcebook needs OpenSearch {OLDEST_VERSION[0]}.{OLDEST_VERSION[1]} or newer"
        if distribution != "opensearch":
            raise EngineUnavailable(
                f"{self.address.shown} is Elasticsearch {version} or another program; {wanted}. Correct {_SETTING}.",
                address=self.address.shown,
            )
        if numbers < OLDEST_VERSION:
            raise EngineUnavailable(
                f"{self.address.shown} is OpenSearch {version}; {wanted}. Upgrade it (or turn off its setting "
                "compatibility.override_main_response_version, which has it name an old version).",
                address=self.address.shown,
                version=version,
            )
        self._is_known = True

    def _is_no_opensearch(self) -> EngineUnavailable:
        return EngineUnavailable(
            f"What answers at {self.address.shown} is not OpenSearch. Correct {_SETTING}: {_EXAMPLE}.",
            address=self.address.shown,
        )

    def _explain(self, error: TransportError) -> Exception:
        if isinstance(error, NoConnection):
            return self._explain_connection(error)
        return self.explain(int(error.status_code), error.info)

    def explain(self, status: int, info: Any) -> Exception:
        """Return the error for a status that is none of success, and what came with it."""
        kind, reason = read_problem(info)
        if kind == _BLOCKED:
            return self.explain_block(reason)
        if kind in _TOO_BROAD:
            return RefusedRequest(_BAD_REQUEST, kind, reason)
        if status in _REFUSALS:
            return RefusedRequest(status, kind, reason)
        where = f"OpenSearch at {self.address.shown}"
        if status == _LOGIN:
            return EngineUnavailable(
                f"{where} refuses the user or the password of {_SETTING} (401). Characters such as / : @ % # in a password "
                "are written as %2F %3A %40 %25 %23.",
                address=self.address.shown,
            )
        if status == _FORBIDDEN:
            return EngineUnavailable(
                f"{where} does not allow the user of {_SETTING} what Sourcebook does ({reason}). Give it all rights on the "
                f"indices {self.address.prefix}~*.",
                address=self.address.shown,
            )
        return self._explain_trouble(status, kind, reason)

    def _explain_trouble(self, status: int, kind: str, reason: str) -> EngineUnavailable:
        where = f"OpenSearch at {self.address.shown}"
        if status == _TOO_MANY:
            what = f"{where} is overloaded (429: {reason}). Try again later, or give it more memory or nodes."
        elif "shard" in kind or "shard" in reason:
            what = (
                f"{where} misses a part of the index (status red: {reason}). GET /_cluster/allocation/explain says why; start "
                "the missing node, or release the build again."
            )
        else:
            what = f"{where} could not do its work ({status} {kind}: {reason})."
        return EngineUnavailable(what, address=self.address.shown, passing=True, engine="OpenSearch")

    def explain_block(self, reason: str) -> EngineUnavailable:
        """Return the error for an index or a cluster that takes no writes."""
        if "disk usage" in reason or "read-only-allow-delete" in reason or "read-only / allow delete" in reason:
            advice = "Its disk is nearly full: free some space or add a node; OpenSearch then accepts writes again"
        else:
            advice = "GET /_cluster/settings and the index's settings show who set the block; remove it"
        return EngineUnavailable(
            f"OpenSearch at {self.address.shown} is read-only ({reason}). {advice}. Nothing is lost: run the job again.",
            address=self.address.shown,
            passing=True,
        )

    def _explain_connection(self, error: NoConnection) -> EngineUnavailable:
        # What aiohttp says never holds the login: that travels in a header.
        problem, where = str(error.error), f"OpenSearch at {self.address.shown}"
        lowered, is_passing = problem.lower(), False
        if isinstance(error, ConnectionTimeout):
            what, is_passing = f"{where} did not answer in time.", True
        elif "certificate" in lowered and "verify failed" in lowered.replace("_", " "):
            what = (
                f"The certificate of {where} is not trusted: add ?ca_certs=/path/of/the/authority.pem to {_SETTING}, or name the "
                "host as the certificate does."
            )
        elif self.address.is_tls and any(sign in lowered for sign in _NO_TLS):
            what = f"What answers at {self.address.shown} does not speak TLS: write opensearch+http:// in {_SETTING}."
        elif not self.address.is_tls and any(sign in lowered for sign in _NO_HTTP):
            what = f"{where} closes the connection. If it speaks TLS, write opensearch+https:// in {_SETTING}."
            is_passing = True
        else:
            what = f"{where} does not answer ({problem}). Check that it runs and that {_SETTING} names it."
            is_passing = True
        return EngineUnavailable(what, address=self.address.shown, passing=is_passing, engine="OpenSearch")


def read_problem(info: Any) -> tuple[str, str]:
    """Return the kind of an error, and the reason that lies deepest: that one names the value or the setting."""
    error = info.get("error") if isinstance(info, dict) else info
    if not isinstance(error, dict):
        return "", str(error or "")[:300]
    causes = error.get("root_cause") or [error]
    first = causes[0] if isinstance(causes[0], dict) else error
    kind, reason = str(first.get("type", "")), str(first.get("reason", ""))
    inner = error.get("caused_by")
    outer = {kind, str(error.get("type", ""))}
    for name in ("too_many_buckets_exception", "too_many_clauses", "too_many_nested_clauses"):
        if isinstance(inner, dict) and inner.get("type") == name:
            return name, str(inner.get("reason", reason))
        if name in outer:
            return name, reason
    return kind or str(error.get("type", "")), reason or str(error.get("reason", ""))


def read_url(url: str) -> ServerAddress:
    """Return what a URL of the setting says.

    Raises:
        SettingsError: it is not such a URL; the message does not quote it, since a part of it may be a password.
    """
    try:
        parts = urlsplit(url)
        hosts = tuple(_read_host(text) for text in parts.netloc.rpartition("@")[2].split(","))
        options = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError:
        raise _wrong_url("it cannot be read") from None
    if not all(host for host, _ in hosts):
        raise _wrong_url("it names no host")
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown or parts.fragment:
        raise _wrong_url("it has other options than ca_certs and path, or a # that is not written as %23")
    prefix = parts.path.strip("/") or _DEFAULT_PREFIX
    if not _PREFIX.match(prefix):
        raise _wrong_url("the prefix may have small letters, digits, '_', '-' and '.', 50 at most")
    ca_certs = options.get("ca_certs")
    if ca_certs is not None and not Path(ca_certs).exists():
        raise _wrong_url(f"there is no file {ca_certs}")
    path = options.get("path", "").strip("/")
    login = (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username else None
    return ServerAddress(hosts, parts.scheme.endswith("+https"), login, prefix, f"/{path}" if path else "", ca_certs)


def _read_host(text: str) -> tuple[str, int]:
    """Return host and port of one node; the host is empty where the text has none."""
    parts = urlsplit(f"//{text.strip()}")
    return parts.hostname or "", parts.port or _DEFAULT_PORT


def _wrong_url(problem: str) -> SettingsError:
    return SettingsError(
        f"{_SETTING} is not the URL of an OpenSearch server: {problem}. It is written {_EXAMPLE}; characters like / : @ % # in "
        "a password are written as %2F %3A %40 %25 %23.",
        setting="search_url",
    )
