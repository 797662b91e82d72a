"""Redirects from outside to this machine and its network are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sourcebook.errors import DownloadRefused
from sourcebook.redirects import Reach, RedirectGuard, find_reach, is_loopback

NAMES = {
    "public.example": ["93.184.216.34"],
    "other.example": ["2606:2800:220:1::1"],
    "inside.example": ["93.184.216.34", "10.0.0.7"],
    "intranet.example": ["192.168.1.5"],
    "rebound.example": ["93.184.216.34"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, _port: int) -> list[str]:
        return NAMES.get(host, [host] if host[0].isdigit() or ":" in host else [])

    monkeypatch.setattr("sourcebook.redirects.resolve", resolve)
    monkeypatch.setattr("sourcebook.redirects.getproxies", dict)


class Peer:
    """The connection of an answer."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return (self.address, 80)


def follow(*urls: str, peers: dict[str, str] | None = None, **options: Any) -> list[httpx.Request]:
    """Ask the first URL, be redirected through the others, and return the requests that were sent."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        place = len(sent)
        peer = (peers or {}).get(request.url.host)
        extensions = {"network_stream": Peer(peer)} if peer else {}
        if place < len(urls):
            return httpx.Response(302, headers={"Location": urls[place]}, extensions=extensions)
        return httpx.Response(200, text="data", extensions=extensions)

    async def main() -> None:
        guard = RedirectGuard(**{"allow_private": False, **options})
        hooks: dict[str, list[Any]] = {"request": [guard.before_request], "response": [guard.after_response]}
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(transport=transport, follow_redirects=True, event_hooks=hooks) as client:
            await client.get(urls[0])

    asyncio.run(main())
    return sent


@pytest.mark.parametrize(
    "inward",
    [
        "http://127.0.0.1:8000/hub",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.1.2.3/",
        "http://inside.example/",
        "http://intranet.example/",
    ],
)
def test_a_redirect_from_outside_to_this_machine_or_its_network_is_refused_before_it_is_asked(inward: str) -> None:
    for between in ((), ("http://other.example/",)):
        sent = []
        with pytest.raises(DownloadRefused, match="SOURCEBOOK_REDIRECTS_TO_PRIVATE") as caught:
            sent = follow("http://public.example/a?token=hunter2", *between, inward)
        assert sent == []
        assert "hunter2" not in caught.value.message


def test_a_name_that_resolves_differently_when_it_is_asked_is_refused() -> None:
    peers = {"public.example": "93.184.216.34", "rebound.example": "127.0.0.1"}
    with pytest.raises(DownloadRefused, match=r"127\.0\.0\.1"):
        follow("http://public.example/", "http://rebound.example/", peers=peers)


def test_redirects_that_stay_where_they_are_or_lead_out_are_followed() -> None:
    assert len(follow("http://public.example/", "https://other.example/", "http://public.example/b")) == 3
    assert len(follow("http://127.0.0.1:1/", "http://127.0.0.1:2/", "http://intranet.example/")) == 3
    assert len(follow("http://intranet.example/", "http://10.0.0.1/", "http://public.example/")) == 3


def test_a_way_out_and_in_again_is_no_way_in() -> None:
    with pytest.raises(DownloadRefused):
        follow("http://127.0.0.1:1/", "http://public.example/", "http://127.0.0.1:2/")
    with pytest.raises(DownloadRefused):
        follow("http://intranet.example/", "http://127.0.0.1/")


def test_a_setting_allows_them_all() -> None:
    assert len(follow("http://public.example/", "http://127.0.0.1/", allow_private=True)) == 2


def test_private_headers_stay_with_the_server_they_are_for() -> None:
    sent: list[httpx.Request] = []

    async def main() -> None:
        guard = RedirectGuard(allow_private=False, private_headers=("X-Key",))
        hooks: dict[str, list[Any]] = {"request": [guard.before_request], "response": [guard.after_response]}

        def answer(request: httpx.Request) -> httpx.Response:
            sent.append(request)
            targets = {1: "/b", 2: "http://other.example/c"}
            where = targets.get(len(sent))
            return httpx.Response(302, headers={"Location": where}) if where else httpx.Response(200)

        transport = httpx.MockTransport(answer)
        headers = {"X-Key": "s3cret"}
        async with httpx.AsyncClient(
            transport=transport, follow_redirects=True, event_hooks=hooks, headers=headers
        ) as client:
            await client.get("http://public.example/a")

    asyncio.run(main())
    assert ["x-key" in request.headers for request in sent] == [True, True, False]


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("172.16.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("127.8.9.1", Reach.LOCAL),
        ("0.0.0.0", Reach.LOCAL),
        ("fe80::1%eth0", Reach.LOCAL),
        ("::ffff:10.0.0.1", Reach.PRIVATE),
    ],
)
def test_an_address_can_be_reached_from(address: str, reach: Reach) -> None:
    assert find_reach(address) is reach


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("box.lan", False)],
)
def test_only_loopback_is_out_of_reach_for_others(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here
