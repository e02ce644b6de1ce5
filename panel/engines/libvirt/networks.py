"""The NAT network of the panel's VMs, and the addresses that libvirt's DHCP gave. Blocking functions: worker threads."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import libvirt

from panel.engines.libvirt.failures import is_code
from panel.engines.libvirt.xmltree import Element, node, parse, serialize
from panel.errors import Conflict

Network = ipaddress.IPv4Network
_ROUTES = Path("/proc/net/route")


def free_subnet(taken: Iterable[Network]) -> Network:
    """The first 10.77.x.0/24 that overlaps nothing in ``taken``. ``Conflict`` when there is none."""
    others = [network for network in taken if network.prefixlen > 0]
    for third in range(256):
        candidate = ipaddress.IPv4Network((f"10.77.{third}.0", 24))
        if not any(candidate.overlaps(other) for other in others):
            return candidate
    raise Conflict("No free network in 10.77.0.0/16 on this host. Name a libvirt network in the host's settings.")


def subnets_of(network: Element) -> list[Network]:
    """The IPv4 networks of a libvirt network's XML (https://libvirt.org/formatnetwork.html#addressing)."""
    found = []
    for address in network.findall("ip"):
        if address.get("family", "ipv4") != "ipv4" or not address.get("address"):
            continue
        mask = address.get("prefix") or address.get("netmask") or "24"
        with contextlib.suppress(ValueError):
            found.append(ipaddress.IPv4Network(f"{address.get('address')}/{mask}", strict=False))
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


def nat_network_xml(name: str, subnet: Network) -> str:
    """A NAT network with DHCP: the first address is the host, the rest are leased."""
    root = node(None, "network")
    node(root, "name", name)
    node(root, "forward", mode="nat")
    address = node(root, "ip", address=str(subnet[1]), prefix=str(subnet.prefixlen))
    node(node(address, "dhcp"), "range", start=str(subnet[2]), end=str(subnet[-2]))
    return serialize(root)


def ensure_nat(conn: Any, name: str, *, local: bool) -> None:
    """Make sure that the network ``name`` exists and is started. One that exists is not changed."""
    network = find_network(conn, name)
    if network is None:
        taken: list[Network] = []
        for other in conn.listAllNetworks(0):
            taken += subnets_of(parse(other.XMLDesc(0)))
        if local and _ROUTES.exists():
            taken += local_routes(_ROUTES.read_text())
        network = conn.networkDefineXML(nat_network_xml(name, free_subnet(taken)))
        try:
            network.create()
        except libvirt.libvirtError:
            network.undefine()
            raise
        network.setAutostart(1)
    elif not network.isActive():
        network.create()


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
    now = time.time()
    found: dict[str, list[tuple[int, str]]] = {}
    for network in conn.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
        with contextlib.suppress(libvirt.libvirtError):  # a network without DHCP, or stopped meanwhile
            for lease in network.DHCPLeases(None, 0):
                expires = int(lease.get("expirytime") or 0)
                if lease.get("mac") and (expires == 0 or expires > now):
                    found.setdefault(lease["mac"].lower(), []).append((expires, lease["ipaddr"]))
    # the newest lease first: a MAC may have an older one
    return {mac: tuple(ip for _, ip in sorted(items, reverse=True)) for mac, items in found.items()}
