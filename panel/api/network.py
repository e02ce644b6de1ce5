"""网络配置: addresses and port forwards of a VM."""

from __future__ import annotations

from quart import Blueprint

from panel import web
from panel.api import netanswers, wire
from panel.api.routing import endpoint
from panel.api.views import told
from panel.errors import InvalidInput
from panel.gateways.types import Protocol
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Forward, Vm
from panel.security import Actor, Permission
from panel.services.addresses import AddressRow
from panel.services.forwards import ForwardRequest


def register(api: Blueprint) -> None:
    """Add the routes ``natget``, ``natadd``, ``natdel`` and ``ipaddr``."""
    _register_forwards(api)
    _register_addresses(api)


def _register_forwards(api: Blueprint) -> None:
    @endpoint(api, "GET", "/client/natget/<hs_name>/<vm_uuid>", answer=netanswers.ForwardsOut)
    async def list_forwards(actor: Actor, hs_name: str, vm_uuid: str) -> netanswers.ForwardsOut:
        """获取NAT规则: a VM's forwards, each with whether it holds."""
        actor.require(Permission.VIEW)
        vm = await web.services().vms.get(hs_name, vm_uuid)
        rows = await web.services().forwards.of_vm(vm)
        reason, way = web.services().gateways.why_not(vm.host), web.services().gateways.way(vm.host)
        apart = await web.services().forwards.apart(vm)
        return netanswers.ForwardsOut(
            rules=[forward_out(row, index) for index, row in enumerate(rows)],
            ports_start=vm.host.ports_start,
            ports_close=vm.host.ports_close,
            nat_num=vm.limits.get("nat_num"),
            reason=gettext(reason) if reason else apart.translate() if apart else None,
            way=way.kind if way else None,
        )

    @endpoint(api, "POST", "/client/natadd/<hs_name>/<vm_uuid>", answer=netanswers.ForwardOut, body=wire.NewForwardBody)
    async def add_forward(actor: Actor, hs_name: str, vm_uuid: str, body: wire.NewForwardBody) -> netanswers.ForwardOut:
        """添加NAT规则: forward a port, or ports beside one another, to the VM. What cannot be applied now is kept, as
        ``failed`` with the reason, and applied as soon as it can be."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        forward = await web.services().forwards.add(actor, vm, _forward_request(body))
        ids = [row.id for row in await web.services().forwards.of_vm(vm)]
        return forward_out(forward, ids.index(forward.id))

    @endpoint(
        api, "DELETE", "/client/natdel/<hs_name>/<vm_uuid>/<rule_index>",
        answer=netanswers.RemovedForwardOut, query=wire.RowQuery,
    )  # fmt: skip
    async def remove_forward(
        actor: Actor, hs_name: str, vm_uuid: str, rule_index: str, query: wire.RowQuery
    ) -> netanswers.RemovedForwardOut:
        """删除NAT规则: by its position in the list as last read."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        index = position(rule_index, "rule_index")
        forward, problem = await web.services().forwards.remove(actor, vm, index, query.id)
        return netanswers.RemovedForwardOut(id=forward.id, problem=problem.translate() if problem else None)


def _register_addresses(api: Blueprint) -> None:
    @endpoint(api, "GET", "/client/ipaddr/detail/<hs_name>/<vm_uuid>", answer=netanswers.AddressesOut)
    async def list_addresses(actor: Actor, hs_name: str, vm_uuid: str) -> netanswers.AddressesOut:
        """获取IP列表: the addresses that a VM was given, and those that it really has."""
        actor.require(Permission.VIEW)
        return await _addresses(await web.services().vms.get(hs_name, vm_uuid))

    @endpoint(
        api, "POST", "/client/ipaddr/create/<hs_name>/<vm_uuid>", answer=netanswers.AddressOut, body=wire.NewAddressBody
    )
    async def add_address(actor: Actor, hs_name: str, vm_uuid: str, body: wire.NewAddressBody) -> netanswers.AddressOut:
        """添加IP地址: give an interface an address. DHCP brings the first of each family to the guest."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        added = await web.services().addresses.add(
            actor, vm, body.interface, body.ip_address.strip(), body.netmask.strip(), body.gateway.strip()
        )
        rows = await web.services().addresses.rows(vm)
        return next(address_out(row, index) for index, row in enumerate(rows) if row.address.id == added.id)

    @endpoint(
        api, "DELETE", "/client/ipaddr/delete/<hs_name>/<vm_uuid>/<ip_index>",
        answer=netanswers.RemovedAddressOut, query=wire.RowQuery,
    )  # fmt: skip
    async def remove_address(
        actor: Actor, hs_name: str, vm_uuid: str, ip_index: str, query: wire.RowQuery
    ) -> netanswers.RemovedAddressOut:
        """删除IP地址: by its position in the list as last read."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        removed = await web.services().addresses.remove(actor, vm, position(ip_index, "ip_index"), query.id)
        return netanswers.RemovedAddressOut(id=removed.id, ip_address=removed.ip)


async def _addresses(vm: Vm) -> netanswers.AddressesOut:
    rows = await web.services().addresses.rows(vm)
    return netanswers.AddressesOut(
        addresses=[address_out(row, index) for index, row in enumerate(rows)],
        seen=[netanswers.SeenOut(interface=nic.name, mac_addr=nic.mac, addresses=nic.addresses) for nic in vm.nics],
    )


def _forward_request(body: wire.NewForwardBody) -> ForwardRequest:
    count = 1 if body.count is None else body.count
    if body.external_end:
        if not body.external_port or body.external_end < body.external_port:
            raise InvalidInput(_("{field} must not be below external_port."), field="external_end")
        length = body.external_end - body.external_port + 1
        if body.count is not None and body.count != length:
            raise InvalidInput(_("{field} and external_end say different things."), field="count")
        count = length
    return ForwardRequest(
        protocol=Protocol(body.protocol),
        internal_start=body.internal_port,
        external_start=body.external_port,
        count=count,
        internal_ip=body.internal_ip.strip(),
    )


def position(text: str, field: str) -> int:
    """A position of a path. ``InvalidInput`` names the field."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput(_("{field} must be a position in the list, from 0."), field=field)
    return int(text)


def forward_out(row: Forward, index: int) -> netanswers.ForwardOut:
    """A forward at its position."""
    return netanswers.ForwardOut(
        rule_index=index,
        id=row.id,
        protocol=row.protocol,
        external_port=row.external_start,
        external_end=row.external_end,
        internal_port=row.internal_start,
        internal_end=row.internal_end,
        internal_ip=row.internal_ip,
        state=row.state,
        problem=told(row.problem),
        applied_at=row.applied_at,
        created_at=row.created_at,
    )


def address_out(row: AddressRow, index: int) -> netanswers.AddressOut:
    """An address at its position."""
    return netanswers.AddressOut(
        ip_index=index,
        id=row.address.id,
        interface=row.address.nic.name,
        mac_addr=row.address.nic.mac,
        ip_address=row.address.ip,
        netmask=row.netmask,
        gateway=row.gateway,
        network=row.address.network.name,
        by_dhcp=row.by_dhcp,
        seen=row.seen,
    )
