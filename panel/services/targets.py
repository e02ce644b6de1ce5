"""Where domains may lead: to a VM's own addresses, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address

from panel.gateways.locality import is_of_this_machine
from panel.models import Address, Network, Nic, Pool

METADATA = {"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"}  # of clouds, beside 169.254.169.254


class Targets:
    """The addresses of VMs of one machine, as read at one time."""

    def __init__(self, own: dict[int, list[str]], free: Callable[[str, int], bool]) -> None:
        self._own = own
        self._free = free

    def of(self, vm_id: int) -> list[str]:
        """A VM's addresses, IPv4 first: those that it was given; of an interface without any, those seen on it."""
        return self._own.get(vm_id, [])

    def now(self, vm_id: int, target: str) -> str | None:
        """Where a domain that led to ``target`` leads now: the same, or where its VM has moved to; None when the VM has no
        address. One that shows no address at the moment (it is off) keeps what it had, unless somebody else has that now."""
        own = self.of(vm_id)
        if target in own or (not own and self._free(target, vm_id)):
            return target
        version = ip_address(target).version
        return next((text for text in own if ip_address(text).version == version), own[0] if own else None)


async def read_targets(vm_ids: Iterable[int], host_ids: Sequence[int], *, imaginary: bool) -> Targets:
    """Read them. Never among them: loopback, link-local and cloud metadata addresses, gateways, another VM's addresses, and
    this machine's own (``imaginary`` hosts are not this machine)."""
    holders: dict[str, set[int]] = {}
    for row in await Address.filter(network__host_id__in=host_ids).values("ip", "nic__vm_id"):
        holders.setdefault(row["ip"], set()).add(row["nic__vm_id"])
    for row in await Nic.filter(vm__host_id__in=host_ids).values("addresses", "vm_id"):
        for text in _plain(row["addresses"]):
            holders.setdefault(text, set()).add(row["vm_id"])
    closed = set(METADATA)
    for network in await Network.filter(host_id__in=host_ids):
        closed |= {network.gateway4, network.gateway6}
    closed |= {str(text) for text in await Pool.filter(network__host_id__in=host_ids).values_list("gateway", flat=True)}

    def allowed(text: str) -> bool:
        return text not in closed and not _is_special(text) and (imaginary or not is_of_this_machine(text))

    def free(text: str, vm_id: int) -> bool:
        return allowed(text) and not holders.get(text, set()) - {vm_id}

    own: dict[int, list[str]] = {}
    for nic in await Nic.filter(vm_id__in=list(vm_ids), mode__isnull=False).order_by("name").prefetch_related("given"):
        given = [row.ip for row in sorted(nic.given, key=lambda row: row.id)]  # type: ignore[attr-defined]
        # what it was given is its own, whatever others say of themselves
        usable = [text for text in given if allowed(text)]
        if not given:
            usable = [text for text in _plain(nic.addresses) if free(text, nic.vm_id)]
        own.setdefault(nic.vm_id, []).extend(usable)
    return Targets({vm_id: _sorted(found) for vm_id, found in own.items()}, free)


def _plain(seen: Iterable[str]) -> list[str]:
    """Addresses without prefix lengths, in their canonical form."""
    found: list[str] = []
    for text in seen:
        with suppress(ValueError):
            found.append(str(ip_address(text.split("/")[0])))
    return found


def _is_special(text: str) -> bool:
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None) is not None
    own = address.is_loopback or address.is_link_local
    return mapped or own or address.is_multicast or address.is_unspecified


def _sorted(found: Iterable[str]) -> list[str]:
    return sorted(dict.fromkeys(found), key=lambda text: ip_address(text).version)
