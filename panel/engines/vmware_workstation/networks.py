"""The networks of a host: what DHCP gives to whom, and the ports that the NAT device leads to guests.

VMware's own plan of a NAT network (its manual, "IP Address Use on NAT Networks"): the host's adapter is the first address, the
NAT device, which is the guests' gateway, the second; DHCP lends from the upper half, and the last address is its server's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from panel.engines.common.forwards import description, mark_in
from panel.engines.hosttypes import NativeForward, NetworkInfo
from panel.engines.types import NicMode
from panel.engines.vmware_workstation.client import Client, VmForward, VmNet
from panel.errors import Conflict, HostUnreachable, InvalidInput, NotFound, PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _


class Networks:
    """Reads and changes them. vmrest writes whole files at each change, so there is one change at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._changing = asyncio.Lock()

    async def list_networks(self) -> list[NetworkInfo]:
        """The NAT networks that have DHCP, and the bridges."""
        found = []
        for network in await self._client.networks():
            if network.type == "nat" and network.subnet is not None and network.dhcp:
                found.append(_nat(network, await self._client.bindings(network.name)))
            elif network.type == "bridged":
                found.append(NetworkInfo(network.name, NicMode.BRIDGE, bridge=network.name))
        return found

    async def reserve(self, name: str, mac: str, addresses: tuple[str, ...]) -> None:
        """See ``Engine.reserve``."""
        mac = mac.lower()
        async with self._changing:
            network = await self._network(name)
            if network is None:
                if addresses:
                    raise NotFound(_("The host has no network {name}."), name=name)
                return
            held = await self._client.bindings(name)
            address = _check(network, mac, addresses, held)
            if held.get(mac, "") != address:
                await self._client.bind(name, mac, address)

    async def forwards(self) -> list[NativeForward]:
        """See ``Engine.native_forwards``. What leads nowhere that makes sense is left out."""
        found = []
        for network in await self._nats():
            for rule in await self._client.forwards(network.name):
                if _is_address(rule.address):
                    mark = mark_in(rule.description)
                    found.append(NativeForward(rule.protocol, rule.port, rule.address, rule.target_port, mark))
        return found

    async def change(self, remove: Sequence[NativeForward], add: Sequence[NativeForward]) -> dict[NativeForward, Text]:
        """See ``Engine.change_forwards``."""
        refused: dict[NativeForward, Text] = {}
        async with self._changing:
            nats = await self._nats()
            there = {
                (rule.protocol, rule.port): (network.name, rule)
                for network in nats
                for rule in await self._client.forwards(network.name)
            }
            for one in remove:
                name, rule = there.get((one.protocol, one.port), ("", None))
                if rule is not None and _same(rule, one):
                    await self._remove(name, one)
                    del there[one.protocol, one.port]
            for one in add:
                try:
                    await self._add(nats, there.get((one.protocol, one.port)), one)
                except HostUnreachable:
                    raise
                except PanelError as error:
                    refused[one] = error.text
        return refused

    async def _remove(self, network: str, one: NativeForward) -> None:
        try:
            await self._client.unforward(network, one.protocol, one.port)
        except NotFound:
            return

    async def _add(self, nats: Sequence[VmNet], known: tuple[str, VmForward] | None, one: NativeForward) -> None:
        if ip_address(one.address).version != 4:
            raise InvalidInput(_("VMware Workstation forwards IPv4 only."))
        network = next((each for each in nats if each.subnet and ip_address(one.address) in each.subnet), None)
        if network is None:
            raise Conflict(_("{address} is on no NAT network of the host."), address=one.address)
        if known is not None:
            rule = known[1]
            if not mark_in(rule.description) and (rule.address, rule.target_port) != one.target:
                raise Conflict(
                    _("Somebody else leads {protocol} port {port} of the host to {address} already."),
                    protocol=one.protocol, port=one.port, address=rule.address,
                )  # fmt: skip
            if _same(rule, one):
                return
            if known[0] != network.name:  # the same port of the host, by another network's NAT device
                await self._remove(known[0], one)
        wish = VmForward(one.protocol, one.port, one.address, one.target_port, description(one.mark))
        await self._client.forward(network.name, wish)

    async def _nats(self) -> list[VmNet]:
        return [network for network in await self._client.networks() if network.type == "nat"]

    async def _network(self, name: str) -> VmNet | None:
        return next((network for network in await self._nats() if network.name == name and network.subnet), None)


def _nat(network: VmNet, bindings: dict[str, str]) -> NetworkInfo:
    subnet = network.subnet
    assert subnet is not None
    return NetworkInfo(
        name=network.name,
        mode=NicMode.NAT,
        bridge=network.name,
        subnet4=str(subnet),
        gateway4=str(subnet[2]),
        forward_mode="nat",
        reservations=tuple(bindings.items()),
        taken=(str(subnet[1]), str(subnet[-2])),
    )


def _check(network: VmNet, mac: str, addresses: tuple[str, ...], held: dict[str, str]) -> str:
    """The one address to bind; empty for none."""
    if len([text for text in addresses if ip_address(text).version == 4]) > 1:
        raise InvalidInput(_("DHCP gives one address of a family to an interface."), field="ip_address")
    for text in addresses:
        if network.subnet is None or ip_address(text) not in network.subnet:
            raise InvalidInput(
                _("{address} is in no network of the host that has DHCP."), field="ip_address", address=text
            )
        holder = next((other for other, ip in held.items() if ip == text and other != mac), None)
        if holder is not None:
            raise Conflict(_("Address {address} is reserved for {mac} on the host."), address=text, mac=holder)
    return addresses[0] if addresses else ""


def _same(rule: VmForward, one: NativeForward) -> bool:
    return (rule.address, rule.target_port, mark_in(rule.description)) == (*one.target, one.mark)


def _is_address(text: str) -> bool:
    try:
        return ip_address(text).version == 4
    except ValueError:
        return False
