"""Pools: the addresses of bridges as an operator wrote them down, what is kept back, and how much is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from panel.engines.types import NicMode
from panel.errors import Conflict, InvalidInput, NotFound, Problems
from panel.events import EventBus, HostChanged
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Address, Host, Network, Pool
from panel.security import Actor, Permission
from panel.services.addresses import AddressService
from panel.services.audit import AuditLog
from panel.services.gateways import GatewayService
from panel.services.spaces import Capacity, Pair, Space, Subnet, capacity, space_of, space_with, spaces_of, version_of
from panel.services.whole import whole

MOST_PAIRS = 64  # ranges of one pool
MOST_DNS = 4


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """A pool as it shall be: see ``Pool``."""

    subnet: str
    gateway: str = ""
    dns: Sequence[str] = ()
    ranges: Sequence[Pair] = ()
    reserved: Sequence[Pair] = ()


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """A space as lists show it: how full it is, and who has which address, in their order."""

    space: Space
    capacity: Capacity
    holders: list[Address]
    pool: Pool | None = None


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A network of a host with its spaces."""

    network: Network
    spaces: list[SpaceRow]


class PoolService:
    """The spaces of a host's networks."""

    def __init__(self, addresses: AddressService, gateways: GatewayService, events: EventBus, audit: AuditLog) -> None:
        self._addresses = addresses
        self._gateways = gateways
        self._events = events
        self._audit = audit

    # -- reading -------------------------------------------------------------------------------------------------

    async def overview(self, host: Host) -> list[NetworkRow]:
        """A host's networks by name."""
        networks = await Network.filter(host_id=host.id).order_by("mode", "name")
        pools = await Pool.filter(network__host_id=host.id).order_by("id")
        given = await Address.filter(network__host_id=host.id).prefetch_related("nic__vm__host")
        return [await self._row(network, pools, [row for row in given if row.network_id == network.id])
                for network in networks]  # fmt: skip

    async def _row(self, network: Network, pools: Sequence[Pool], given: Sequence[Address]) -> NetworkRow:
        spaces = spaces_of(network, pools)
        refused = await self._addresses.refused(network)
        holders: dict[Space | None, list[Address]] = {}
        for row in sorted(given, key=lambda row: int(ip_address(row.ip))):
            holders.setdefault(space_with(spaces, row.ip), []).append(row)
        texts = [row.ip for row in given]
        by_id = {pool.id: pool for pool in pools}
        rows = [
            SpaceRow(space, capacity(space, texts, refused), holders.get(space, []), by_id.get(space.pool_id or 0))
            for space in spaces
        ]
        return NetworkRow(network, rows)

    async def get(self, host: Host, name: str) -> Network:
        """A host's network, or ``NotFound``."""
        network = await Network.get_or_none(host_id=host.id, name=name[:64])
        if network is None:
            raise NotFound(_("Host {host} has no network {name}."), host=host.name, name=name[:64])
        return network

    async def pool(self, network: Network, pool_id: int) -> Pool:
        """A network's pool, or ``NotFound``."""
        pool = await Pool.get_or_none(network_id=network.id, id=pool_id)
        if pool is None:
            raise NotFound(_("Network {network} has no such pool any more."), network=network.name)
        return pool

    # -- changing ------------------------------------------------------------------------------------------------

    @whole
    async def set_reserved(self, actor: Actor, host: Host, name: str, reserved: Sequence[Pair]) -> list[Text]:
        """Say which addresses of a NAT network are kept back. VMs that have one of them keep it: the notes name them.

        Raises:
            InvalidInput: not a range of addresses of the network.
            Conflict: it is a bridge, whose pools have reserved addresses of their own.
        """
        actor.require(Permission.MANAGE)
        network = await self.get(host, name)
        if network.mode is not NicMode.NAT:
            raise Conflict(_("Network {network} has pools. Say there what is reserved."), network=network.name)
        subnets = [space.subnet for space in spaces_of(network, ())]
        network.reserved = _pairs(reserved, subnets, "reserved")
        await network.save(update_fields=["reserved"])
        await self._changed(actor, host, Text(_("Changed the reserved addresses of {network}."), {"network": name}))
        return await self._covered(network, spaces_of(network, ()))

    @whole
    async def add_pool(self, actor: Actor, host: Host, name: str, request: PoolRequest) -> Pool:
        """Give a bridge a pool. ``InvalidInput`` names the field; ``Conflict``: a NAT network, or it overlaps another pool."""
        actor.require(Permission.MANAGE)
        network = await self.get(host, name)
        if network.mode is not NicMode.BRIDGE:
            raise Conflict(_("Network {network} gives addresses of its own: pools are for bridges."), network=name)
        pool = Pool(network_id=network.id, **_checked(request))
        await self._check_beside(network, pool)
        try:
            await pool.save()
        except IntegrityError:
            raise _overlap(network, pool.subnet, pool.subnet) from None
        text = Text(_("Added the pool {subnet} to {network}."), {"subnet": pool.subnet, "network": name})
        await self._changed(actor, host, text)
        return pool

    @whole
    async def change_pool(
        self, actor: Actor, host: Host, name: str, pool_id: int, request: PoolRequest
    ) -> tuple[Pool, list[Text]]:
        """Change a pool, all of it; guests were told at their first boot. Notes name VMs whose addresses are reserved now.

        Raises:
            InvalidInput: a field is wrong.
            Conflict: a VM has an address that would not be the pool's any more, or would be its gateway; it overlaps another.
        """
        actor.require(Permission.MANAGE)
        network = await self.get(host, name)
        pool = await self.pool(network, pool_id)
        before, values = space_of(pool), _checked(request)
        try:
            async with in_transaction("default"):
                await pool.update_from_dict(values).save()
                await self._check_beside(network, pool)
                after = space_of(pool)
                for row in await self._holders(network, before):
                    _check_keeps(row, after)
        except IntegrityError:
            raise _overlap(network, pool.subnet, pool.subnet) from None
        text = Text(_("Changed the pool {subnet} of {network}."), {"subnet": pool.subnet, "network": name})
        await self._changed(actor, host, text)
        return pool, await self._covered(network, [after])

    @whole
    async def delete_pool(self, actor: Actor, host: Host, name: str, pool_id: int) -> Pool:
        """Remove a pool that no VM has an address of. ``Conflict`` names the VM."""
        actor.require(Permission.MANAGE)
        network = await self.get(host, name)
        pool = await self.pool(network, pool_id)
        async with in_transaction("default"):
            await Pool.filter(id=pool.id).delete()
            for row in await self._holders(network, space_of(pool)):
                raise Conflict(
                    _("VM {name} has the address {address} of this pool. Take it away first."),
                    field="subnet", name=row.nic.vm.name, address=row.ip,
                )  # fmt: skip
        text = Text(_("Removed the pool {subnet} from {network}."), {"subnet": pool.subnet, "network": name})
        await self._changed(actor, host, text)
        return pool

    async def _changed(self, actor: Actor, host: Host, text: Text) -> None:
        await self._audit.write(actor, "host.network", "host", host.name, text)
        self._events.publish(HostChanged(host.id))
        self._gateways.wake(host.id)

    async def _holders(self, network: Network, space: Space) -> list[Address]:
        rows = await Address.filter(network_id=network.id).prefetch_related("nic__vm")
        return [row for row in rows if space_with([space], row.ip) is not None]

    async def _covered(self, network: Network, spaces: Sequence[Space]) -> list[Text]:
        return [
            Text(_("{address} is reserved now; VM {name} keeps it."), {"address": row.ip, "name": row.nic.vm.name})
            for space in spaces
            for row in await self._holders(network, space)
            if space.is_reserved(ip_address(row.ip))
        ]

    async def _check_beside(self, network: Network, pool: Pool) -> None:
        mine = ip_network(pool.subnet)
        networks = {row.id: row for row in await Network.filter(host_id=network.host_id)}
        others = await Pool.filter(network_id__in=list(networks)).exclude(id=pool.id or 0)
        for row in networks.values():
            for space in spaces_of(row, others):
                if space.version == mine.version and space.subnet.overlaps(mine):
                    raise _overlap(row, pool.subnet, str(space.subnet))


