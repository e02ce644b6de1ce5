"""Port forwards: what is wanted, checked and stored here; ``GatewayService`` makes it so and keeps it so."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from panel.engines.types import NicMode
from panel.errors import Conflict, InvalidInput, NotFound
from panel.events import EventBus, VmChanged
from panel.gateways.types import Protocol
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Forward, ForwardPort, Host, Nic, Vm
from panel.security import Actor, Permission
from panel.services.audit import AuditLog
from panel.services.gateways import SETTINGS, GatewayService
from panel.services.machines import Gateway
from panel.services.rows import read_again
from panel.services.whole import whole
from panel.services.wishes import APART

MOST_PORTS = 1000  # of one forward
TRIES = 8  # of another process that takes the ports which we chose


@dataclass(frozen=True, slots=True)
class ForwardRequest:
    """A forward that is wanted. ``external_start`` 0 takes free ports of the host's range; an empty ``internal_ip`` is the
    VM's own."""

    protocol: Protocol
    internal_start: int
    external_start: int = 0
    count: int = 1
    internal_ip: str = ""


class ForwardService:
    """The forwards of VMs."""

    def __init__(self, panel_port: int, gateways: GatewayService, events: EventBus, audit: AuditLog) -> None:
        self._panel_port = panel_port
        self._gateways = gateways
        self._events = events
        self._audit = audit

    async def of_vm(self, vm: Vm) -> list[Forward]:
        """A VM's forwards, oldest first: their positions are what ``remove`` takes."""
        return await Forward.filter(vm_id=vm.id).order_by("id")

    async def own_addresses(self, vm: Vm) -> list[str]:
        """Where a VM's forwards may lead: the addresses that it was given; of an interface without any, those seen on it. None of
        an interface that is apart."""
        found: list[str] = []
        for nic in await Nic.filter(vm_id=vm.id, mode=NicMode.NAT, apart="").order_by("name").prefetch_related("given"):
            given = [row.ip for row in sorted(nic.given, key=lambda row: row.id)]  # type: ignore[attr-defined]
            found += given or [text.split("/")[0] for text in nic.addresses]
        usable = [text for text in found if not ip_address(text.split("%")[0]).is_link_local]
        return sorted(dict.fromkeys(usable), key=lambda text: ip_address(text).version)

    async def apart(self, vm: Vm) -> Text | None:
        """Why no forward reaches a VM where it is; None when one can, or when it just shows no address yet."""
        nics = await Nic.filter(vm_id=vm.id, mode=NicMode.NAT)
        if not nics or not all(nic.apart for nic in nics):
            return None
        return Text(APART, {"machine": nics[0].apart, "network": nics[0].network})

    @whole
    async def add(self, actor: Actor, vm: Vm, request: ForwardRequest) -> Forward:
        """Check, store and apply. A forward that could not be applied is kept, with state ``failed`` and the reason, and tried
        again by itself.

        Raises:
            InvalidInput: a port or address that cannot be.
            Conflict: the ports are taken, by whom; the VM may have no more; it has no address.
            Unsupported: this host has no forwards.
        """
        actor.require(Permission.MANAGE)
        machine, gateway = self._gateways.of(vm.host)
        _check_ports(request)
        internal = await self._internal_ip(vm, request.internal_ip)
        async with self._gateways.lock(machine):
            await self._check_limit(vm)
            forward = await self._store(vm, machine, gateway, request, internal)
            await self._gateways.converge_locked(vm.host)
        text = Text(
            _("Forwarded {protocol} port {port} to {address}."),
            {"protocol": forward.protocol, "port": _ports(forward), "address": forward.internal_ip},
        )
        await self._audit.write(actor, "vm.forward", "vm", f"{vm.host.name}/{vm.name}", text)
        self._events.publish(VmChanged(vm.id, vm.host_id))
        return await read_again(Forward, forward.id, vm)

    @whole
    async def remove(
        self, actor: Actor, vm: Vm, index: int, forward_id: int | None = None
    ) -> tuple[Forward, Text | None]:
        """Remove a forward by its position in ``of_vm``. Says too why it is still in the kernel, if it is; then it goes as soon
        as the gateway works again.

        Raises:
            NotFound: there is no such position.
            Conflict: ``forward_id`` is not what stands there.
        """
        actor.require(Permission.MANAGE)
        rows = await self.of_vm(vm)
        if not 0 <= index < len(rows):
            raise NotFound(_("There is no forward at position {index}."), index=index)
        forward = rows[index]
        if forward_id is not None and forward.id != forward_id:
            raise Conflict(_("Position {index} is another forward by now. Read the list again."), index=index)
        await forward.delete()
        problem = await self._gateways.converge(vm.host)
        text = Text(
            _("Removed the forward of {protocol} port {port}."),
            {"protocol": forward.protocol, "port": _ports(forward)},
        )
        await self._audit.write(actor, "vm.forward", "vm", f"{vm.host.name}/{vm.name}", text)
        self._events.publish(VmChanged(vm.id, vm.host_id))
        return forward, problem

    async def _internal_ip(self, vm: Vm, wanted: str) -> str:
        own = await self.own_addresses(vm)
        apart = await self.apart(vm)
        if apart is not None:
            raise Conflict(apart.msgid, field="internal_ip", **apart.params)
        if not wanted:
            if not own:
                raise Conflict(_("VM {name} has no address on a NAT network yet."), field="internal_ip", name=vm.name)
            return own[0]
        try:
            text = str(ip_address(wanted))
        except ValueError:
            raise InvalidInput(_("{field} must be an IPv4 or IPv6 address."), field="internal_ip") from None
        if text not in own:
            raise InvalidInput(
                _("{field}: {address} is no address of VM {name}. It has: {known}."),
                field="internal_ip", address=text, name=vm.name, known=", ".join(own) or "-",
            )  # fmt: skip
        return text

    async def _check_limit(self, vm: Vm) -> None:
        most = vm.limits.get("nat_num")
        if most is not None and await Forward.filter(vm_id=vm.id).count() >= most:
            raise Conflict(_("VM {name} may have {most} forwards (nat_num), and has them."), name=vm.name, most=most)

    async def _store(self, vm: Vm, machine: str, gateway: Gateway, request: ForwardRequest, internal: str) -> Forward:
        protocol, count = request.protocol, request.count
        for _attempt in range(TRIES):
            refused = await self._refused(vm.host, machine, gateway, protocol)
            if request.external_start:
                start = request.external_start
                for port in range(start, start + count):
                    if port in refused:
                        why = refused[port]
                        raise Conflict(why.msgid, field="external_port", port=port, **why.params)
            else:
                start = _free(vm.host, count, refused)
            try:
                async with in_transaction("default"):
                    forward = await Forward.create(
                        host_id=vm.host_id, vm_id=vm.id, protocol=protocol.value, external_start=start,
                        external_end=start + count - 1, internal_ip=internal, internal_start=request.internal_start,
                    )  # fmt: skip
                    ports = range(start, start + count)
                    await ForwardPort.bulk_create(
                        [
                            ForwardPort(forward_id=forward.id, host_id=vm.host_id, protocol=protocol.value, port=port)
                            for port in ports
                        ]
                    )
                return forward
            except IntegrityError:  # another process of the panel took one: the next look says who
                continue
        raise Conflict(_("Too many ask for ports at once. Try again."), field="external_port")

    async def _refused(self, host: Host, machine: str, gateway: Gateway, protocol: Protocol) -> dict[int, Text]:
        """Every port that is not to be had, and why."""
        refused = {
            port: Text(_("{field}: port {port} is in use on the host by one of its own programs."))
            for port in await gateway.taken(protocol)
        }
        if protocol is Protocol.TCP:
            refused[self._panel_port] = Text(_("{field}: port {port} is the panel's own."))
        ids = await self._gateways.host_ids(machine)
        if self._gateways.here(host):  # whose ports hypervisors and the panel's nftables share
            ids += [other.id for other in await Host.all().only(*SETTINGS) if self._gateways.here(other)]
        taken = ForwardPort.filter(host_id__in=ids, protocol=protocol.value)
        for row in await taken.values("port", "forward__vm__name", "host__name"):
            refused[row["port"]] = Text(
                _("{field}: port {port} is forwarded to VM {name} on host {host} already."),
                {"name": row["forward__vm__name"], "host": row["host__name"]},
            )
        return refused


def _check_ports(request: ForwardRequest) -> None:
    if not 1 <= request.count <= MOST_PORTS:
        raise InvalidInput(_("{field} must be between {least} and {most}."), field="count", least=1, most=MOST_PORTS)
    for field, first in (("external_port", request.external_start), ("internal_port", request.internal_start)):
        if field == "external_port" and first == 0:
            continue
        if not 1 <= first <= 65535 or first + request.count - 1 > 65535:
            raise InvalidInput(_("{field} must be between {least} and {most}."), field=field, least=1,
                               most=65535 - request.count + 1)  # fmt: skip


def _free(host: Host, count: int, refused: dict[int, Text]) -> int:
    """The first of ``count`` free ports beside one another in the host's range."""
    run = 0
    for port in range(host.ports_start, host.ports_close + 1):
        run = 0 if port in refused else run + 1
        if run == count:
            return port - count + 1
    raise Conflict(
        _("Host {host} has no {count} free ports beside one another in {first}-{last}."),
        host=host.name, count=count, first=host.ports_start, last=host.ports_close,
    )  # fmt: skip


def _ports(forward: Forward) -> str:
    first, last = forward.external_start, forward.external_end
    return str(first) if first == last else f"{first}-{last}"
