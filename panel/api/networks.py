"""Networks of a host and the pools of its bridges: beside the document, for programs that keep their own lists of addresses."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from panel import web
from panel.api import netanswers, wire
from panel.api.routing import endpoint
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _
from panel.models import Host
from panel.security import Actor, Permission
from panel.services.pools import NetworkRow, PoolRequest, SpaceRow

ROUTE = "/server/network/<hs_name>"


def register(api: Blueprint) -> None:
    """Add the routes below ``/api/server/network``."""

    @endpoint(api, "GET", ROUTE, answer=netanswers.NetworksOut)
    async def list_networks(actor: Actor, hs_name: str) -> netanswers.NetworksOut:
        """A host's networks: their subnets or pools, how full they are, and who has which address."""
        actor.require(Permission.VIEW)
        return await _networks(await web.services().hosts.get(hs_name))

    @endpoint(api, "PUT", f"{ROUTE}/<net_name>", answer=netanswers.NetworksOut, body=wire.ReservedBody)
    async def reserve_addresses(
        actor: Actor, hs_name: str, net_name: str, body: wire.ReservedBody
    ) -> netanswers.NetworksOut:
        """Say which addresses of a NAT network no VM is given. A VM that has one keeps it."""
        host = await web.services().hosts.get(hs_name)
        notes = await web.services().pools.set_reserved(actor, host, net_name, body.reserved)
        return await _networks(host, [note.translate() for note in notes])

    @endpoint(api, "POST", f"{ROUTE}/<net_name>", answer=netanswers.NetworksOut, body=wire.PoolBody)
    async def add_pool(actor: Actor, hs_name: str, net_name: str, body: wire.PoolBody) -> netanswers.NetworksOut:
        """Give a bridge a pool: VMs that are made on it from now on get an address of it."""
        host = await web.services().hosts.get(hs_name)
        await web.services().pools.add_pool(actor, host, net_name, _request(body))
        return await _networks(host)

    @endpoint(api, "PUT", f"{ROUTE}/<net_name>/<pool_id>", answer=netanswers.NetworksOut, body=wire.PoolBody)
    async def change_pool(
        actor: Actor, hs_name: str, net_name: str, pool_id: str, body: wire.PoolBody
    ) -> netanswers.NetworksOut:
        """Change a pool, all of it. What VMs have must stay in it; guests were told of the rest at their first boot."""
        host = await web.services().hosts.get(hs_name)
        _pool, notes = await web.services().pools.change_pool(actor, host, net_name, _id(pool_id), _request(body))
        return await _networks(host, [note.translate() for note in notes])

    @endpoint(api, "DELETE", f"{ROUTE}/<net_name>/<pool_id>", answer=netanswers.NetworksOut)
    async def delete_pool(actor: Actor, hs_name: str, net_name: str, pool_id: str) -> netanswers.NetworksOut:
        """Remove a pool that no VM has an address of."""
        host = await web.services().hosts.get(hs_name)
        await web.services().pools.delete_pool(actor, host, net_name, _id(pool_id))
        return await _networks(host)


def _request(body: wire.PoolBody) -> PoolRequest:
    return PoolRequest(body.subnet.strip(), body.gateway.strip(), body.dns, body.ranges, body.reserved)


def _id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput(_("{field} must be the id of a pool."), field="pool_id")
    return int(text)


async def _networks(host: Host, notes: list[str] | None = None) -> netanswers.NetworksOut:
    rows = await web.services().pools.overview(host)
    return netanswers.NetworksOut(networks=[_network(row) for row in rows], notes=notes or [])


def _network(row: NetworkRow) -> netanswers.NetworkOut:
    network = row.network
    return netanswers.NetworkOut(
        name=network.name,
        mode=network.mode,
        bridge=network.bridge,
        reserved=network.reserved,
        pools=[_pool(space) for space in row.spaces],
    )


def _countable(number: int) -> int | None:
    """As JSON's readers can hold it: 53 bits (RFC 8259, 6)."""
    return number if number < 2**53 else None


def _pool(row: SpaceRow) -> netanswers.PoolOut:
    values: dict[str, Any] = {"ranges": [], "reserved": []}
    if row.pool is not None:
        values = {"ranges": row.pool.ranges, "reserved": row.pool.reserved}
    return netanswers.PoolOut(
        id=row.space.pool_id,
        subnet=str(row.space.subnet),
        gateway=row.space.gateway,
        dns=list(row.space.dns),
        total_count=_countable(row.capacity.total),
        given_count=row.capacity.given,
        reserved_count=_countable(row.capacity.reserved),
        free_count=_countable(row.capacity.free),
        addresses=[
            netanswers.HolderOut(
                ip_address=address.ip,
                vm_uuid=address.nic.vm.name,
                interface=address.nic.name,
                seen=address.ip in address.nic.addresses,
            )
            for address in row.holders
        ],
        **values,
    )