def _overlap(network: Network, subnet: str, other: str) -> Conflict:
    text = _("{field}: {subnet} overlaps {other} of network {network}.")
    return Conflict(text, field="subnet", subnet=subnet, other=other, network=network.name)


def _check_keeps(row: Address, space: Space) -> None:
    """``Conflict`` unless the VM that has an address of a pool still can, now that the pool is ``space``."""
    address = ip_address(row.ip)
    if address.version != space.version or address not in space.subnet:
        raise Conflict(
            _("{field}: VM {name} has {address}, which would not be in the pool any more."),
            field="subnet", name=row.nic.vm.name, address=row.ip,
        )  # fmt: skip
    if row.ip == space.gateway:
        raise Conflict(_("{field}: {address} belongs to VM {name}."), field="gateway", address=row.ip,
                       name=row.nic.vm.name)  # fmt: skip
    if not space.holds(address):
        raise Conflict(
            _("{field}: VM {name} has {address}, which would not be in the pool any more."),
            field="ranges", name=row.nic.vm.name, address=row.ip,
        )  # fmt: skip


def _checked(request: PoolRequest) -> dict[str, Any]:
    """A pool's columns. ``InvalidInput`` names each field and the mend."""
    values: dict[str, Any] = {}
    subnet: Subnet | None = None
    problems = Problems()
    with problems.noted():
        subnet = _subnet(request.subnet)
        values["subnet"] = str(subnet)
    with problems.noted():
        values["dns"] = _dns(request.dns)
    if subnet is not None:
        with problems.noted():
            values["gateway"] = _gateway(request.gateway, subnet) if request.gateway else ""
        with problems.noted():
            values["ranges"] = _pairs(request.ranges, [subnet], "ranges")
        with problems.noted():
            values["reserved"] = _pairs(request.reserved, [subnet], "reserved")
    problems.tell()
    return values


