"""Keeps other sites' pages away from a hub on loopback (DNS rebinding, cross-site requests), and tricks out of paths.

A browser will send requests to 127.0.0.1 for any page that asks. A page cannot forge `Host` or `Origin`, nor send JSON to
another site without asking first (CORS preflight), and the hub never answers that it may.
"""

import ipaddress
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from sourcebook_api.errors import error_response
from sourcebook_api.query.answer import CONTENT_POLICY

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not listened on
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({b"same-origin", b"none"})
_OPEN_PATHS = ("/health/", "/metrics")  # probes come by any name; they tell numbers alone and change nothing
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CONTENT_POLICY),
]


class HubGuard:
    """Refuses requests that come from a web page of another site.

    `host` is the address that the gateway listens on; `names` are others by which people call it, separated by commas.
    """

    def __init__(self, app: ASGIApp, *, host: str, names: str = "") -> None:
        self._app = app
        self._host = host.strip("[]").lower()
        self._names = _LOOPBACK | {self._host} | {name.strip().lower() for name in names.split(",") if name.strip()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        problem = self._find_problem(scope)
        if problem is not None:
            status, code, message = problem
            await error_response(scope, status, code, message)(scope, receive, send)
            return

        async def send_guarded(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]  # type: ignore[misc]
            await send(message)

        await self._app(scope, receive, send_guarded)  # type: ignore[arg-type]

    def _find_problem(self, scope: Scope) -> tuple[int, str, str] | None:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._knows(host):
            return 421, "unknown_host", f"The hub does not answer to the name {host!r}: use its address, or localhost."
        if _is_trick(scope["path"]):
            return 422, "invalid_name", "A name in the path has `..` or a control character in it."
        if scope["method"] in _SAFE_METHODS:
            return None
        if headers.get(b"sec-fetch-site", b"none") not in _SAME_SITE:
            return 403, "forbidden", "Requests from pages of other sites are refused."
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
            return 403, "forbidden", "Requests from pages of other sites are refused."
        body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if body and media != b"application/json" and not media.endswith(b"+json"):
            return 415, "unsupported_media_type", "Send the body as application/json."
        return None

    def _knows(self, host: str) -> bool:
        name = _host_name(host)
        if name in self._names:
            return True
        # Listening on every address, any of them may be in the URL; a page cannot rebind a bare address.
        return self._host in _ANY_ADDRESS and _is_address(name)


def _is_trick(path: str) -> bool:
    """Whether a decoded path has something in it that no name has: a way out of a folder, or a control character."""
    return not path.isprintable() or not {".", ".."}.isdisjoint(path.split("/"))


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
