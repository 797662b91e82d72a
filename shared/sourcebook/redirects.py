"""Watches where servers redirect to: what comes from outside must not lead to this machine or into its network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from sourcebook.errors import DownloadRefused
from sourcebook.logging import hide_secrets

if TYPE_CHECKING:
    import httpx  # only who downloads has it: the extras of the dumper and the builder

_PORTS = {"http": 80, "https": 443}


class Reach(IntEnum):
    """From where an address can be reached: the higher, the more a server behind it trusts who asks."""

    PUBLIC = 0
    PRIVATE = 1
    """A private network, or another range that is not routed on the internet."""
    LOCAL = 2
    """This machine, or its link; clouds tell a machine's secrets there."""


def find_reach(address: str) -> Reach:
    """Return from where an IP address can be reached.

    >>> find_reach("10.1.2.3").name
    'PRIVATE'
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None) or parsed
    if ip.is_loopback or ip.is_link_local or ip.is_unspecified:
        return Reach.LOCAL
    return Reach.PUBLIC if ip.is_global else Reach.PRIVATE


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`, as far as that can be said without asking DNS."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host; none if its name is not known."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(item[4][0]) for item in found]


class RedirectGuard:
    """Hooks for an httpx client that follows redirects.

    A redirect may lead to where the server before it could be reached from, or further out, never further in: by what its
    name resolves to before it is asked, and by the address that answered in the end (a name can resolve differently twice).

    Args:
        allow_private: look at no address.
        private_headers: names of headers that only the server of the first request may see.
    """

    def __init__(self, *, allow_private: bool, private_headers: Sequence[str] = ()) -> None:
        self._allow_private = allow_private
        self._private_headers = private_headers
        self._proxies = getproxies()

    async def before_request(self, request: httpx.Request) -> None:
        """Take the private headers out of a request to another server.

        Raises:
            DownloadRefused: the request leads further in than the one before it.
        """
        origin = (request.url.scheme, request.url.host, request.url.port)
        if request.extensions.setdefault("first_origin", origin) != origin:
            for name in self._private_headers:
                request.headers.pop(name, None)
        allowed = request.extensions.get("allowed_reach")
        if allowed is not None:
            port = request.url.port or _PORTS.get(request.url.scheme, 0)
            self._check(request, await resolve(request.url.host, port), allowed)

    async def after_response(self, response: httpx.Response) -> None:
        """Note how far in the server is that answered, for the redirect that may follow.

        Raises:
            DownloadRefused: it is further in than the server that redirected to it.
        """
        if self._allow_private:
            return
        request = response.request
        addresses = await self._addresses(response)
        allowed = request.extensions.get("allowed_reach")
        if allowed is not None:
            self._check(request, addresses, allowed)
        reach = max((find_reach(address) for address in addresses), default=Reach.PUBLIC)
        # httpx gives the next request of a redirect the extensions of this one.
        request.extensions["allowed_reach"] = reach if allowed is None else min(reach, allowed)

    async def _addresses(self, response: httpx.Response) -> list[str]:
        url = response.request.url
        stream: Any = response.extensions.get("network_stream")
        peer = stream.get_extra_info("server_addr") if stream is not None else None
        if peer and url.scheme not in self._proxies and "all" not in self._proxies:  # else it is the proxy's
            return [str(peer[0])]
        return await resolve(url.host, url.port or _PORTS.get(url.scheme, 0))

    def _check(self, request: httpx.Request, addresses: list[str], allowed: Reach) -> None:
        for address in addresses:
            if find_reach(address) > allowed:
                shown = hide_secrets(str(request.url))
                raise DownloadRefused(
                    f"{shown}: a server redirects to {address}, an address of this machine or its network. Name the address in "
                    "the manifest itself if it is right, or set SOURCEBOOK_REDIRECTS_TO_PRIVATE=true.",
                    url=shown,
                    address=address,
                )