def _dns(given: Sequence[str]) -> list[str]:
    if len(given) > MOST_DNS:
        raise InvalidInput(_("{field} may have at most {most} lines."), field="dns", most=MOST_DNS)
    for text in given:
        version_of(text, "dns")
    return [str(ip_address(text)) for text in given]


def _subnet(text: str) -> Subnet:
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise InvalidInput(
            _("{field} must be a network with its prefix, as in 203.0.113.0/24 or 2001:db8::/64."), field="subnet"
        ) from None
    if "/" not in text or loose.num_addresses < (4 if loose.version == 4 else 2):
        raise InvalidInput(
            _("{field} must be a network with its prefix, as in 203.0.113.0/24 or 2001:db8::/64."), field="subnet"
        )
    if ip_address(text.partition("/")[0]) != loose.network_address:
        raise InvalidInput(_("{field}: the network of this address is {subnet}."), field="subnet", subnet=str(loose))
    if loose.is_multicast or loose.is_loopback or loose.is_link_local or loose.prefixlen == 0:
        raise InvalidInput(_("{field}: no VM can have an address of {subnet}."), field="subnet", subnet=str(loose))
    return loose


def _gateway(text: str, subnet: Subnet) -> str:
    """Of the subnet; or, as IPv6 routers have it, link-local."""
    version = version_of(text, "gateway")
    address = ip_address(text)
    link_local = version == 6 and address.is_link_local
    if version != subnet.version or not (link_local or Space(subnet).holds(address)):
        raise InvalidInput(
            _("{field}: {address} is not an address of a machine in {subnet}."),
            field="gateway", address=str(address), subnet=str(subnet),
        )  # fmt: skip
    return str(address)


def _pairs(pairs: Sequence[Pair], subnets: Iterable[Subnet], field: str) -> list[list[str]]:
    """[first, last] pairs in canonical form, each within one of ``subnets``."""
    known = list(subnets)
    if len(pairs) > MOST_PAIRS:
        raise InvalidInput(_("{field} may have at most {most} lines."), field=field, most=MOST_PAIRS)
    found = []
    for pair in pairs:
        first, last = pair
        versions = version_of(first, field), version_of(last, field)
        low, high = ip_address(first), ip_address(last)
        if versions[0] != versions[1] or int(low) > int(high):
            raise InvalidInput(_("{field}: {first} to {last} is no range: the lower address comes first."), field=field,
                               first=str(low), last=str(high))  # fmt: skip
        if not any(low.version == subnet.version and low in subnet and high in subnet for subnet in known):
            raise InvalidInput(
                _("{field}: {first} to {last} is not within {subnet}."),
                field=field, first=str(low), last=str(high), subnet=", ".join(map(str, known)) or "-",
            )  # fmt: skip
        found.append([str(low), str(high)])
    return found
