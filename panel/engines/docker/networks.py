"""The network of the panel's containers, and who has which address on it.

The panel chooses every address of its containers itself: the daemon would give a stopped container's address to the next one, and
a forward would lead to a stranger. A container's address is a setting of its connection to the network; a MAC's reservation is a
note (``marks``), and holds for a container of that MAC from its making on, or from a reconnection, which a running one survives
with its connections broken.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from panel.engines.docker.client import Client, Json
from panel.engines.docker.marks import Kind, Note, Notes, at, mark_of
from panel.engines.hosttypes import NetworkInfo
from panel.engines.types import NicMode
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound
from panel.i18n import gettext_noop as _

Network = ipaddress.IPv4Network
Held = list[tuple[str, str]]
_ROUTES = Path("/proc/net/route")
BRIDGE_OPTION = "com.docker.network.bridge.name"


@dataclass(frozen=True, slots=True)
class Site:
    """The networks of a host's two modes, as its settings say; empty where there is none."""

    nat: str
    bridge: str

    def network(self, mode: NicMode) -> str:
        """By mode."""
        return self.nat if mode is NicMode.NAT else self.bridge

    def mode(self, network: str) -> NicMode | None:
        """By name; None for a network of others."""
        return NicMode.NAT if network == self.nat else NicMode.BRIDGE if network and network == self.bridge else None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container on a network, by what the daemon, our labels and our notes say."""

    container: str
    name: str
    mac: str
    address: str
    on: bool


class Networks:
    """The networks of one host."""

    def __init__(self, client: Client, notes: Notes, site: Site) -> None:
        self._client, self._notes, self._site = client, notes, site
        self._lock = asyncio.Lock()

    async def ensure(self) -> None:
        """Make the NAT network when it is missing. One that is there is not changed."""
        async with self._lock:
            if await self.find(self._site.nat) is not None:
                return
            taken = [subnet for network in await self._all() for subnet in subnets(network)]
            if self._client.near:
                taken += await asyncio.to_thread(local_routes)
            info = await self._client.get("info")
            seed = f"{self._client.podman} {info.get('Name')} {info.get('DockerRootDir')} {self._site.nat}"
            subnet = free_subnet(seed, taken)
            body = {
                "Name": self._site.nat,
                "CheckDuplicate": True,
                "Driver": "bridge",
                "IPAM": {"Config": [{"Subnet": str(subnet), "Gateway": str(subnet[1])}]},
                "Options": {BRIDGE_OPTION: bridge_name(seed)},
                "Labels": {"openidcs.network": "nat"},
            }
            try:
                await self._client.post("networks/create", body)
            except (Conflict, EngineFailure):
                if await self.find(self._site.nat) is None:  # else another panel was quicker
                    raise

    async def find(self, name: str) -> Json | None:
        """A network by its name, or None."""
        try:
            found: Json = await self._client.get(f"networks/{quote(name, safe='')}")
        except NotFound:
            return None
        return found if isinstance(found, dict) and found.get("Name") == name else None

    async def infos(self) -> list[NetworkInfo]:
        """The NAT network and the bridge, where they are."""
        found, notes, rows = [], await self._notes.all(), await self._containers()
        for name, mode in ((self._site.nat, NicMode.NAT), (self._site.bridge, NicMode.BRIDGE)):
            network = await self.find(name) if name else None
            if network is None:
                continue
            if mode is NicMode.BRIDGE:
                found.append(NetworkInfo(name, mode, bridge=str((network.get("Options") or {}).get("parent", ""))))
                continue
            subnet = next(iter(subnets(network)), None)
            found.append(
                NetworkInfo(
                    name,
                    mode,
                    bridge=await self._bridge(network),
                    subnet4=str(subnet or ""),
                    gateway4=gateway(network),
                    reservations=tuple(reserved(notes, name)),
                    leases=tuple((one.mac, one.address) for one in endpoints(rows, notes, name) if one.address),
                )
            )
        return found

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        """See ``Engine.reserve``. A container that has the MAC gets the address now."""
        mac = mac.lower()
        there = await self.find(network)
        if there is None:
            if addresses:
                raise NotFound(_("There is no network {name} on the host."), name=network)
            return
        async with self._lock:
            notes = await self._notes.all()
            ends = endpoints(await self._containers(), notes, network)
            own = next((one for one in ends if one.mac == mac), None)
            if not addresses:
                if own is not None and own.address and (Kind.RESERVED, at(network, mac)) in notes:
                    await self._notes.write(Kind.LEASED, at(network, mac), [own.address])
                await self._notes.write(Kind.RESERVED, at(network, mac), None)
                return
            check_addresses(there, addresses)
            for owner, address in reserved(notes, network):
                if address in addresses and owner != mac:
                    raise Conflict(_("The address {address} is reserved for {mac}."), address=address, mac=owner)
            for one in ends:
                if one.address in addresses and one.mac != mac:
                    raise Conflict(
                        _("The address {address} is in use by container {name} ({mac})."),
                        address=one.address, name=one.name, mac=one.mac,
                    )  # fmt: skip
            await self._notes.write(Kind.RESERVED, at(network, mac), list(addresses))
            if own is not None and own.address != addresses[0]:
                await self._move(network, own, addresses[0])
            await self._notes.write(Kind.LEASED, at(network, mac), None)

    async def choose(self, network: str, mac: str) -> str:
        """The address for a new container's interface: what is reserved for it, else the lowest free one. Empty where the
        network's subnet is the daemon's own choice or it is no network of the panel's. Hold ``turn`` until it is made."""
        there = await self.find(network)
        if there is None or self._site.mode(network) is not NicMode.NAT:
            return ""
        subnet = next(iter(subnets(there)), None)
        if subnet is None:
            return ""
        notes = await self._notes.all()
        held = reserved(notes, network)
        own = [address for owner, address in held if owner == mac.lower()]
        if own:
            return own[0]
        taken = {address for _mac, address in held} | {gateway(there)}
        taken |= {one.address for one in endpoints(await self._containers(), notes, network)}
        free = next((str(one) for one in subnet.hosts() if str(one) not in taken and one != subnet[1]), "")
        if not free:
            raise Conflict(_("The network {name} has no free address."), name=network)
        return free

    @property
    def turn(self) -> asyncio.Lock:
        """Held from ``choose`` until the container is there."""
        return self._lock

    async def _move(self, network: str, end: Endpoint, address: str) -> None:
        """Give a container's interface another address. When that fails it gets its old one back."""
        path = f"networks/{quote(network, safe='')}"
        with suppress(NotFound):
            await self._client.post(f"{path}/disconnect", {"Container": end.container, "Force": True})
        try:
            await self._client.post(f"{path}/connect", connection(end.container, end.mac, address))
        except BaseException:
            await asyncio.shield(self._client.post(f"{path}/connect", connection(end.container, end.mac, end.address)))
            raise

    async def _bridge(self, network: Json) -> str:
        """The host's bridge behind a network."""
        if self._client.podman:
            told = await self._client.libpod("GET", f"networks/{quote(str(network['Name']), safe='')}/json")
            found = told[0] if isinstance(told, list) and told else told
            return str(found.get("network_interface", "")) if isinstance(found, dict) else ""
        return str((network.get("Options") or {}).get(BRIDGE_OPTION) or f"br-{str(network['Id'])[:12]}")

    async def _all(self) -> list[Json]:
        found = await self._client.get("networks")
        return [one for one in found or () if isinstance(one, dict)]

    async def _containers(self) -> list[Json]:
        found = await self._client.get("containers/json", all="1")
        return [one for one in found or () if isinstance(one, dict)]


