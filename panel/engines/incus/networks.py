"""Networks, and the addresses that the host's DHCP gives: settings of an instance's interface.

A MAC that no instance has yet keeps its addresses in a profile of the panel's own, which no instance uses: the instance that is
made with that MAC gets them.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface
from typing import Any
from urllib.parse import quote

from panel.engines.hosttypes import NetworkInfo
from panel.engines.incus.client import Changed, Client, instance_path
from panel.engines.incus.marks import Found, writable
from panel.engines.incus.operations import Operations
from panel.engines.incus.site import Site, Sites, fixed
from panel.engines.incus.view import Viewer
from panel.engines.types import NicMode
from panel.errors import Conflict, InvalidInput, NotFound
from panel.i18n import gettext_noop as _

PROFILE = "openidcs"
PREFIX = "user.openidcs.reserved."
ABOUT = "Addresses that OpenIDCS Panel keeps for instances to come. Used by no instance; do not remove."
CHANGE_SECONDS = 60.0
TRIES = 5

Interface = IPv4Interface | IPv6Interface
Pairs = dict[str, tuple[str, ...]]


class Reservations:
    """The networks of one host, and who has which address on them."""

    def __init__(self, client: Client, viewer: Viewer, operations: Operations, sites: Sites) -> None:
        self._client, self._viewer, self._operations, self._sites = client, viewer, operations, sites
        self._writing = asyncio.Lock()

    async def list_networks(self) -> list[NetworkInfo]:
        """The NAT network and the bridge that VMs of the panel are connected to."""
        site = await self._sites.get(fresh=True)
        names = [name for name in dict.fromkeys((site.nat, site.bridge)) if name in site.networks]
        kept, library = await self.kept(), await self._viewer.library()
        return [await self._network(site, name, kept, library) for name in names]

    async def kept(self) -> Pairs:
        """By MAC, what is kept for instances to come."""
        try:
            profile, _etag = await self._client.read(f"/1.0/profiles/{PROFILE}")
        except NotFound:
            return {}
        return _kept(profile)

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        """See ``Engine.reserve``."""
        async with self._writing:
            site = await self._sites.get()
            found = site.networks.get(network)
            if found is None or not found.get("managed"):
                if not addresses:
                    return
                raise NotFound(_("The host has no network {name}."), name=network)
            check(addresses, [own.network for own in await interfaces_of(self._client, found)], network)
            library = await self._viewer.library()
            holders = _held(library, network) | await self.kept()
            for owner, held in holders.items():
                for text in set(held) & set(addresses):
                    if owner != mac:
                        raise Conflict(_("{address} is reserved for {mac}."), address=text, mac=owner)
            one = next((one for one in library for key, _device in one.nics() if one.mac(key) == mac), None)
            await self._keep(mac, () if one else addresses)
            if one is not None:
                await self._give(one.name, mac, addresses)

    async def _keep(self, mac: str, addresses: tuple[str, ...]) -> None:
        path = f"/1.0/profiles/{PROFILE}"
        for left in reversed(range(TRIES)):
            try:
                profile, etag = await self._client.read(path)
            except NotFound:
                if not addresses:
                    return
                await self._client.send("POST", "/1.0/profiles", {"name": PROFILE, "description": ABOUT, "config": {}})
                continue
            config = dict(profile.get("config") or {})
            key = PREFIX + mac.replace(":", "-")
            wanted = (
                {**config, key: " ".join(addresses)} if addresses else {k: v for k, v in config.items() if k != key}
            )
            if wanted == config:
                return
            body = {"description": profile.get("description", ""), "devices": profile.get("devices") or {}}
            try:
                await self._client.send("PUT", path, body | {"config": wanted}, etag=etag)
            except Changed:
                if not left:
                    raise
                continue
            return

    async def _give(self, name: str, mac: str, addresses: tuple[str, ...]) -> None:
        """Set the instance's own interface; one that a profile gives becomes its own with that."""
        for left in reversed(range(TRIES)):
            raw, etag = await self._client.read(instance_path(name))
            one = Found(raw)
            key, device = next((key, device) for key, device in one.nics() if one.mac(key) == mac)
            plain = {k: v for k, v in device.items() if k not in {"ipv4.address", "ipv6.address"}}
            wanted = plain | fixed(addresses)
            if wanted == device:
                return
            body = writable(raw)
            body["devices"] = {**body["devices"], key: wanted}
            try:
                await self._operations.run("PUT", instance_path(name), body, seconds=CHANGE_SECONDS, etag=etag)
            except Changed:
                if not left:
                    raise
                continue
            return

    async def _network(self, site: Site, name: str, kept: Pairs, library: list[Found]) -> NetworkInfo:
        raw = site.networks[name]
        interfaces = await interfaces_of(self._client, raw)
        gateways = {own.version: own for own in interfaces}
        leases: list[tuple[str, str]] = []
        if raw.get("managed"):
            listed = await self._client.get(f"/1.0/networks/{quote(name, safe='')}/leases")
            leases = [
                (str(one["hwaddr"]).lower(), str(one["address"]))
                for one in listed or []
                if one.get("type") == "dynamic" and one.get("hwaddr")
            ]
        held = _held(library, name) | {
            mac: texts
            for mac, texts in kept.items()
            if any(ip_address(text) in own.network for text in texts for own in interfaces)
        }
        nat = site.mode(name) is NicMode.NAT
        return NetworkInfo(
            name=name,
            mode=NicMode.NAT if nat else NicMode.BRIDGE,
            bridge=name if raw.get("type") == "bridge" else "",
            subnet4=str(gateways[4].network) if 4 in gateways else "",
            gateway4=str(gateways[4].ip) if 4 in gateways else "",
            subnet6=str(gateways[6].network) if 6 in gateways else "",
            gateway6=str(gateways[6].ip) if 6 in gateways else "",
            forward_mode="nat" if nat else "",
            reservations=tuple(sorted((mac, text) for mac, texts in held.items() for text in texts)),
            leases=tuple(leases),
        )


