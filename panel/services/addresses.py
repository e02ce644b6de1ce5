"""Addresses: each network's pool, who was given what, and the DHCP reservations that bring them into the guests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from tortoise.exceptions import IntegrityError

from panel.engines.base import Engine
from panel.engines.types import NetworkInfo, NicMode
from panel.errors import Conflict, InvalidInput, NotFound
from panel.events import EventBus, VmChanged
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Address, Forward, Host, Network, Nic, Vm
from panel.security import Actor, Permission
from panel.services.audit import AuditLog
from panel.services.engines import EnginePool, capabilities, limited
from panel.services.gateways import GatewayService
from panel.services.whole import whole

TRIES = 64  # of others that take the address which we chose, before we give up
COLUMNS = ("mode", "bridge", "subnet4", "gateway4", "subnet6", "gateway6", "forward_mode")

Subnet = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class AddressRow:
    """An address as lists show it. ``by_dhcp``: the first of its family on its interface; ``seen``: the guest has it."""

    address: Address
    netmask: str
    gateway: str
    by_dhcp: bool
    seen: bool


class AddressService:
    """Gives addresses to interfaces. What the database holds is what is wanted; the host is brought in line with it."""

    def __init__(self, pool: EnginePool, gateways: GatewayService, events: EventBus, audit: AuditLog) -> None:
        self._pool = pool
        self._gateways = gateways
        self._events = events
        self._audit = audit

    # -- networks ------------------------------------------------------------------------------------------------

    async def sync_networks(self, host: Host, engine: Engine) -> None:
        """Bring the host's rows in line with its networks. One that is gone stays while it has addresses."""
        if capabilities(host.engine).why_not("networks") is not None:
            return
        seen = {info.name: info for info in await engine.list_networks()}
        known = {row.name: row for row in await Network.filter(host_id=host.id)}
        ours = {str(row["mac"]) for row in await Nic.filter(vm__host_id=host.id).values("mac")}
        for name, info in seen.items():
            values = _columns(info, ours)
            row = known.get(name)
            if row is None:
                await Network.create(host_id=host.id, name=name, **values)
            elif any(getattr(row, column) != value for column, value in values.items()):
                await row.update_from_dict(values).save(update_fields=list(values))
        for name, row in known.items():
            if name not in seen and not await Address.exists(network_id=row.id):
                await row.delete()

    async def network_of(self, host_id: int, nic: Nic) -> Network | None:
        """The network that an interface is on: by the name that was seen, else the host's only one of its mode."""
        if nic.mode is None:
            return None
        networks = await Network.filter(host_id=host_id, mode=nic.mode)
        return next((row for row in networks if row.name == nic.network), networks[0] if networks else None)

    # -- reading -------------------------------------------------------------------------------------------------

    async def of_vm(self, vm: Vm) -> list[Address]:
        """A VM's addresses in the order in which they were given, with their ``network`` and ``nic``."""
        return await Address.filter(nic__vm_id=vm.id).order_by("id").prefetch_related("network", "nic")

    async def rows(self, vm: Vm) -> list[AddressRow]:
        """The same, as lists show them."""
        found: list[AddressRow] = []
        first: set[tuple[int, int]] = set()
        for address in await self.of_vm(vm):
            version = _version(address.ip, "")
            subnet = subnet_of(address.network, version)
            key = (address.nic_id, version)
            has = {text.split("/")[0] for text in address.nic.addresses}
            gateway = address.network.gateway4 if version == 4 else address.network.gateway6
            mask = "" if subnet is None else str(subnet.netmask if version == 4 else subnet.prefixlen)
            found.append(AddressRow(address, mask, gateway, key not in first, address.ip in has))
            first.add(key)
        return found

    # -- giving --------------------------------------------------------------------------------------------------

    async def give_new(self, vm: Vm, wanted: Mapping[str, tuple[str, str]]) -> list[Text]:
        """Give each NAT interface of a new VM its addresses: those in ``wanted`` (IPv4, IPv6 by interface), else free ones.
        Returns notes for the task's log. The caller removes the VM when this raises."""
        notes: list[Text] = []
        if capabilities(vm.host.engine).why_not("networks") is not None:
            return notes
        for nic in await Nic.filter(vm_id=vm.id, mode=NicMode.NAT):
            network = await self.network_of(vm.host_id, nic)
            ip4, ip6 = wanted.get(nic.name, ("", ""))
            if network is None:
                if ip4 or ip6:
                    raise Conflict(_("Host {host} has no NAT network that is known yet. Wait until it was looked at."),
                                   host=vm.host.name)  # fmt: skip
                notes.append(Text(_("{name}: no network is known yet, so DHCP decides about its address."),
                                  {"name": nic.name}))  # fmt: skip
                continue
            for version, text, subnet in ((4, ip4, network.subnet4), (6, ip6, network.subnet6)):
                if text or subnet:
                    await self._give(network, nic, version, text, f"nic_all.{nic.name}.ip{version}_addr")
        return notes

    @whole
    async def add(
        self, actor: Actor, vm: Vm, interface: str, ip: str = "", netmask: str = "", gateway: str = ""
    ) -> Address:
        """Give an interface one more address; an empty ``ip`` takes a free one. DHCP brings the first of each family to the
        guest; a further one is to be set up inside it.

        Raises:
            InvalidInput: not an address, not of the network, or a mask or gateway that the network does not have.
            Conflict: it is another's, or reserved, or none is free.
        """
        actor.require(Permission.MANAGE)
        capabilities(vm.host.engine).require("networks")
        nic = await Nic.get_or_none(vm_id=vm.id, name=interface[:64])
        if nic is None:
            raise NotFound(_("{field}: the VM has no interface {name}."), field="interface", name=interface[:64])
        network = await self.network_of(vm.host_id, nic) if nic.mode is NicMode.NAT else None
        if network is None:
            raise Conflict(
                _("{name} is on no network whose addresses the panel gives."), field="interface", name=nic.name
            )
        version = _version(ip, "ip_address") if ip else 4
        _check_fits(network, version, netmask, gateway)
        address = await self._give(network, nic, version, ip, "ip_address")
        try:
            await self._reserve(self._pool.of(vm.host), nic, network)
        except BaseException:
            await address.delete()
            raise
        await self._changed(
            actor, vm, Text(_("Gave {name} the address {address}."), {"name": nic.name, "address": address.ip})
        )
        return address

    @whole
    async def remove(self, actor: Actor, vm: Vm, index: int, address_id: int | None = None) -> Address:
        """Take an address away, by its position in ``of_vm``.

        Raises:
            NotFound: there is no such position.
            Conflict: ``address_id`` is not what stands there, or a forward leads to it.
        """
        actor.require(Permission.MANAGE)
        address = at_position(await self.of_vm(vm), index, address_id)
        forward = await Forward.filter(vm_id=vm.id, internal_ip=address.ip).first()
        if forward is not None:
            raise Conflict(
                _("The forward of {protocol} port {port} leads to {address}. Remove it first."),
                protocol=forward.protocol, port=forward.external_start, address=address.ip,
            )  # fmt: skip
        await address.delete()
        try:
            await self._reserve(self._pool.of(vm.host), address.nic, address.network)
        except BaseException:
            await Address.create(id=address.id, network_id=address.network_id, nic_id=address.nic_id, ip=address.ip)
            raise
        text = Text(_("Took the address {address} from {name}."), {"name": address.nic.name, "address": address.ip})
        await self._changed(actor, vm, text)
        return address

    async def _changed(self, actor: Actor, vm: Vm, text: Text) -> None:
        await self._audit.write(actor, "vm.address", "vm", f"{vm.host.name}/{vm.name}", text)
        self._events.publish(VmChanged(vm.id, vm.host_id))
        self._gateways.wake(vm.host_id)

    async def _give(self, network: Network, nic: Nic, version: int, wanted: str, field: str) -> Address:
        for _attempt in range(TRIES):
            refused = await self._refused(network, nic)
            text = wanted and check_given(network, version, wanted, refused, field)
            try:
                ip = text or _lowest(network, version, refused)
                return await Address.create(network_id=network.id, nic_id=nic.id, ip=ip)
            except IntegrityError:  # another took it since we looked: the database gives it to one
                await asyncio.sleep(0)
        raise Conflict(_("Too many ask for addresses of {network} at once. Try again."), network=network.name)

    async def _refused(self, network: Network, nic: Nic) -> dict[str, Text]:
        """Every address that is not to be had, and why."""
        refused: dict[str, Text] = {}
        for text in network.foreign:
            refused[text] = Text(_("{field}: {address} is reserved."))
        for gateway in (network.gateway4, network.gateway6):
            refused[gateway] = Text(_("{field}: {address} is the network's gateway."))
        others = await Nic.filter(vm__host_id=network.host_id).exclude(vm_id=nic.vm_id).values("addresses", "vm__name")
        for row in others:
            for seen in row["addresses"]:
                refused[seen.split("/")[0]] = Text(
                    _("{field}: {address} is in use by VM {name}."), {"name": row["vm__name"]}
                )
        for given in await Address.filter(network_id=network.id).values("ip", "nic__vm__name"):
            text = _("{field}: {address} belongs to VM {name}.")
            refused[given["ip"]] = Text(text, {"name": given["nic__vm__name"]})
        return refused

    # -- the host ------------------------------------------------------------------------------------------------

    async def reserve_all(self, vm: Vm, engine: Engine) -> None:
        """Make the DHCP reservations of a VM's interfaces, before it starts."""
        for nic in await Nic.filter(vm_id=vm.id):
            for network in await Network.filter(addresses__nic_id=nic.id).distinct():
                await self._reserve(engine, nic, network)

    async def unreserve_all(self, vm: Vm, engine: Engine) -> None:
        """Remove them, before the VM's rows go."""
        for nic in await Nic.filter(vm_id=vm.id):
            for network in await Network.filter(addresses__nic_id=nic.id).distinct():
                await limited(engine.reserve(network.name, nic.mac, ()))

    async def _reserve(self, engine: Engine, nic: Nic, network: Network) -> None:
        """DHCP gives the first address of each family."""
        rows = await Address.filter(nic_id=nic.id, network_id=network.id).order_by("id")
        first: dict[int, str] = {}
        for row in rows:
            first.setdefault(_version(row.ip, ""), row.ip)
        await limited(engine.reserve(network.name, nic.mac, tuple(first.values())))


