"""Addresses: who was given what, and how it gets into the guests: DHCP reservations, and the settings of a first boot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

from tortoise.exceptions import IntegrityError

from panel.engines.base import Engine
from panel.engines.hosttypes import NetworkInfo
from panel.engines.types import NicMode, NicSpec, VmSpec
from panel.errors import Conflict, NotFound
from panel.events import EventBus, VmChanged
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Address, Forward, Host, Network, Nic, Pool, Proxy, Vm
from panel.security import Actor, Permission
from panel.services.audit import AuditLog
from panel.services.engines import EnginePool, Patience, capabilities, limited
from panel.services.gateways import GatewayService
from panel.services.spaces import (
    RESERVED,
    Space,
    check_given,
    lowest,
    space_with,
    spaces_of,
    that_fit,
    version_of,
)
from panel.services.whole import whole

TRIES = 64  # of others that take the address which we chose, before we give up
RESERVE_SECONDS = 130.0  # many at once wait for one another on the host; the engine has its own, shorter, limits inside
COLUMNS = ("mode", "bridge", "subnet4", "gateway4", "subnet6", "gateway6", "forward_mode")


@dataclass(frozen=True, slots=True)
class AddressRow:
    """An address as lists show it. ``by_dhcp``: the network's DHCP gives it, as it does the first IPv4 address of an interface;
    ``seen``: the guest has it."""

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

    async def sync_networks(self, host: Host, engine: Engine, patience: Patience) -> None:
        """Bring the host's rows in line with its networks. One that is gone stays while it has addresses."""
        if capabilities(host.engine).why_not("networks") is not None:
            return
        seen = {info.name: info for info in await patience.ask(engine.list_networks())}
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
            if name in seen:
                continue
            if await Address.exists(network_id=row.id) or await Pool.exists(network_id=row.id):
                await Network.filter(id=row.id).update(bridge="")  # kept, and not there
            else:
                await row.delete()

    async def network_of(self, host_id: int, nic: Nic) -> Network | None:
        """The network that an interface is on: by the name that was seen, else the host's only one of its mode."""
        if nic.mode is None:
            return None
        networks = await Network.filter(host_id=host_id, mode=nic.mode)
        named = next((row for row in networks if row.name == nic.network), None)
        there = next((row for row in networks if row.bridge), None)
        return named or there or (networks[0] if networks else None)

    # -- reading -------------------------------------------------------------------------------------------------

    async def of_vm(self, vm: Vm) -> list[Address]:
        """A VM's addresses in the order in which they were given, with their ``network`` and ``nic``."""
        return await Address.filter(nic__vm_id=vm.id).order_by("id").prefetch_related("network", "nic")

    async def rows(self, vm: Vm) -> list[AddressRow]:
        """The same, as lists show them."""
        found: list[AddressRow] = []
        first: set[tuple[int, int]] = set()
        addresses = await self.of_vm(vm)
        pools = await Pool.filter(network_id__in=[address.network_id for address in addresses])
        for address in addresses:
            space = space_with(spaces_of(address.network, pools), address.ip)
            version = version_of(address.ip, "")
            key = (address.nic_id, version)
            by_dhcp = key not in first and version == 4 and address.network.mode is NicMode.NAT
            has = {text.split("/")[0] for text in address.nic.addresses}
            mask, gateway = (space.netmask, space.gateway) if space else ("", "")
            found.append(AddressRow(address, mask, gateway, by_dhcp, address.ip in has))
            first.add(key)
        return found

    # -- giving --------------------------------------------------------------------------------------------------

    async def give_new(self, vm: Vm, wanted: Mapping[str, tuple[str, str]]) -> list[Text]:
        """Give each interface of a new VM its addresses: those in ``wanted`` (IPv4, IPv6 by interface), else free ones; on a
        bridge where it has pools. Returns notes for the task's log. The caller removes the VM when this raises."""
        notes: list[Text] = []
        if capabilities(vm.host.engine).why_not("networks") is not None:
            return notes
        for nic in await Nic.filter(vm_id=vm.id, mode__isnull=False):
            network = await self.network_of(vm.host_id, nic)
            spaces = await self._spaces(network) if network is not None else []
            texts = wanted.get(nic.name, ("", ""))
            if network is None and nic.mode is NicMode.NAT:
                if any(texts):
                    raise Conflict(_("Host {host} has no NAT network that is known yet. Wait until it was looked at."),
                                   host=vm.host.name)  # fmt: skip
                notes.append(Text(_("{name}: no network is known yet, so DHCP decides about its address."),
                                  {"name": nic.name}))  # fmt: skip
            for version, text in zip((4, 6), texts, strict=True):
                has = any(space.version == version for space in spaces)
                if network is not None and (has or (text and nic.mode is NicMode.NAT)):
                    await self._give(network, spaces, nic, version, text, f"nic_all.{nic.name}.ip{version}_addr")
                elif text and nic.mode is NicMode.BRIDGE:
                    notes.append(Text(
                        _("{name} asks for address {address}: on a bridge the network decides, so it may get another."),
                        {"name": nic.name, "address": text}))  # fmt: skip
        return notes

    @whole
    async def add(
        self, actor: Actor, vm: Vm, interface: str, ip: str = "", netmask: str = "", gateway: str = ""
    ) -> Address:
        """Give an interface one more address; an empty ``ip`` takes a free one (of the pool with that mask and gateway). DHCP
        brings the first IPv4 address to a guest on a NAT network; others are to be set up inside it.

        Raises:
            InvalidInput: not an address, not of the network, or a mask or gateway that the network does not have.
            Conflict: it is another's, or reserved, or none is free.
        """
        actor.require(Permission.MANAGE)
        capabilities(vm.host.engine).require("networks")
        nic = await Nic.get_or_none(vm_id=vm.id, name=interface[:64])
        if nic is None:
            raise NotFound(_("{field}: the VM has no interface {name}."), field="interface", name=interface[:64])
        network = await self.network_of(vm.host_id, nic)
        spaces = await self._spaces(network) if network is not None else []
        if network is None or not (spaces or network.mode is NicMode.NAT):
            raise Conflict(
                _("{name} is on no network whose addresses the panel gives."), field="interface", name=nic.name
            )
        usual = min((space.version for space in spaces), default=4)
        version = version_of(ip, "ip_address") if ip else usual
        fitting = that_fit(network.name, spaces, version, netmask, gateway)
        address = await self._give(network, fitting, nic, version, ip, "ip_address")
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
            Conflict: ``address_id`` is not what stands there, or a forward or a domain leads to it.
        """
        actor.require(Permission.MANAGE)
        address = at_position(await self.of_vm(vm), index, address_id)
        forward = await Forward.filter(vm_id=vm.id, internal_ip=address.ip).first()
        if forward is not None:
            raise Conflict(
                _("The forward of {protocol} port {port} leads to {address}. Remove it first."),
                protocol=forward.protocol, port=forward.external_start, address=address.ip,
            )  # fmt: skip
        proxy = await Proxy.filter(vm_id=vm.id, target_ip=address.ip).first()
        if proxy is not None:
            raise Conflict(
                _("The domain {domain} leads to {address}. Remove it first."), domain=proxy.domain, address=address.ip
            )
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

    async def _spaces(self, network: Network) -> list[Space]:
        return spaces_of(network, await Pool.filter(network_id=network.id))

    async def _give(
        self, network: Network, spaces: Sequence[Space], nic: Nic, version: int, wanted: str, field: str
    ) -> Address:
        for _attempt in range(TRIES):
            refused = await self.refused(network, nic.vm_id)
            text = wanted and check_given(network.name, spaces, version, wanted, refused, field)
            try:
                ip = text or lowest(network.name, spaces, version, refused)
                return await Address.create(network_id=network.id, nic_id=nic.id, ip=ip)
            except IntegrityError:  # another took it since we looked: the database gives it to one
                await asyncio.sleep(0)
        raise Conflict(_("Too many ask for addresses of {network} at once. Try again."), network=network.name)

    async def refused(self, network: Network, vm_id: int = 0) -> dict[str, Text]:
        """Every single address of a network that is not to be had, and why; for a VM, what is seen on itself is."""
        refused: dict[str, Text] = {}
        for text in network.foreign:
            refused[text] = Text(RESERVED)
        for gateway in filter(None, (network.gateway4, network.gateway6)):
            refused[gateway] = Text(_("{field}: {address} is the network's gateway."))
        others = await Nic.filter(vm__host_id=network.host_id).exclude(vm_id=vm_id).values("addresses", "vm__name")
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

    async def placed(self, vm: Vm, spec: VmSpec) -> VmSpec:
        """``spec`` with the addresses that its guest is told of at its first boot: all but those that DHCP brings."""
        nics = {nic.mac: nic for nic in await Nic.filter(vm_id=vm.id).prefetch_related("given__network")}
        pools = await Pool.filter(network__host_id=vm.host_id)
        return replace(spec, nics=tuple(_placed(nic, nics.get(nic.mac), pools) for nic in spec.nics))

    async def reserve_all(self, vm: Vm, engine: Engine) -> None:
        """Make the DHCP reservations of a VM's interfaces, before it starts."""
        for nic in await Nic.filter(vm_id=vm.id):
            for network in await Network.filter(addresses__nic_id=nic.id).distinct():
                await self._reserve(engine, nic, network)

    async def unreserve_all(self, vm: Vm, engine: Engine) -> None:
        """Remove them, before the VM's rows go. What DHCP has lent the VM is nobody's until that ends."""
        lent: dict[str, set[str]] = {}
        for nic in await Nic.filter(vm_id=vm.id):
            for network in await Network.filter(addresses__nic_id=nic.id, mode=NicMode.NAT).distinct():
                await limited(engine.reserve(network.name, nic.mac, ()), RESERVE_SECONDS)
                for info in await limited(engine.list_networks()):
                    lent.setdefault(info.name, set()).update(ip for mac, ip in info.leases if mac == nic.mac)
        for network in await Network.filter(host_id=vm.host_id, name__in=[name for name, held in lent.items() if held]):
            network.foreign = sorted({*network.foreign, *lent[network.name]})
            await network.save(update_fields=["foreign"])

    async def _reserve(self, engine: Engine, nic: Nic, network: Network) -> None:
        """DHCP gives the first address of each family."""
        if network.mode is not NicMode.NAT:
            return
        rows = await Address.filter(nic_id=nic.id, network_id=network.id).order_by("id")
        first: dict[int, str] = {}
        for row in rows:
            first.setdefault(version_of(row.ip, ""), row.ip)
        await limited(engine.reserve(network.name, nic.mac, tuple(first.values())), RESERVE_SECONDS)