def connection(ref: str, mac: str, address: str) -> Json:
    """The body that connects a container to a network."""
    return {"Container": ref, "EndpointConfig": endpoint_config(mac, address)}


def endpoint_config(mac: str, address: str) -> Json:
    """A container's settings on one network. Docker takes the MAC here from API 1.44 on, and before that with the container."""
    settings: Json = {"MacAddress": mac}
    if address:
        settings["IPAMConfig"] = {"IPv4Address": address}
    return settings


def endpoints(rows: Iterable[Json], notes: dict[tuple[Kind, str], Note], network: str) -> list[Endpoint]:
    """The containers of a network, running or not, with their addresses."""
    found = []
    for row in rows:
        mark = mark_of(row.get("Labels"))
        asked = {nic[1]: nic for nic in mark.nics} if mark else {}
        settings = ((row.get("NetworkSettings") or {}).get("Networks") or {}).get(network)
        if settings is None and network not in asked:
            continue
        settings, wanted = settings or {}, asked.get(network)
        mac = str((wanted[3] if wanted else "") or settings.get("MacAddress") or "").lower()
        on = str(row.get("State")) in {"running", "paused"}
        now = str(settings.get("IPAddress") or "") if on else ""
        noted = notes.get((Kind.RESERVED, at(network, mac))) or notes.get((Kind.LEASED, at(network, mac)))
        fixed = str((settings.get("IPAMConfig") or {}).get("IPv4Address") or "")
        address = (
            now or (str(noted.value[0]) if noted and noted.value else "") or fixed or (wanted[4] if wanted else "")
        )
        name = str((row.get("Names") or ["/"])[0]).lstrip("/")
        found.append(Endpoint(str(row["Id"]), name, mac, address, on))
    return found