def at_position(rows: Sequence[Address], index: int, row_id: int | None) -> Address:
    """The row at ``index``; ``Conflict`` when ``row_id`` says that another was meant."""
    if not 0 <= index < len(rows):
        raise NotFound(_("There is no address at position {index}."), index=index)
    if row_id is not None and rows[index].id != row_id:
        raise Conflict(_("Position {index} is another address by now. Read the list again."), index=index)
    return rows[index]


def check_given(network: Network, version: int, wanted: str, refused: Mapping[str, Text], field: str) -> str:
    """The canonical form of an address that was asked for. ``InvalidInput`` or ``Conflict`` says why it cannot be."""
    if _version(wanted, field) != version:
        raise InvalidInput(_("{field} must be an IPv{version} address."), field=field, version=version)
    address = ip_address(wanted)
    subnet = subnet_of(network, version)
    if subnet is None:
        raise InvalidInput(_("{field}: network {network} has no IPv{version}."), field=field, network=network.name,
                           version=version)  # fmt: skip
    if address not in subnet or address in _ends(subnet):
        raise InvalidInput(
            _("{field}: {address} is not an address for a VM in {subnet}, the network of {network}."),
            field=field, address=str(address), subnet=str(subnet), network=network.name,
        )  # fmt: skip
    why = refused.get(str(address)) or _held_back(network, str(address))
    if why is not None:
        raise Conflict(why.msgid, field=field, address=str(address), **why.params)
    return str(address)