def at_position(rows: Sequence[Address], index: int, row_id: int | None) -> Address:
    """The row at ``index``; ``Conflict`` when ``row_id`` says that another was meant."""
    if not 0 <= index < len(rows):
        raise NotFound(_("There is no address at position {index}."), index=index)
    if row_id is not None and rows[index].id != row_id:
        raise Conflict(_("Position {index} is another address by now. Read the list again."), index=index)
    return rows[index]


def _placed(spec: NicSpec, nic: Nic | None, pools: Sequence[Pool]) -> NicSpec:
    addresses: list[str] = []
    gateways: dict[int, str] = {}
    dns: list[str] = []
    given: Sequence[Address] = sorted(nic.given, key=lambda row: row.id) if nic else ()  # type: ignore[attr-defined]
    for row in given:
        space = space_with(spaces_of(row.network, pools), row.ip)
        if space is None or (row.network.mode is NicMode.NAT and space.version == 4):
            continue
        addresses.append(f"{row.ip}/{space.subnet.prefixlen}")
        if space.gateway:
            gateways.setdefault(space.version, space.gateway)
        dns += space.dns
    return replace(spec, addresses=tuple(addresses), gateways=tuple(gateways.values()), dns=tuple(dict.fromkeys(dns)))


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
    held = {*info.reservations, *info.leases}
    values["foreign"] = sorted({*info.taken, *(ip for mac, ip in held if mac.lower() not in macs)})
    return values
