"""Which of the host's own addresses port forwards listen on: what the operator says, or what can be seen."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from panel.engines.incus.client import Client
from panel.engines.incus.networks import Interface
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

KEPT_SECONDS = 60.0
RESOLVE_SECONDS = 5.0
FAR = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}  # of documentation: nothing is sent there

Address = IPv4Address | IPv6Address
Listen = dict[int, str]
"""By IP version."""


def read_listen(text: str) -> Listen:
    """What the operator says: an address of each family at most. ``InvalidInput`` names ``forward_addr``."""
    found: Listen = {}
    for word in text.replace(",", " ").split():
        try:
            address = ip_address(word)
        except ValueError:
            address = None
        if address is None or not outside(address) or address.version in found:
            raise InvalidInput(
                _(
                    "{field} must be an address of the host that others reach it by: one IPv4, one IPv6, or one of each."
                ),
                field="forward_addr",
            )
        found[address.version] = str(address)
    return found


def outside(address: Address) -> bool:
    """Whether others can reach a host by it."""
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local)


class Listening:
    """Of one host."""

    def __init__(self, client: Client, given: str) -> None:
        self._client = client
        self._given = read_listen(given)
        self._kept: tuple[float, Listen] | None = None

    async def addresses(self, bridges: Iterable[Interface]) -> Listen:
        """What the operator said, and nothing else. Else, of a host that is this machine, the address that it goes out by; else
        the one by which the panel reaches it, where it has that or does not tell, or its first on none of ``bridges``."""
        if self._given:
            return self._given
        if self._kept is None or time.monotonic() - self._kept[0] > KEPT_SECONDS:
            self._kept = (time.monotonic(), await self._look(list(bridges)))
        return self._kept[1]

    async def _look(self, bridges: list[Interface]) -> Listen:
        if self._client.socket:
            return way_out()
        reached = await _resolve(str(urlsplit(self._client.base).hostname))
        if any(address.is_loopback for address in reached):
            return way_out()
        server = await self._client.get("/1.0")
        return chosen(told(server) or reached, reached, bridges)


def told(server: dict[str, Any]) -> list[Address]:
    """The addresses that the host says its API is at: ``["192.0.2.10:8443", "[fd00::2]:8443"]``. A name is none."""
    found: list[Address] = []
    for text in (server.get("environment") or {}).get("addresses") or ():
        with suppress(ValueError):
            found.append(ip_address(str(text).rpartition(":")[0].strip("[]")))
    return found


def chosen(own: Iterable[Address], reached: Iterable[Address], bridges: list[Interface]) -> Listen:
    """One of ``own`` for each family."""
    reached = set(reached)
    fit = [one for one in own if outside(one) and not any(one in bridge.network for bridge in bridges)]
    found: Listen = {}
    for one in sorted(fit, key=lambda one: one not in reached):
        found.setdefault(one.version, str(one))
    return found


def way_out() -> Listen:
    """The addresses that this machine itself goes out by."""
    found: Listen = {}
    for version, (family, far) in FAR.items():
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((far, 9))  # which for UDP only looks up the route
            except OSError:
                continue
            address = ip_address(probe.getsockname()[0].partition("%")[0])
        if outside(address):
            found[version] = str(address)
    return found


async def _resolve(host: str) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return []
    return [ip_address(str(one[4][0]).partition("%")[0]) for one in found]
