"""Spaces of addresses: what a network's VMs are given from, and the arithmetic of what is free. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from panel.errors import Conflict, InvalidInput
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Network, Pool

Subnet = IPv4Network | IPv6Network
Span = tuple[int, int]  # the first and the last address, as numbers
Pair = Sequence[str]  # [first, last], as the database keeps a span

RESERVED = _("{field}: {address} is reserved.")


@dataclass(frozen=True, slots=True)
class Space:
    """Addresses of one family on a network: its own subnet (NAT), or a pool (bridges).

    Attributes:
        ranges: what VMs are given from; empty is all of ``subnet``.
        reserved: kept back.
        dns: servers that guests are told of.
        pool_id: the pool's row; None for a network's own subnet.
    """

    subnet: Subnet
    gateway: str = ""
    ranges: tuple[Span, ...] = ()
    reserved: tuple[Span, ...] = ()
    dns: tuple[str, ...] = ()
    pool_id: int | None = None

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.subnet.version

    @property
    def netmask(self) -> str:
        """As guests write it: a mask for IPv4, the prefix length for IPv6."""
        return str(self.subnet.netmask if self.version == 4 else self.subnet.prefixlen)

    def usable(self) -> list[Span]:
        """What a machine can have, within the ranges: not the network's own address, nor broadcast (IPv4), nor the subnet-router
        anycast address (IPv6, RFC 4291, 2.6.1)."""
        first, last = int(self.subnet.network_address) + 1, int(self.subnet.broadcast_address)
        last -= self.version == 4
        whole = self.ranges or ((first, last),)
        return merged((max(low, first), min(high, last)) for low, high in whole)

    def holds(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether it is one that a VM can have here, free or not."""
        return address.version == self.version and any(low <= int(address) <= high for low, high in self.usable())

    def is_reserved(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether it is kept back."""
        return address.version == self.version and any(low <= int(address) <= high for low, high in self.reserved)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many addresses a space has (without its gateway), and what becomes of them. ``free`` is what can be given now."""

    total: int
    given: int
    reserved: int
    free: int


def spaces_of(network: Network, pools: Iterable[Pool]) -> list[Space]:
    """A network's spaces: its own subnets, and those of ``pools`` that are its."""
    spaces = [
        Space(ip_network(subnet), gateway, reserved=_spans(network.reserved, version))
        for version, subnet, gateway in ((4, network.subnet4, network.gateway4), (6, network.subnet6, network.gateway6))
        if subnet
    ]
    return spaces + [space_of(pool) for pool in pools if pool.network_id == network.id]


def space_of(pool: Pool) -> Space:
    """A pool as a space."""
    subnet = ip_network(pool.subnet)
    version = subnet.version
    return Space(subnet, pool.gateway, _spans(pool.ranges, version), _spans(pool.reserved, version), tuple(pool.dns),
                 pool.id)  # fmt: skip


def _spans(pairs: Iterable[Pair], version: int) -> tuple[Span, ...]:
    found = [(ip_address(first), ip_address(last)) for first, last in pairs]
    return tuple((int(first), int(last)) for first, last in found if first.version == version)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same numbers as spans in order that neither meet nor overlap. Empty ones are left out."""
    found: list[Span] = []
    for low, high in sorted(span for span in spans if span[0] <= span[1]):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def common(first: Sequence[Span], second: Sequence[Span]) -> int:
    """How many numbers two lists, each as ``merged`` makes it, have in common."""
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0]) + 1) for a in first for b in second)


def lowest(network: str, spaces: Sequence[Space], version: int, refused: Mapping[str, Text]) -> str:
    """The lowest free address of a family, of the first space that has one. ``Conflict`` when there is none."""
    for space in spaces:
        if space.version == version:
            found = next(_free(space, refused), None)
            if found is not None:
                return found
    raise Conflict(
        _("No IPv{version} address of network {network} ({subnet}) is free."),
        version=version, network=network, subnet=_names(spaces, version),
    )  # fmt: skip


def _free(space: Space, refused: Mapping[str, Text]) -> Iterator[str]:
    make = IPv4Address if space.version == 4 else IPv6Address
    held = merged(space.reserved)
    for low, high in space.usable():
        number = low
        while number <= high:
            past = next((last for first, last in held if first <= number <= last), None)
            if past is not None:  # a reserved range may be as long as IPv6 is
                number = past + 1
                continue
            text = str(make(number))
            if text not in refused and text != space.gateway:
                yield text
            number += 1


def check_given(
    network: str, spaces: Sequence[Space], version: int, wanted: str, refused: Mapping[str, Text], field: str
) -> str:
    """The canonical form of an address that was asked for. ``InvalidInput`` or ``Conflict`` says why it cannot be."""
    if version_of(wanted, field) != version:
        raise InvalidInput(_("{field} must be an IPv{version} address."), field=field, version=version)
    address = ip_address(wanted)
    family = [space for space in spaces if space.version == version]
    if not family:
        raise InvalidInput(_("{field}: network {network} has no IPv{version}."), field=field, network=network,
                           version=version)  # fmt: skip
    space = next((space for space in family if space.holds(address)), None)
    if space is None:
        raise InvalidInput(
            _("{field}: {address} is not an address for a VM in {subnet}, the network of {network}."),
            field=field, address=str(address), subnet=_names(spaces, version), network=network,
        )  # fmt: skip
    why = refused.get(str(address))
    if why is None and str(address) == space.gateway:
        why = Text(_("{field}: {address} is the network's gateway."))
    if why is None and space.is_reserved(address):
        why = Text(RESERVED)
    if why is not None:
        raise Conflict(why.msgid, field=field, address=str(address), **why.params)
    return str(address)


def _names(spaces: Iterable[Space], version: int) -> str:
    return ", ".join(str(space.subnet) for space in spaces if space.version == version) or "-"


def that_fit(network: str, spaces: Sequence[Space], version: int, netmask: str, gateway: str) -> list[Space]:
    """The spaces of a family with this mask and this gateway, each empty for any. ``InvalidInput`` when there is none."""
    fitting = [space for space in spaces if space.version == version]
    if netmask and fitting:
        has = ", ".join(space.netmask for space in fitting)
        length = netmask.removeprefix("/")
        fitting = [space for space in fitting if length in {str(space.subnet.netmask), str(space.subnet.prefixlen)}]
        if not fitting:
            raise InvalidInput(_("{field}: network {network} has {has}."), field="netmask", network=network, has=has)
    if gateway and fitting:
        has = ", ".join(space.gateway or "-" for space in fitting)
        version_of(gateway, "gateway")
        fitting = [space for space in fitting if space.gateway == str(ip_address(gateway))]
        if not fitting:
            raise InvalidInput(_("{field}: network {network} has {has}."), field="gateway", network=network, has=has)
    return fitting


def space_with(spaces: Iterable[Space], ip: str) -> Space | None:
    """The space whose subnet an address is of."""
    address = ip_address(ip)
    return next((space for space in spaces if address.version == space.version and address in space.subnet), None)


def capacity(space: Space, given: Iterable[str], refused: Iterable[str]) -> Capacity:
    """Count. ``given``: the network's addresses that VMs were given; ``refused``: all that cannot be given, those included."""
    usable = space.usable()
    gateway = _numbers([space.gateway], space.version) if space.gateway else []
    held = merged(space.reserved)
    taken = merged([*held, *gateway, *_numbers(refused, space.version)])
    total = common(usable, [(0, 2**128)]) - common(usable, gateway)
    return Capacity(
        total=total,
        given=common(usable, _numbers(given, space.version)),
        reserved=common(usable, held),
        free=total - common(usable, taken) + common(usable, gateway),
    )


def _numbers(texts: Iterable[str], version: int) -> list[Span]:
    found = []
    for text in texts:
        try:
            address = ip_address(text)
        except ValueError:  # what a guest says it has may be anything
            continue
        if address.version == version:
            found.append((int(address), int(address)))
    return merged(found)


def version_of(text: str, field: str) -> int:
    """4 or 6. ``InvalidInput`` for what is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidInput(_("{field} must be an IPv4 or IPv6 address."), field=field) from None
    if getattr(address, "scope_id", None):
        raise InvalidInput(_("{field} must be an IPv4 or IPv6 address."), field=field)
    return address.version
