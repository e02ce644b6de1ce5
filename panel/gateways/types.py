"""The wish that a gateway makes true: networks, guests, forwards. Rates are Mbit/s (10^6), 0 means no limit.

Everything is checked when it is made (``InvalidInput`` names the field) and kept in one canonical form and order, so that
equal wishes are equal objects and render to the same text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_RATE_MBIT = 400_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ is 16 with the final zero
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")  # RFC 4193


class Protocol(StrEnum):
    """What can be forwarded."""

    TCP = "tcp"
    UDP = "udp"


def parse_address(text: str, field: str) -> Address:
    """An address that a machine can have on a network: no zone, not loopback, multicast, link-local or unspecified."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(_("{field} must be an IPv4 or IPv6 address."), field=field) from None
    zoned = isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped)
    if zoned or address.is_loopback or address.is_multicast or address.is_link_local or address.is_unspecified:
        raise InvalidInput(_("{field} must be an address of a machine, not {address}."), field=field, address=text)
    if address == ipaddress.IPv4Address("255.255.255.255"):
        raise InvalidInput(_("{field} must be an address of a machine, not {address}."), field=field, address=text)
    return address


def is_interface(text: str) -> bool:
    """Whether ``text`` is a name that ``parse_interface`` takes."""
    return _INTERFACE.fullmatch(text) is not None


def parse_interface(text: str, field: str) -> str:
    """A network interface's name: at most 15 of ``A-Z a-z 0-9 _ . -``. The kernel takes more; we need no more."""
    if not is_interface(text):
        raise InvalidInput(_("{field} must be the name of a network interface (letters, digits, _ . -)."), field=field)
    return text


def _name(text: str, field: str) -> str:
    if not _NAME.fullmatch(text):
        raise InvalidInput(_("{field} must be 1 to 64 letters, digits or . _ : -"), field=field)
    return text


def _subnet(text: str, field: str, version: int) -> str:
    try:
        subnet = ipaddress.ip_network(text)
    except ValueError:
        raise InvalidInput(_("{field} must be a network such as 10.77.0.0/24 or fd77::/64."), field=field) from None
    longest = 30 if version == 4 else 126
    if subnet.version != version or not 8 <= subnet.prefixlen <= longest:
        raise InvalidInput(_("{field} must be an IPv{version} network of usable size."), field=field, version=version)
    if subnet.is_loopback or subnet.is_multicast or subnet.is_link_local:
        raise InvalidInput(_("{field} must be a network for machines, not {subnet}."), field=field, subnet=text)
    return str(subnet)


def _addresses(texts: Iterable[str], field: str, version: int) -> tuple[str, ...]:
    found = {parse_address(text, field) for text in texts}
    if any(address.version != version for address in found):
        raise InvalidInput(_("{field} must hold IPv{version} addresses only."), field=field, version=version)
    return tuple(str(address) for address in sorted(found, key=int))


def _unique(values: Iterable[str], field: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InvalidInput(_("{field}: {value} is there twice."), field=field, value=value)
        seen.add(value)


@dataclass(frozen=True, slots=True)
class Forward:
    """Ports of the outside that lead to a guest: ``external_start + n`` to ``internal_start + n`` of ``internal_ip``.

    An IPv4 ``internal_ip`` is reached through the outside's IPv4 addresses, an IPv6 one through its IPv6 addresses. ``ref`` is
    what the hypervisor calls the VM; the kernel needs none.
    """

    id: str
    protocol: Protocol
    external_start: int
    external_end: int
    internal_ip: str
    internal_start: int
    vm: str
    ref: str = ""

    def __post_init__(self) -> None:
        _name(self.id, "id")
        _name(self.vm, "vm")
        if self.protocol not in tuple(Protocol):
            raise InvalidInput(_("{field} must be tcp or udp."), field="protocol")
        object.__setattr__(self, "protocol", Protocol(self.protocol))
        object.__setattr__(self, "internal_ip", str(parse_address(self.internal_ip, "internal_ip")))
        for field in ("external_start", "external_end", "internal_start"):
            if not 1 <= getattr(self, field) <= 65535:
                raise InvalidInput(_("{field} must be a port from 1 to 65535."), field=field)
        if self.external_end < self.external_start:
            raise InvalidInput(_("{field} must not be below the range's first port."), field="external_end")
        if self.internal_end > 65535:
            raise InvalidInput(_("{field}: the range would end above port 65535."), field="internal_start")

    @property
    def internal_end(self) -> int:
        """The last port on the guest."""
        return self.internal_start + self.external_end - self.external_start

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.internal_ip).version