def _lowest(network: Network, version: int, refused: Mapping[str, Text]) -> str:
    subnet = subnet_of(network, version)
    for text in _hosts(subnet) if subnet else ():
        if text not in refused and _held_back(network, text) is None:
            return text
    raise Conflict(
        _("No IPv{version} address of network {network} ({subnet}) is free."),
        version=version, network=network.name, subnet=str(subnet),
    )  # fmt: skip


def _hosts(subnet: Subnet) -> Iterator[str]:
    ends = _ends(subnet)
    return (str(address) for address in subnet if address not in ends)


def _ends(subnet: Subnet) -> frozenset[object]:
    """What no machine can have: network and broadcast (IPv4), the subnet-router anycast address (IPv6, RFC 4291, 2.6.1)."""
    if subnet.version == 6:
        return frozenset({subnet.network_address})
    return frozenset({subnet.network_address, subnet.broadcast_address})


def subnet_of(network: Network, version: int) -> Subnet | None:
    """The network's IPv4 or IPv6 subnet."""
    text = network.subnet4 if version == 4 else network.subnet6
    return ip_network(text) if text else None


def _held_back(network: Network, text: str) -> Text | None:
    address = ip_address(text)
    for first, last in network.reserved:
        low, high = ip_address(first), ip_address(last)
        if low.version == address.version and int(low) <= int(address) <= int(high):
            return Text(_("{field}: {address} is reserved."))
    return None


def _check_fits(network: Network, version: int, netmask: str, gateway: str) -> None:
    subnet = subnet_of(network, version)
    held = network.gateway4 if version == 4 else network.gateway6
    if (
        netmask
        and subnet is not None
        and netmask not in {str(subnet.netmask), str(subnet.prefixlen), f"/{subnet.prefixlen}"}
    ):
        raise InvalidInput(
            _("{field}: network {network} has {has}."), field="netmask", network=network.name, has=str(subnet.netmask)
        )
    if gateway and subnet is not None and (_version(gateway, "gateway") != version or str(ip_address(gateway)) != held):
        raise InvalidInput(_("{field}: network {network} has {has}."), field="gateway", network=network.name, has=held)


def _version(text: str, field: str) -> int:
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidInput(_("{field} must be an IPv4 or IPv6 address."), field=field) from None
    if getattr(address, "scope_id", None):
        raise InvalidInput(_("{field} must be an IPv4 or IPv6 address."), field=field)
    return address.version


def _columns(info: NetworkInfo, ours: Iterable[str]) -> dict[str, Any]:
    """A network's columns; a subnet that makes no sense is left out."""
    macs = set(ours)
    values: dict[str, Any] = {column: getattr(info, column) for column in COLUMNS}
    for version in (4, 6):
        try:
            subnet = ip_network(getattr(info, f"subnet{version}"))
            ip_address(getattr(info, f"gateway{version}"))
        except ValueError:
            values[f"subnet{version}"] = values[f"gateway{version}"] = ""
        else:
            values[f"subnet{version}"] = str(subnet)
    values["foreign"] = sorted(ip for mac, ip in info.reservations if mac.lower() not in macs)
    return values
