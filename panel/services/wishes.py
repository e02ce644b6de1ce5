"""What the database wants of one machine's gateway, as one ``RuleSet``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from panel.engines.types import NicMode
from panel.errors import InvalidInput
from panel.gateways.types import MAX_RATE_MBIT, Guest, NatNetwork, Protocol, RuleSet
from panel.gateways.types import Forward as Rule
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Address, Forward, Network, Nic, Pool, Vm
from panel.models.host import AtLimit

PASSING = re.compile(r"vnet\d+|veth[0-9a-f]+")  # what libvirt, and what Docker calls ports that nobody named
APART = _(
    "The VM is on {machine}, on a NAT network ({network}) that the machine which makes the forwards does not reach. Move the VM "
    "to that one, give the network a port which both are on, or the machine a route to the VM's address."
)


@dataclass(frozen=True, slots=True)
class Wish:
    """A machine's rules; ``left_out`` are the forwards that cannot be among them, and why. ``shaped``: every interface with
    its rates, and the port that it has now, whoever named it."""

    ruleset: RuleSet
    left_out: dict[int, Text]
    shaped: tuple[Guest, ...] = ()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a VM may have: rates in Mbit/s (0: no limit), whether its traffic is limited, and whether it is cut off now; ``ref``
    is what its hypervisor calls it."""

    up_mbit: int
    down_mbit: int
    metered: bool
    cut: bool
    ref: str


def guest_name(vm_id: int) -> str:
    """What the gateway calls a VM: names of VMs are unique on a host only, and a machine may be several hosts."""
    return f"vm{vm_id}"


def guest_id(name: str) -> int | None:
    """The VM that the gateway calls ``name``; None for a name that we did not give."""
    number = name.removeprefix("vm")
    return int(number) if name.startswith("vm") and number.isascii() and number.isdecimal() else None


async def read_wish(host_ids: Iterable[int]) -> Wish:
    """All networks, guests and forwards of the hosts that are one machine. No rules while no VM has an address, a forward or
    limited traffic: then the panel has no business in that machine's tables."""
    ids = list(host_ids)
    terms = await _terms(ids)
    metered = [vm_id for vm_id, term in terms.items() if term.metered]
    forwards = await Forward.filter(host_id__in=ids).order_by("id")
    ruled = bool(forwards or metered) or await Address.filter(network__host_id__in=ids).exists()
    limited = [vm_id for vm_id, term in terms.items() if term.up_mbit or term.down_mbit]
    if not ruled:
        return Wish(RuleSet(), {}, _shaped(await Nic.filter(vm_id__in=limited), terms) if limited else ())
    nics = [nic for nic in await _managed(ids) if nic.vm_id in terms]  # a VM made since then wakes us again
    held = {nic.id for nic in nics}
    others = await Nic.filter(vm_id__in=sorted({*metered, *limited})).order_by("id") if metered or limited else []
    others = [nic for nic in others if nic.id not in held]
    networks = await Network.filter(host_id__in=ids, mode=NicMode.NAT).exclude(subnet4="").exclude(bridge="")
    guests = _guests(nics, [nic for nic in others if terms[nic.vm_id].metered], terms)
    rules, left_out = _rules(forwards, guests, {vm_id: term.ref for vm_id, term in terms.items()}, _Seen(nics))
    ruleset = RuleSet(networks=_networks(networks), guests=tuple(guests), forwards=tuple(rules))
    return Wish(_numbered(ruleset), left_out, _shaped([*nics, *others], terms))


async def _managed(host_ids: Sequence[int]) -> list[Nic]:
    """The interfaces whose addresses are the panel's business: on NAT networks, and on bridges that have pools."""
    pools = await Pool.filter(network__host_id__in=host_ids).values("network__name")
    pooled = {row["network__name"] for row in pools}
    nics = await Nic.filter(vm__host_id__in=host_ids, mode__isnull=False).order_by("id").prefetch_related("given")
    return [nic for nic in nics if nic.mode is NicMode.NAT or nic.network in pooled or list(nic.given)]  # type: ignore[attr-defined]


async def _terms(host_ids: Sequence[int]) -> dict[int, _Terms]:
    """By VM. At its limit a VM has what its host's setting leaves."""
    columns = ("id", "ref", "limits", "at_limit", "host__at_limit", "host__at_limit_mbit")
    found = {}
    for row in await Vm.filter(host_id__in=host_ids).values(*columns):
        limits, slow = row["limits"], row["at_limit"] and row["host__at_limit"] == AtLimit.SLOW
        rates = [min(limits.get(name, 0), MAX_RATE_MBIT) for name in ("speed_u", "speed_d")]
        if slow:
            rates = [min(rate or MAX_RATE_MBIT, max(1, row["host__at_limit_mbit"])) for rate in rates]
        cut = row["at_limit"] and row["host__at_limit"] == AtLimit.CUT
        found[row["id"]] = _Terms(rates[0], rates[1], limits.get("flu_num", 0) > 0, cut, row["ref"])
    return found


def _numbered(ruleset: RuleSet) -> RuleSet:
    """With a revision that follows from what it says: the kernel keeps it, so a panel that begins knows its own rules."""
    digest = hashlib.sha256(repr(ruleset).encode()).digest()
    return replace(ruleset, revision=int.from_bytes(digest[:8]) >> 1 or 1)


