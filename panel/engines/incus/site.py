"""Where instances of a host go: its pool and networks, as its settings say or as the host has them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from panel.engines.incus.client import Client
from panel.engines.types import HostConnection, NicMode, NicSpec
from panel.errors import EngineFailure, InvalidInput
from panel.i18n import gettext_noop as _

KEPT_SECONDS = 60.0
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Site:
    """Attributes:
    pool, driver: the storage pool for instances; empty when there is none.
    networks: the networks, by name, as ``/1.0/networks?recursion=1`` has them.
    nat, bridge: the networks of the two kinds of interface; empty where there is none.
    cpus, memory_mib: the host's own, which an instance without limits has.
    """

    pool: str
    driver: str
    nat: str
    bridge: str
    cpus: int
    memory_mib: int
    networks: dict[str, dict[str, Any]] = field(repr=False, default_factory=dict)

    def mode(self, network: str) -> NicMode | None:
        """How an interface on this network is connected."""
        if not network:
            return None
        nat = network == self.nat or translates(self.networks.get(network, {}))
        return NicMode.NAT if nat else NicMode.BRIDGE

    def device(self, nic: NicSpec, addresses: tuple[str, ...]) -> dict[str, str]:
        """An interface as a device of an instance, with the addresses that DHCP is to give it.

        Raises:
            InvalidInput: there is no such network.
        """
        name = nic.network or (self.nat if nic.mode is NicMode.NAT else self.bridge)
        if not name:
            raise InvalidInput(
                _("The host has no network for this kind of interface. Make one there, and name it in the host's settings "
                  "(network_nat, network_bridge)."),
                field="nic_all",
            )  # fmt: skip
        found = self.networks.get(name)
        if found is None:
            raise InvalidInput(_("The host has no network {name}."), field="nic_all", name=name)
        given = {"type": "nic", "name": nic.name, "hwaddr": nic.mac}
        if not found.get("managed"):
            return given | {"nictype": "bridged", "parent": name}
        return given | {"network": name} | fixed(addresses)


class Sites:
    """Reads a host's site, and keeps it for a minute."""

    def __init__(self, client: Client, connection: HostConnection) -> None:
        self._client = client
        self._pool = connection.disks_path.strip()
        self._nat = connection.options.get("network_nat", "").strip()
        self._bridge = connection.options.get("network_bridge", "").strip()
        self._kept: tuple[float, Site] | None = None
        self._reading = asyncio.Lock()

    async def get(self, *, fresh: bool = False) -> Site:
        """The site."""
        async with self._reading:
            if fresh or self._kept is None or time.monotonic() - self._kept[0] > KEPT_SECONDS:
                self._kept = (time.monotonic(), await self._read())
            return self._kept[1]

    async def _read(self) -> Site:
        listed, profile, pools, resources = await asyncio.gather(
            self._client.get("/1.0/networks", {"recursion": "1"}),
            self._profile(),
            self._client.get("/1.0/storage-pools", {"recursion": "1"}),
            self._client.get("/1.0/resources"),
        )
        networks = {str(one["name"]): one for one in listed or []}
        drivers = {str(one["name"]): str(one.get("driver", "")) for one in pools or []}
        devices = (profile.get("devices") or {}).values()
        usual = next((str(one.get("pool", "")) for one in devices if one.get("path") == "/"), "")
        pool = self._pool or usual or next(iter(drivers), "")
        nic = next((str(one.get("network") or one.get("parent") or "") for one in devices if one["type"] == "nic"), "")
        nat = self._nat or next((name for name in (nic, *networks) if translates(networks.get(name, {}))), "")
        bridge = self._bridge or ("" if nic == nat else nic)
        return Site(
            pool=pool,
            driver=drivers.get(pool, ""),
            nat=nat,
            bridge=bridge,
            cpus=int((resources.get("cpu") or {}).get("total") or 0),
            memory_mib=int((resources.get("memory") or {}).get("total") or 0) // MIB,
            networks=networks,
        )

    async def _profile(self) -> dict[str, Any]:
        try:
            found = await self._client.get("/1.0/profiles/default")
        except EngineFailure:
            return {}
        return dict(found)


def translates(network: dict[str, Any]) -> bool:
    """Whether the host itself translates addresses for a network."""
    config = network.get("config") or {}
    return bool(network.get("managed")) and "true" in {config.get("ipv4.nat"), config.get("ipv6.nat")}


def fixed(addresses: tuple[str, ...]) -> dict[str, str]:
    """The keys of an interface by which the host's DHCP gives it these addresses."""
    return {"ipv6.address" if ":" in text else "ipv4.address": text for text in addresses}
