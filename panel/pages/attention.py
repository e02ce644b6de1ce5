"""What needs attention, as lines that lead to where it is mended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from panel import web
from panel.i18n import gettext, ngettext
from panel.i18n import gettext_noop as _
from panel.models import CertificateState, Forward, Host, Proxy, Vm
from panel.pages.rows import TaskRow, task_rows
from panel.pages.words import localised, say, state_word, told
from panel.services.attention import GatewayNotice, PortsFull, Some
from panel.services.clock import now
from panel.services.domains import readable_domain
from panel.services.room import AddressRoom

WORDS = {
    "pages.hosts": _("Hosts"),
    "pages.tasks": _("Tasks"),
    "pages.vms": _("Virtual machines"),
    "pages.forwards": _("Port forwards"),
    "pages.domains": _("Domains"),
    "pages.addresses": _("Addresses"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing. ``mark`` is a name of the style sheet; ``at``: since when, or until when; ``reason``: why, if known."""

    mark: str
    label: str
    url: str
    title: str
    at: datetime | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """By which the page knows it again, whatever its state and its reason are by then."""
        return _key(self.url + self.title)


@dataclass(frozen=True, slots=True)
class Group:
    """The lines of one kind, how many more there are, and where to find them: a page and what it is called."""

    lines: list[Line]
    more: int
    url: str
    word: str

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.lines) + self.more

    @property
    def key(self) -> str:
        """By which the page knows it again."""
        return _key(self.url)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def attention() -> list[Group]:
    """What needs attention; empty when nothing does."""
    found = await web.services().attention.read()
    tasks = Some(await task_rows(found.tasks.rows), found.tasks.total)
    groups = [
        _group(found.unreachable, _unreachable, "pages.hosts", sort="health"),
        _group(found.gateways, _gateway, "pages.hosts"),
        _group(tasks, _task, "pages.tasks", status="failed"),
        _group(found.missing, _missing, "pages.vms", state="missing"),
        _group(found.forwards, _forward, "pages.forwards", sort="state", dir="desc"),
        _group(found.domains, _domain, "pages.domains", sort="state", dir="desc"),
        _group(found.certificates, _certificate, "pages.domains"),
        _group(found.pools, _pool, "pages.addresses"),
        _group(found.ports, _ports, "pages.forwards"),
        _group(found.leftovers, _leftovers, "pages.hosts"),
    ]
    return [group for group in groups if group.lines]


def _group(some: Some[Any], line: Callable[[Any], Line], endpoint: str, **values: str) -> Group:
    return Group([line(row) for row in some.rows], some.more, web.url(endpoint, **values), gettext(WORDS[endpoint]))


def _host_url(host: Host, tab: str) -> str:
    return web.url("pages.host", host=host.name, tab=tab)


def _network_url(row: Forward | Proxy) -> str:
    return web.url("pages.vm", host=row.host.name, vm=row.vm.name, tab="network")


def _unreachable(host: Host) -> Line:
    url = web.url("pages.host", host=host.name)
    title = gettext(_("The host does not answer"))
    return Line("unreachable", host.name, url, title, host.health_since, told(host.problem))


def _gateway(row: GatewayNotice) -> Line:
    """Whether its drift is put right is one of the host's settings."""
    return Line("warning", row.host.name, _host_url(row.host, "settings"), localised(row.text).translate())


def _task(row: TaskRow) -> Line:
    task = row.task
    title = f"{row.title} · {task.vm_name or task.host_name}"
    return Line(row.state, state_word(str(task.status)), row.url, title, task.ended_at, told(task.message))


def _missing(vm: Vm) -> Line:
    url = web.url("pages.vm", host=vm.host.name, vm=vm.name)
    title = say(_("{name} is not on its host {host} any more"), name=_name(vm), host=vm.host.name)
    return Line("missing", state_word("missing"), url, title, vm.state_since)


def _forward(row: Forward) -> Line:
    port = f"{row.protocol.upper()} {row.external_start}"
    if row.external_end != row.external_start:
        port += f"-{row.external_end}"
    title = say(_("{port} of {host} does not lead to {name}"), port=port, host=row.host.name, name=_name(row.vm))
    return Line("failed", gettext(_("not applied")), _network_url(row), title, None, told(row.problem))


def _domain(row: Proxy) -> Line:
    title = say(_("{domain} does not lead to {name}"), domain=readable_domain(row.domain), name=_name(row.vm))
    return Line("failed", gettext(_("not applied")), _network_url(row), title, None, told(row.problem))


def _name(vm: Vm) -> str:
    return vm.title or vm.name


def _certificate(row: Proxy) -> Line:
    ends = row.certificate_expires
    mark, message = "warning", _("The certificate of {domain} ends soon")
    if row.certificate_state is CertificateState.EXPIRED or (ends is not None and ends <= now()):
        mark, message = "failed", _("The certificate of {domain} has expired")
    elif row.certificate_state is CertificateState.FAILED:
        mark, message = "failed", _("{domain} has no certificate")
    title = say(message, domain=readable_domain(row.domain))
    return Line(mark, gettext(_("Certificate")), _network_url(row), title, ends, told(row.certificate_problem))


def _pool(row: AddressRoom) -> Line:
    title = say(_("{subnet} of network {network} is nearly full"), subnet=row.space.subnet, network=row.network.name)
    return _room(row.host, "networks", title, row.capacity.free, row.capacity.total)


def _ports(row: PortsFull) -> Line:
    title = say(_("Its {protocol} ports for forwards are nearly used up"), protocol=row.protocol)
    return _room(row.host, "settings", title, row.free, row.total)


def _room(host: Host, tab: str, title: str, free: int, total: int) -> Line:
    reason = say(_("{free} of {total} are free."), free=free, total=total)
    return Line("warning", host.name, _host_url(host, tab), title, None, reason)


def _leftovers(host: Host) -> Line:
    count = len(host.leftovers)
    title = ngettext("%(num)s file that no VM uses", "%(num)s files that no VM uses", count) % {"num": count}
    return Line("warning", host.name, _host_url(host, "images"), title)