def _shaped(nics: Sequence[Nic], terms: Mapping[int, _Terms]) -> tuple[Guest, ...]:
    """Every interface with its rates. A passing port does: it ends with its VM, and the limit with it."""
    found: dict[str, Guest] = {}
    ports: set[str] = set()
    for nic in nics:
        term = terms[nic.vm_id]
        port = nic.port if nic.port not in ports else ""
        ports.add(port)
        guest = Guest(guest_name(nic.vm_id), nic.mac, port or None)
        found.setdefault(guest.mac, replace(guest, rate_up_mbit=term.up_mbit, rate_down_mbit=term.down_mbit))
    return tuple(found.values())


def _networks(rows: Sequence[Network]) -> tuple[NatNetwork, ...]:
    """One for each bridge: two hosts that are one machine both tell of it."""
    found: dict[str, NatNetwork] = {}
    for row in rows:
        found.setdefault(row.bridge, NatNetwork(row.bridge, row.bridge, row.subnet4, row.subnet6 or None))
    return tuple(found.values())


def _guests(nics: Sequence[Nic], unguarded: Sequence[Nic], terms: Mapping[int, _Terms]) -> list[Guest]:
    """One for each MAC. An address or a port that two have (which the hypervisor would have refused) is the first one's.
    ``unguarded`` are on bridges that are none of ours: counted and cut off by their MAC, and held to nothing."""
    guests: dict[str, Guest] = {}
    taken: set[str] = set()
    for nic in nics:
        if nic.mac in guests:
            continue
        given = [row.ip for row in nic.given if row.ip not in taken]  # type: ignore[attr-defined]
        # a passing name would be another VM's at its next start: no rule hangs on it
        port = "" if nic.port in taken or PASSING.fullmatch(nic.port) else nic.port
        taken |= {*given, port}
        guests[nic.mac] = Guest(
            vm=guest_name(nic.vm_id),
            mac=nic.mac,
            interface=port or None,
            ip4=tuple(text for text in given if ip_address(text).version == 4),
            ip6=tuple(text for text in given if ip_address(text).version == 6),
            blocked=terms[nic.vm_id].cut,
        )
    for nic in unguarded:
        guests.setdefault(nic.mac, Guest(guest_name(nic.vm_id), nic.mac, blocked=terms[nic.vm_id].cut))
    return list(guests.values())


class _Seen:
    """What was seen of interfaces: who shows which address, and which are apart."""

    def __init__(self, nics: Iterable[Nic]) -> None:
        self._holders: dict[str, set[int]] = {}
        self._versions: set[tuple[int, int]] = set()
        self._apart: dict[tuple[int, str], Nic] = {}
        for nic in nics:
            for text in (text.split("/")[0].split("%")[0] for text in nic.addresses):
                self._holders.setdefault(text, set()).add(nic.vm_id)
                self._versions.add((nic.vm_id, ip_address(text).version))
                if nic.apart:
                    self._apart[nic.vm_id, text] = nic

    def apart(self, row: Forward) -> Text | None:
        """Why a forward cannot reach its VM where that is now."""
        nic = self._apart.get((row.vm_id, row.internal_ip))
        return Text(APART, {"machine": nic.apart, "network": nic.network}) if nic else None

    def moved(self, row: Forward) -> bool:
        """Whether a VM that was given no address has another one by now, or somebody else has this one. One that shows none (it
        is off, or its agent is silent) keeps it."""
        holders = self._holders.get(row.internal_ip, set())
        if row.vm_id in holders:
            return False
        return bool(holders) or (row.vm_id, ip_address(row.internal_ip).version) in self._versions


def _rules(
    forwards: Sequence[Forward], guests: Sequence[Guest], refs: Mapping[int, str], seen: _Seen
) -> tuple[list[Rule], dict[int, Text]]:
    rules: list[Rule] = []
    left_out: dict[int, Text] = {}
    owner = {address: guest.vm for guest in guests for address in guest.addresses}
    unmanaged = {guest.vm for guest in guests if not guest.addresses}
    taken: dict[tuple[str, int, int], int] = {}
    for row in forwards:
        vm = guest_name(row.vm_id)
        version = ip_address(row.internal_ip).version
        ports = [(row.protocol, version, port) for port in range(row.external_start, row.external_end + 1)]
        apart, own = seen.apart(row), owner.get(row.internal_ip)
        if apart is not None:
            left_out[row.id] = apart
        elif (own or (vm if vm in unmanaged else "")) != vm or (own is None and seen.moved(row)):
            left_out[row.id] = Text(_("{address} is no address of the VM any more."), {"address": row.internal_ip})
        elif any(port in taken for port in ports):
            left_out[row.id] = Text(_("Another host of this machine forwards this port already."))
        else:
            try:
                rules.append(_rule(row, vm, refs.get(row.vm_id, "")))
            except InvalidInput as error:
                left_out[row.id] = error.text
            else:
                taken |= dict.fromkeys(ports, row.id)
    return rules, left_out


def _rule(row: Forward, vm: str, ref: str) -> Rule:
    return Rule(
        id=str(row.id),
        protocol=Protocol(row.protocol),
        external_start=row.external_start,
        external_end=row.external_end,
        internal_ip=row.internal_ip,
        internal_start=row.internal_start,
        vm=vm,
        ref=ref,
    )
