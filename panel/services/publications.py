"""What VMs publish, as people outside see it: forwards and domains together, what to type, and whether it is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from panel.engines.types import PowerState
from panel.gateways.types import Protocol
from panel.models import Forward, Host, Proxy, RuleState, Traffic, Vm
from panel.services.clock import now
from panel.services.domains import readable_domain
from panel.services.probes import Outside, ProbeService

USUAL = {"http": 80, "https": 443}


class Opening(StrEnum):
    """How a forward or domain is, seen from outside.

    ``FAILED``: it is not applied. ``CHECKING``: applied, and not tried yet. ``UNTOLD``: UDP, which answers nothing by itself.
    ``STOPPED``: its VM does not run. ``UNKNOWN``: it was tried, and could not be told.
    """

    APPLYING = "applying"
    FAILED = "failed"
    CHECKING = "checking"
    OPEN = "open"
    CLOSED = "closed"
    UNTOLD = "untold"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Published:
    """A forward or a domain.

    Attributes:
        address: what to type: ``203.0.113.5:20000`` (a range as ``:20000-20009``), or a URL.
        url: the same as a link, for a domain.
        target: where in the VM it leads.
        problem: why it is not applied or not open, as the database keeps a text.
    """

    row: Forward | Proxy
    address: str
    url: str | None
    target: str
    opening: Opening
    problem: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        """``domain``, or a forward's protocol."""
        return self.row.protocol if isinstance(self.row, Forward) else "domain"


class PublicationService:
    """Reads what is published."""

    def __init__(self, probes: ProbeService) -> None:
        self._probes = probes

    async def of_vm(self, vm: Vm) -> list[Published]:
        """A VM's domains and forwards. Two queries."""
        proxies = await Proxy.filter(vm_id=vm.id).order_by("id")
        forwards = await Forward.filter(vm_id=vm.id).order_by("id")
        place = self._probes.outside(vm.host)
        return [self.of_proxy(row, vm) for row in proxies] + [of_forward(row, vm, place) for row in forwards]

    def outside(self, host: Host) -> Outside:
        """See ``ProbeService.outside``."""
        return self._probes.outside(host)

    def of_proxy(self, row: Proxy, vm: Vm) -> Published:
        """A domain of ``vm``."""
        scheme, port = "https" if row.ssl else "http", self._probes.site_port(row)
        tail = "" if port == USUAL[scheme] else f":{port}"
        address = f"{scheme}://{readable_domain(row.domain)}{tail}"
        url = None if row.domain.startswith("*.") else f"{scheme}://{row.domain}{tail}"
        target = f"{_bracketed(row.target_ip)}:{row.target_port}"
        return Published(row, address, url, target, opening(row, vm), problem(row))

    async def traffic(self, vm: Vm) -> Traffic | None:
        """What the VM sent and received this month (UTC); None when nothing was counted."""
        return await Traffic.get_or_none(vm_id=vm.id, month=now().strftime("%Y-%m"))


def of_forward(row: Forward, vm: Vm, place: Outside) -> Published:
    """A forward of ``vm``, whose host is at ``place``."""
    version = ip_address(row.internal_ip).version
    known = place.tried(version) or place.name
    address = f"{_bracketed(known)}:{_span(row.external_start, row.external_end)}"
    target = f"{_bracketed(row.internal_ip)}:{_span(row.internal_start, row.internal_end)}"
    return Published(row, address, None, target, opening(row, vm), problem(row))


def opening(row: Forward | Proxy, vm: Vm) -> Opening:
    """How a forward or domain of ``vm`` is."""
    if row.state is not RuleState.APPLIED:
        return Opening.APPLYING if row.state is RuleState.APPLYING else Opening.FAILED
    if isinstance(row, Forward) and row.protocol == Protocol.UDP:
        return Opening.UNTOLD
    if vm.state is not PowerState.RUNNING:
        return Opening.STOPPED
    if row.probe_at is None:
        return Opening.CHECKING
    if row.probe_open is None:
        return Opening.UNKNOWN
    return Opening.OPEN if row.probe_open else Opening.CLOSED


def problem(row: Forward | Proxy) -> Mapping[str, Any] | None:
    """What is wrong with it, if anything is."""
    return row.probe_problem if row.state is RuleState.APPLIED else row.problem


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
