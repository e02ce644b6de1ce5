"""A VM's network: its addresses and forwards, and the forms that add to them and take away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quart import Response

from panel import web
from panel.errors import PanelError
from panel.gateways.types import Protocol
from panel.i18n import Text, gettext
from panel.i18n import gettext_noop as _
from panel.models import Forward, Host, Network, Vm
from panel.models.network import RuleState
from panel.pages.forms import Form
from panel.pages.proxies import domains_context
from panel.pages.published import PublishedRow, row_of
from panel.pages.shared import done, form_data, post
from panel.pages.vms import vm_page_with
from panel.pages.words import say
from panel.security import Actor
from panel.services.engines import capabilities
from panel.services.forwards import ForwardRequest
from panel.services.publications import of_forward
from panel.services.traffic import usage

FORWARD = ("protocol", "external_port", "internal_port", "internal_ip", "count")
ADDRESS = ("interface", "ip_address")


@dataclass(frozen=True, slots=True)
class ForwardRow:
    """A forward as the page shows it."""

    forward: Forward
    index: int
    shown: PublishedRow


def network_path(host: str, vm: str) -> str:
    """A VM's network."""
    return web.url("pages.vm", host=host, vm=vm, tab="network")


async def forward_rows(vm: Vm) -> list[ForwardRow]:
    """A VM's forwards."""
    place = web.services().publications.outside(vm.host)
    rows = await web.services().forwards.of_vm(vm)
    return [ForwardRow(row, index, row_of(of_forward(row, vm, place))) for index, row in enumerate(rows)]


async def network_context(vm: Vm) -> dict[str, Any]:
    """What the tab shows, but its forms."""
    own = await web.services().forwards.own_addresses(vm)
    return {
        "addresses": await web.services().addresses.rows(vm),
        "forwards": await forward_rows(vm),
        "own_addresses": [("", gettext(_("The VM's own"))), *((text, text) for text in own)],
        "interfaces": [(nic.name, nic.name) for nic in vm.nics],
        "networks": await Network.filter(host_id=vm.host_id).exclude(subnet4=""),
        "forward_reason": await _forward_reason(vm),
        "forward_way": _forward_way(vm.host),
        "address_reason": address_reason(vm.host),
        "traffic": await usage(vm),
        "counted": web.services().gateways.limits(vm.host),
        **await domains_context(vm),
        "gateway_notices": web.services().gateways.notices(vm.host),
    }


def forward_form(given: Any = None) -> Form:
    """The form of a new forward."""
    return Form(given, {"protocol": "tcp", "external_port": "", "internal_port": "", "internal_ip": "", "count": "1"})


def address_form(given: Any = None) -> Form:
    """The form of a new address."""
    return Form(given, {"interface": "", "ip_address": ""})


async def _forward_reason(vm: Vm) -> str | None:
    reason = web.services().gateways.why_not(vm.host)
    if reason:
        return gettext(reason)
    apart = await web.services().forwards.apart(vm)
    return apart.translate() if apart else _disabled(vm.host)


def _forward_way(host: Host) -> Text | None:
    """Who leads the ports; None when nobody can."""
    way = web.services().gateways.way(host)
    return way.text if way else None


def address_reason(host: Host) -> str | None:
    """Why addresses of a host's VMs cannot be changed; None when they can."""
    reason = capabilities(host.engine).why_not("networks")
    return gettext(reason) if reason else _disabled(host)


def _disabled(host: Host) -> str | None:
    return None if host.enabled else say(_("Host {name} is disabled. Enable it first."), name=host.name)


@post("/hosts/<host>/vms/<vm>/forwards", "vm_forward_add", network_path)
async def vm_forward_add(actor: Actor, host: str, vm: str) -> Response:
    """Forward ports of the host to the VM."""
    row = await web.services().vms.get(host, vm)
    form = forward_form(await form_data())
    protocol = form.choice("protocol", list(Protocol))
    external, count = form.integer("external_port", required=False), form.integer("count")
    internal, address = form.integer("internal_port"), form.text("internal_ip")
    if not form.errors:
        request = ForwardRequest(Protocol(protocol), internal, external, count, address)
        try:
            forward = await web.services().forwards.add(actor, row, request)
        except PanelError as error:
            form.take(error, FORWARD)
        else:
            if forward.state is RuleState.FAILED:
                return done(
                    network_path(host, vm), gettext(_("The forward is kept, but is not applied yet.")), level="warning"
                )
            return done(network_path(host, vm), say(_("Port {port} leads to the VM."), port=forward.external_start))
    return await vm_page_with(row, "network", status=400, forward=form)


@post(
    "/hosts/<host>/vms/<vm>/forwards/<int:index>/remove",
    "vm_forward_remove",
    lambda host, vm, index: network_path(host, vm),
)
async def vm_forward_remove(actor: Actor, host: str, vm: str, index: int) -> Response:
    """Remove a forward, which must be the one that the page showed."""
    row = await web.services().vms.get(host, vm)
    forward, problem = await web.services().forwards.remove(actor, row, index, await _row_id())
    if problem is not None:
        text = say(_("The forward goes when the gateway works again: {reason}"), reason=problem.translate())
        return done(network_path(host, vm), text, level="warning")
    return done(network_path(host, vm), say(_("Port {port} no longer leads to the VM."), port=forward.external_start))


@post("/hosts/<host>/vms/<vm>/addresses", "vm_address_add", network_path)
async def vm_address_add(actor: Actor, host: str, vm: str) -> Response:
    """Give an interface one more address."""
    row = await web.services().vms.get(host, vm)
    form = address_form(await form_data())
    interface, text = form.text("interface", required=True), form.text("ip_address")
    if not form.errors:
        try:
            address = await web.services().addresses.add(actor, row, interface, text)
        except PanelError as error:
            form.take(error, ADDRESS)
        else:
            return done(network_path(host, vm), say(_("{address} belongs to the VM."), address=address.ip))
    return await vm_page_with(row, "network", status=400, address=form)


@post(
    "/hosts/<host>/vms/<vm>/addresses/<int:index>/remove",
    "vm_address_remove",
    lambda host, vm, index: network_path(host, vm),
)
async def vm_address_remove(actor: Actor, host: str, vm: str, index: int) -> Response:
    """Take an address away, which must be the one that the page showed."""
    row = await web.services().vms.get(host, vm)
    address = await web.services().addresses.remove(actor, row, index, await _row_id())
    return done(network_path(host, vm), say(_("{address} is free again."), address=address.ip))


async def _row_id() -> int:
    text = (await form_data()).get("id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