def reserved(notes: dict[tuple[Kind, str], Note], network: str) -> Held:
    """(MAC, address) pairs."""
    found: Held = []
    for (kind, key), note in sorted(notes.items()):
        name, _space, mac = key.rpartition(" ")
        if kind is Kind.RESERVED and name == network and isinstance(note.value, list):
            found += [(mac, str(address)) for address in note.value]
    return found


def check_addresses(network: Json, addresses: tuple[str, ...]) -> None:
    """``InvalidInput`` unless it is one address of the network, and neither its gateway nor its ends."""
    if len(addresses) > 1:
        raise InvalidInput(_("A container has one address of each family on a network."), field="ip_address")
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise InvalidInput(_("{field}: {address} is not an address."), field="ip_address", address=text) from None
        for subnet in subnets(network):
            ends = {subnet.network_address, subnet.broadcast_address}
            if address in subnet and address not in ends and text != gateway(network):
                break
        else:
            raise InvalidInput(
                _("{field}: {address} is not of the network {name}."),
                field="ip_address", address=text, name=str(network["Name"]),
            )  # fmt: skip


def subnets(network: Json) -> list[Network]:
    """The IPv4 subnets of a network."""
    found = []
    for config in (network.get("IPAM") or {}).get("Config") or ():
        with suppress(ValueError):
            found.append(ipaddress.IPv4Network(str(config.get("Subnet", "")), strict=False))
    return found


def gateway(network: Json) -> str:
    """The host's own IPv4 address on a network: the first of the subnet when the daemon does not say."""
    configs: list[Any] = (network.get("IPAM") or {}).get("Config") or []
    told = next((str(one["Gateway"]).split("/")[0] for one in configs if "." in str(one.get("Gateway", ""))), "")
    subnet = next(iter(subnets(network)), None)
    return told or (str(subnet[1]) if subnet else "")


def free_subnet(seed: str, taken: Iterable[Network]) -> Network:
    """A 10.78.x.0/24 that overlaps nothing in ``taken``, beginning with one made of ``seed``: two daemons of a machine do not
    know one another's networks. ``Conflict`` when there is none."""
    others = [network for network in taken if network.prefixlen > 0]
    first = hashlib.sha256(seed.encode()).digest()[0]
    for step in range(256):
        candidate = ipaddress.IPv4Network((f"10.78.{(first + step) % 256}.0", 24))
        if not any(candidate.overlaps(other) for other in others):
            return candidate
    raise Conflict(_("No free network in 10.78.0.0/16 on this host. Make one there and name it (network_nat)."))


def local_routes() -> list[Network]:
    """The networks that this machine has a way to; none where its kernel does not tell."""
    with suppress(OSError):
        return routes(_ROUTES.read_text())
    return []


def routes(text: str) -> list[Network]:
    """The destinations of ``/proc/net/route``: hexadecimal, in the byte order of this machine (little)."""
    found = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 7:
            destination = int.from_bytes(bytes.fromhex(columns[1]), "little")
            mask = int.from_bytes(bytes.fromhex(columns[7]), "little")
            found.append(ipaddress.IPv4Network((destination, mask.bit_count()), strict=False))
    return found


def bridge_name(seed: str) -> str:
    """A name for the host's bridge, which no other daemon of the machine takes: the kernel has 15 characters for it."""
    return f"oci-{hashlib.sha256(seed.encode()).hexdigest()[:8]}"


def only(label: str, value: str) -> str:
    """The filter of a list by a label."""
    return json.dumps({"label": [f"{label}={value}"]})
