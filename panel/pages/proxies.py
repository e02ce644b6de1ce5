"""A VM's domains: their list, and the forms that add to it and take away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quart import Response

from panel import web
from panel.errors import PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Proxy, Vm
from panel.models.network import RuleState
from panel.pages.forms import Form
from panel.pages.published import PublishedRow, row_of
from panel.pages.shared import done, form_data, post
from panel.pages.vms import vm_page_with
from panel.pages.words import say
from panel.security import Actor
from panel.services.domains import readable_domain
from panel.services.proxies import ProxyRequest

FIELDS = ("domain", "target_port", "target_ip", "ssl_enabled", "certificate", "private_key")
LONGEST_PEM = 65536  # characters


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A domain as the page shows it."""

    proxy: Proxy
    index: int
    shown: PublishedRow


async def domain_rows(vm: Vm) -> list[DomainRow]:
    """A VM's domains."""
    services = web.services()
    rows = await services.proxies.of_vm(vm)
    return [DomainRow(row, index, row_of(services.publications.of_proxy(row, vm))) for index, row in enumerate(rows)]


async def domains_context(vm: Vm) -> dict[str, Any]:
    """What the card shows, with its form as it is shown first."""
    own = await web.services().proxies.own_addresses(vm)
    return {
        "domains": await domain_rows(vm),
        "domain": domain_form(),
        "domain_addresses": [("", gettext(_("The VM's own"))), *((text, text) for text in own)],
        "domain_reason": _reason(vm.host),
    }


def domain_form(given: Any = None) -> Form:
    """The form of a new domain."""
    form = Form(given, {"domain": "", "target_port": "80", "target_ip": "", "certificate": ""})
    if given is None:
        form.default("ssl_enabled", "1")
    return form


def _reason(host: Host) -> str | None:
    """Why a host's VMs can have no domains; None when they can."""
    reason = web.services().sites.why_not(host)
    if reason:
        return gettext(reason)
    return None if host.enabled else say(_("Host {name} is disabled. Enable it first."), name=host.name)


def _path(host: str, vm: str) -> str:
    return web.url("pages.vm", host=host, vm=vm, tab="network")


@post("/hosts/<host>/vms/<vm>/domains", "vm_domain_add", _path)
async def vm_domain_add(actor: Actor, host: str, vm: str) -> Response:
    """Let a domain lead to the VM."""
    row = await web.services().vms.get(host, vm)
    form = domain_form(await form_data())
    name, port = form.text("domain", required=True), form.integer("target_port")
    address, chain, key = form.text("target_ip"), form.value("certificate"), form.value("private_key")
    if "PRIVATE KEY" in chain:
        form.default("certificate", "")  # pasted beside its certificate: no page shows a key again
    for field, text in (("certificate", chain), ("private_key", key)):
        if len(text) > LONGEST_PEM:
            form.fail(field, _("This is too long."))
    if not form.errors:
        request = ProxyRequest(name, port, form.checked("ssl_enabled"), address, chain, key)
        try:
            proxy = await web.services().proxies.add(actor, row, request)
        except PanelError as error:
            form.take(error, FIELDS)
        else:
            if proxy.state is RuleState.FAILED:
                return done(_path(host, vm), gettext(_("The domain is kept, but is not served yet.")), level="warning")
            return done(_path(host, vm), say(_("{domain} leads to the VM."), domain=readable_domain(proxy.domain)))
    return await vm_page_with(row, "network", status=400, domain=form)


@post(
    "/hosts/<host>/vms/<vm>/domains/<int:index>/remove",
    "vm_domain_remove",
    lambda host, vm, index: _path(host, vm),
)
async def vm_domain_remove(actor: Actor, host: str, vm: str, index: int) -> Response:
    """Remove a domain, which must be the one that the page showed."""
    row = await web.services().vms.get(host, vm)
    text = (await form_data()).get("id", "")
    shown = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    proxy, problem = await web.services().proxies.remove(actor, row, index, shown)
    if problem is not None:
        why = say(_("The domain goes when the proxy works again: {reason}"), reason=problem.translate())
        return done(_path(host, vm), why, level="warning")
    name = readable_domain(proxy.domain)
    return done(_path(host, vm), say(_("{domain} no longer leads to the VM."), domain=name))
