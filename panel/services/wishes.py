"""What the database wants of one machine's gateway, as one ``RuleSet``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from panel.engines.types import NicMode
from panel.errors import InvalidInput
from panel.gateways.types import Forward as Rule
from panel.gateways.types import Guest, NatNetwork, Protocol, RuleSet
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Address, Forward, Network, Nic

PASSING = "vnet"  # what libvirt calls ports that nobody named


@dataclass(frozen=True, slots=True)
class Wish:
    """A machine's rules; ``left_out`` are the forwards that cannot be among them, and why."""

    ruleset: RuleSet
    left_out: dict[int, Text]


def guest_name(vm_id: int) -> str:
    """What the gateway calls a VM: names of VMs are unique on a host only, and a machine may be several hosts."""
    return f"vm{vm_id}"


async def read_wish(host_ids: Iterable[int]) -> Wish:
    """All networks, guests and forwards of the hosts that are one machine. Empty while no VM has an address or a forward:
    then the panel has no business in that machine's tables."""
    ids = list(host_ids)
    forwards = await Forward.filter(host_id__in=ids).order_by("id")
    if not forwards and not await Address.filter(network__host_id__in=ids).exists():
        return Wish(RuleSet(), {})
    nics = await Nic.filter(vm__host_id__in=ids, mode=NicMode.NAT).order_by("id").prefetch_related("given")
    networks = await Network.filter(host_id__in=ids, mode=NicMode.NAT).exclude(subnet4="").exclude(bridge="")
    guests = _guests(nics)
    rules, left_out = _rules(forwards, guests)
    return Wish(RuleSet(networks=_networks(networks), guests=tuple(guests), forwards=tuple(rules)), left_out)


def _networks(rows: Sequence[Network]) -> tuple[NatNetwork, ...]:
    """One for each bridge: two hosts that are one machine both tell of it."""
    found: dict[str, NatNetwork] = {}
    for row in rows:
        found.setdefault(row.bridge, NatNetwork(row.bridge, row.bridge, row.subnet4, row.subnet6 or None))
    return tuple(found.values())


def _guests(nics: Sequence[Nic]) -> list[Guest]:
    """One for each MAC. An address or a port that two have (which the hypervisor would have refused) is the first one's."""
    guests: dict[str, Guest] = {}
    taken: set[str] = set()
    for nic in nics:
        if nic.mac in guests:
            continue
        given = [row.ip for row in nic.given if row.ip not in taken]  # type: ignore[attr-defined]
        # a passing name would be another VM's at its next start: no rule hangs on it
        port = "" if nic.port in taken or nic.port.startswith(PASSING) else nic.port
        taken |= {*given, port}
        guests[nic.mac] = Guest(
            vm=guest_name(nic.vm_id),
            mac=nic.mac,
            interface=port or None,
            ip4=tuple(text for text in given if ip_address(text).version == 4),
            ip6=tuple(text for text in given if ip_address(text).version == 6),
        )
    return list(guests.values())


def _rules(forwards: Sequence[Forward], guests: Sequence[Guest]) -> tuple[list[Rule], dict[int, Text]]:
    rules: list[Rule] = []
    left_out: dict[int, Text] = {}
    owner = {address: guest.vm for guest in guests for address in guest.addresses}
    unmanaged = {guest.vm for guest in guests if not guest.addresses}
    taken: dict[tuple[str, int, int], int] = {}
    for row in forwards:
        vm = guest_name(row.vm_id)
        version = ip_address(row.internal_ip).version
        ports = [(row.protocol, version, port) for port in range(row.external_start, row.external_end + 1)]
        if owner.get(row.internal_ip, vm if vm in unmanaged else "") != vm:
            left_out[row.id] = Text(_("{address} is no address of the VM any more."), {"address": row.internal_ip})
        elif any(port in taken for port in ports):
            left_out[row.id] = Text(_("Another host of this machine forwards this port already."))
        else:
            try:
                rules.append(_rule(row, vm))
            except InvalidInput as error:
                left_out[row.id] = error.text
            else:
                taken |= dict.fromkeys(ports, row.id)
    return rules, left_out


def _rule(row: Forward, vm: str) -> Rule:
    return Rule(
        id=str(row.id),
        protocol=Protocol(row.protocol),
        external_start=row.external_start,
        external_end=row.external_end,
        internal_ip=row.internal_ip,
        internal_start=row.internal_start,
        vm=vm,
    )
