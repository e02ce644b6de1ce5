"""The NAT network of the panel's VMs, and the addresses that libvirt's DHCP gave. Blocking functions: worker threads."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import libvirt

from panel.engines.libvirt.failures import is_code
from panel.engines.libvirt.xmltree import Element, node, parse, serialize
from panel.errors import Conflict

Network = ipaddress.IPv4Network
Network6 = ipaddress.IPv6Network
_ROUTES = Path("/proc/net/route")
_ROUTES6 = Path("/proc/net/ipv6_route")
_IPV6 = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
_LEASED6 = (0x1_0000, 0x1_FFFF)  # what DHCPv6 gives to guests that nobody knows: far from where VMs are given theirs


def free_subnet(taken: Iterable[Network]) -> Network:
    """The first 10.77.x.0/24 that overlaps nothing in ``taken``. ``Conflict`` when there is none."""
    others = [network for network in taken if network.prefixlen > 0]
    for third in range(256):
        candidate = ipaddress.IPv4Network((f"10.77.{third}.0", 24))
        if not any(candidate.overlaps(other) for other in others):
            return candidate
    raise Conflict("No free network in 10.77.0.0/16 on this host. Name a libvirt network in the host's settings.")


def free_subnet6(seed: str, taken: Iterable[Network6]) -> Network6:
    """A unique local /64 (RFC 4193, 3.1) that overlaps nothing in ``taken``: made of ``seed``, so that a network that is made
    again is the same."""
    others = [network for network in taken if network.prefixlen > 7]
    for attempt in range(64):
        digest = hashlib.sha256(f"{seed} {attempt}".encode()).digest()
        candidate = ipaddress.IPv6Network((b"\xfd" + digest[:5] + bytes(10), 64))
        if not any(candidate.overlaps(other) for other in others):
            return candidate
    raise Conflict("No free IPv6 network on this host. Name a libvirt network in the host's settings.")


def subnets_of(network: Element) -> list[Network]:
    """The IPv4 networks of a libvirt network's XML (https://libvirt.org/formatnetwork.html#addressing)."""
    return [found for found in _subnets(network) if isinstance(found, ipaddress.IPv4Network)]


def subnets6_of(network: Element) -> list[Network6]:
    """Its IPv6 networks."""
    return [found for found in _subnets(network) if isinstance(found, ipaddress.IPv6Network)]


def _subnets(network: Element) -> list[Network | Network6]:
    found: list[Network | Network6] = []
    for address in network.findall("ip"):
        usual = "64" if address.get("family") == "ipv6" else "24"
        mask = address.get("prefix") or address.get("netmask") or usual
        with contextlib.suppress(ValueError):
            found.append(ipaddress.ip_network(f"{address.get('address')}/{mask}", strict=False))
    return found


def local_routes(text: str) -> list[Network]:
    """The destinations of ``/proc/net/route``: hexadecimal, in the byte order of this machine (little)."""
    found = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 7:
            destination = int.from_bytes(bytes.fromhex(columns[1]), "little")
            mask = int.from_bytes(bytes.fromhex(columns[7]), "little")
            found.append(ipaddress.IPv4Network((destination, mask.bit_count()), strict=False))
    return found


def local_routes6(text: str) -> list[Network6]:
    """The destinations of ``/proc/net/ipv6_route``: address and prefix length in hexadecimal."""
    rows = [line.split() for line in text.splitlines()]
    return [
        ipaddress.IPv6Network((bytes.fromhex(columns[0]), int(columns[1], 16)), strict=False)
        for columns in rows
        if len(columns) > 1
    ]


def nat_network_xml(name: str, subnet: Network, subnet6: Network6 | None = None) -> str:
    """A NAT network with DHCP: the first address is the host, the rest are leased. IPv6 is translated too (libvirt 6.5)."""
    root = node(None, "network")
    node(root, "name", name)
    forward = node(root, "forward", mode="nat")
    address = node(root, "ip", address=str(subnet[1]), prefix=str(subnet.prefixlen))
    node(node(address, "dhcp"), "range", start=str(subnet[2]), end=str(subnet[-2]))
    if subnet6 is not None:
        node(forward, "nat", ipv6="yes")
        address = node(root, "ip", family="ipv6", address=str(subnet6[1]), prefix=str(subnet6.prefixlen))
        start, end = (str(subnet6[number]) for number in _LEASED6)
        node(node(address, "dhcp"), "range", start=start, end=end)
    return serialize(root)


def ensure_nat(conn: Any, name: str, *, local: bool) -> None:
    """Make sure that the network ``name`` exists and is started. One that exists is not changed. A new one has IPv6 where
    libvirt can start it so: not without IPv6 in the kernel, nor where forwarding would cost the host a route that it learned."""
    network = find_network(conn, name)
    if network is None:
        taken: list[Network] = []
        taken6: list[Network6] = []
        for other in conn.listAllNetworks(0):
            root = parse(other.XMLDesc(0))
            taken += subnets_of(root)
            taken6 += subnets6_of(root)
        if local and _ROUTES.exists():
            taken += local_routes(_ROUTES.read_text())
        if local and _ROUTES6.exists():
            taken6 += local_routes6(_ROUTES6.read_text())
        plain = nat_network_xml(name, free_subnet(taken))
        if local and (not _IPV6.exists() or _IPV6.read_text().strip() != "0"):
            network = _make(conn, plain)
        else:
            both = nat_network_xml(name, free_subnet(taken), free_subnet6(f"{_host_id(conn)} {name}", taken6))
            try:
                network = _make(conn, both)
            except libvirt.libvirtError:
                network = _make(conn, plain)
        network.setAutostart(1)
    elif not network.isActive():
        network.create()


def _make(conn: Any, xml: str) -> Any:
    """Define and start a network; one that does not start is gone again."""
    network = conn.networkDefineXML(xml)
    try:
        network.create()
    except libvirt.libvirtError:
        network.undefine()
        raise
    return network


def _host_id(conn: Any) -> str:
    """What tells this host from others, as libvirt knows it."""
    return parse(conn.getCapabilities()).findtext("host/uuid") or ""


def find_network(conn: Any, name: str) -> Any | None:
    """The libvirt network ``name``, or None."""
    try:
        return conn.networkLookupByName(name)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_NETWORK):
            return None
        raise


def leases(conn: Any) -> dict[str, tuple[str, ...]]:
    """Addresses by MAC from libvirt's DHCP servers: one call per started network, whatever the number of VMs."""
    found: dict[str, list[tuple[float, str]]] = {}
    for network in conn.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
        for mac, ip, expires in leases_of(network):
            found.setdefault(mac, []).append((expires, ip))
    # the newest lease first: a MAC may have an older one
    return {mac: tuple(ip for _, ip in sorted(items, reverse=True)) for mac, items in found.items()}


def leases_of(network: Any) -> list[tuple[str, str, float]]:
    """MAC, address and end of what a network's DHCP server has lent out now. Nothing from one that has none."""
    now = time.time()
    try:
        told = network.DHCPLeases(None, 0)
    except libvirt.libvirtError:  # a network without DHCP, or stopped meanwhile
        return []
    held = [(lease.get("mac"), lease["ipaddr"], float(lease.get("expirytime") or 0) or math.inf) for lease in told]
    return [(mac.lower(), ip, expires) for mac, ip, expires in held if mac and expires > now]