@dataclass(frozen=True, slots=True)
class Guest:
    """One network interface of a VM; a VM with several has several of these, and their traffic is counted together.

    Attributes:
        mac: lower-case with colons.
        interface: the port on the host's bridge (a tap or veth); None when the VM is off or nobody knows. Without it the guest
            is neither guarded nor shaped, but still counted and blocked by its MAC. A name may be given before the port exists.
        ip4, ip6: its own addresses. A guest without any is held to its MAC and kept off the addresses of the other guests.
        rate_up_mbit, rate_down_mbit: from and to the guest; 0 is no limit.
        blocked: nothing goes in or out, but what it needs to keep its address: DHCP, ARP, neighbour discovery.
    """

    vm: str
    mac: str
    interface: str | None = None
    ip4: tuple[str, ...] = ()
    ip6: tuple[str, ...] = ()
    rate_up_mbit: int = 0
    rate_down_mbit: int = 0
    blocked: bool = False

    def __post_init__(self) -> None:
        _name(self.vm, "vm")
        mac = self.mac.lower()
        if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise InvalidInput(
                _("{field} must be the MAC address of one machine, as in 02:00:00:00:00:01."), field="mac"
            )
        object.__setattr__(self, "mac", mac)
        if self.interface is not None:
            parse_interface(self.interface, "interface")
        object.__setattr__(self, "ip4", _addresses(self.ip4, "ip4", 4))
        object.__setattr__(self, "ip6", _addresses(self.ip6, "ip6", 6))
        for field in ("rate_up_mbit", "rate_down_mbit"):
            if not 0 <= getattr(self, field) <= MAX_RATE_MBIT:
                raise InvalidInput(_("{field} must be 0 (no limit) to {most} Mbit/s."), field=field, most=MAX_RATE_MBIT)

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of its own addresses."""
        return self.ip4 + self.ip6

    @property
    def link_local(self) -> str:
        """The link-local address that follows from the MAC (RFC 4291, appendix A). Guests may use others besides."""
        octets = [int(part, 16) for part in self.mac.split(":")]
        eui = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
        return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + eui))


@dataclass(frozen=True, slots=True)
class NatNetwork:
    """A bridge whose guests reach the outside by the host's addresses, and are reached through forwards only.

    ``subnet6`` is translated when it is unique local (fc00::/7); any other prefix is routed as it is, both ways.
    """

    name: str
    bridge: str
    subnet4: str
    subnet6: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= 64 or not self.name.isprintable():
            raise InvalidInput(_("{field} must be 1 to 64 printable characters."), field="name")
        parse_interface(self.bridge, "bridge")
        object.__setattr__(self, "subnet4", _subnet(self.subnet4, "subnet4", 4))
        if self.subnet6 is not None:
            object.__setattr__(self, "subnet6", _subnet(self.subnet6, "subnet6", 6))

    @property
    def translated6(self) -> str | None:
        """``subnet6`` when its guests need the host's address to be answered."""
        if self.subnet6 and ipaddress.IPv6Network(self.subnet6).subnet_of(_UNIQUE_LOCAL):
            return self.subnet6
        return None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All that one host's gateway shall do. Order does not matter; it is sorted.

    Attributes:
        outside_addresses: what forwards listen on. A family without any listens on every local address of the host but
            loopback, link-local and the guest networks' own.
        revision: the service's number of this wish, kept in the kernel beside the rules.
    """

    networks: tuple[NatNetwork, ...] = ()
    guests: tuple[Guest, ...] = ()
    forwards: tuple[Forward, ...] = ()
    outside_addresses: tuple[str, ...] = ()
    revision: int = 0

    def __post_init__(self) -> None:
        outside = {parse_address(text, "outside_addresses") for text in self.outside_addresses}
        put = object.__setattr__
        put(self, "networks", tuple(sorted(self.networks, key=lambda item: item.name)))
        put(self, "guests", tuple(sorted(self.guests, key=lambda item: (item.vm, item.mac))))
        put(self, "forwards", tuple(sorted(self.forwards, key=_order)))
        put(self, "outside_addresses", tuple(str(a) for a in sorted(outside, key=lambda a: (a.version, int(a)))))
        if not 0 <= self.revision < 2**63:
            raise InvalidInput(_("{field} must be a number from 0."), field="revision")
        _unique((network.name for network in self.networks), "networks.name")
        _unique((network.bridge for network in self.networks), "networks.bridge")
        _unique((guest.mac for guest in self.guests), "guests.mac")
        _unique((guest.interface for guest in self.guests if guest.interface), "guests.interface")
        _unique((address for guest in self.guests for address in guest.addresses), "guests.ip")
        _unique((forward.id for forward in self.forwards), "forwards.id")
        self._check_subnets()
        self._check_forwards()

    def _check_subnets(self) -> None:
        subnets = [ipaddress.ip_network(text) for n in self.networks for text in (n.subnet4, n.subnet6) if text]
        for first, second in pairwise(sorted(subnets, key=lambda s: (s.version, int(s.network_address)))):
            if first.version == second.version and first.overlaps(second):
                raise InvalidInput(
                    _("{field}: {first} and {second} overlap."), field="networks.subnet", first=first, second=second
                )

    def _check_forwards(self) -> None:
        pair = find_overlap(self.forwards)
        if pair is not None:
            raise InvalidInput(
                _("{field}: forwards {first} and {second} claim the same port."),
                field="forwards.external_start",
                first=pair[0].id,
                second=pair[1].id,
            )
        own: dict[str, set[str]] = {}
        unmanaged: set[str] = set()
        for guest in self.guests:
            own.setdefault(guest.vm, set()).update(guest.addresses)
            if not guest.addresses:
                unmanaged.add(guest.vm)
        everyone = set().union(*own.values()) if own else set()
        for forward in self.forwards:
            if forward.internal_ip in own.get(forward.vm, ()):
                continue
            if forward.vm not in unmanaged or forward.internal_ip in everyone:
                raise InvalidInput(
                    _("{field}: forward {forward} leads to {address}, which is not an address of {vm}."),
                    field="forwards.internal_ip",
                    forward=forward.id,
                    address=forward.internal_ip,
                    vm=forward.vm,
                )


def find_overlap(forwards: Iterable[Forward]) -> tuple[Forward, Forward] | None:
    """Two forwards that claim the same external port of the same protocol and family, or None."""
    last: Forward | None = None
    for forward in sorted(forwards, key=lambda f: (f.version, f.protocol, f.external_start, f.external_end)):
        same = last and (last.version, last.protocol) == (forward.version, forward.protocol)
        if last and same and forward.external_start <= last.external_end:
            return last, forward
        last = forward
    return None


def _order(forward: Forward) -> tuple[str, int, int, str]:
    return forward.protocol, forward.external_start, forward.version, forward.id