async def interfaces_of(client: Client, raw: dict[str, Any]) -> list[Interface]:
    """The host's own addresses on a managed network. A restricted certificate is not shown the network's settings: then they
    are those that its bridge has."""
    found = _gateways(raw.get("config") or {})
    if not found and raw.get("managed"):
        state = await client.get(f"/1.0/networks/{quote(str(raw['name']), safe='')}/state")
        found = [
            f"{one['address']}/{one['netmask']}" for one in state.get("addresses") or () if one.get("scope") == "global"
        ]
    return [ip_interface(text) for text in found]


def check(addresses: tuple[str, ...], own: list[IPv4Network | IPv6Network], network: str) -> None:
    """``InvalidInput`` for addresses that are none of the network's, or two of a family."""
    families = []
    for text in addresses:
        address = ip_address(text)
        families.append(address.version)
        if not any(address in net for net in own):
            raise InvalidInput(
                _("{address} is not in the subnet of network {name}."), field="ip_addr", address=text, name=network
            )
    if len(set(families)) != len(families):
        raise InvalidInput(_("DHCP gives an interface one address of each family."), field="ip_addr")


def _gateways(config: dict[str, Any]) -> list[str]:
    return [text for key in ("ipv4.address", "ipv6.address") if "/" in (text := str(config.get(key) or ""))]


def _kept(profile: dict[str, Any]) -> Pairs:
    config = profile.get("config") or {}
    return {
        key.removeprefix(PREFIX).replace("-", ":"): tuple(str(value).split())
        for key, value in config.items()
        if key.startswith(PREFIX)
    }


def _held(library: list[Found], network: str) -> Pairs:
    """By MAC, what the instances' interfaces on a network are to get."""
    held: Pairs = {}
    for one in library:
        for key, device in one.nics():
            given = [str(device[name]) for name in ("ipv4.address", "ipv6.address") if device.get(name)]
            if device.get("network") == network and given:
                held[one.mac(key)] = tuple(text for text in given if text != "none")
    return held
