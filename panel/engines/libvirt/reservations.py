"""Networks as the panel sees them, and DHCP reservations in them. Blocking functions: worker threads.

Format: https://libvirt.org/formatnetwork.html#addressing; changes by ``virNetworkUpdate``, which rewrites dnsmasq's host file
and does not restart the network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import libvirt

from panel.engines.hosttypes import NetworkInfo
from panel.engines.libvirt.networks import find_network, leases_of
from panel.engines.libvirt.xmltree import Element, node, parse, serialize
from panel.engines.types import NicMode
from panel.errors import Conflict, InvalidInput, NotFound
from panel.i18n import gettext_noop as _

_DUID_LL = "00:03:00:01:"  # RFC 8415, 11.4: DUID of a link-layer address, hardware type Ethernet
_LIVE, _CONFIG = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE, libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
_ADD, _DELETE = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE


def list_networks(conn: Any, network_nat: str, network_bridge: str) -> list[NetworkInfo]:
    """The NAT network as it is, when it is there, and the bridge that VMs may be put on."""
    found = []
    network = find_network(conn, network_nat)
    if network is not None:
        lent = tuple((mac, ip) for mac, ip, _expires in leases_of(network))
        found.append(replace(network_info(parse(network.XMLDesc(0))), leases=lent))
    if network_bridge:
        found.append(NetworkInfo(network_bridge, NicMode.BRIDGE, bridge=network_bridge))
    return found


def network_info(root: Element) -> NetworkInfo:
    """What a network's XML says."""
    bridge, forward = root.find("bridge"), root.find("forward")
    subnets: dict[int, tuple[str, str]] = {4: ("", ""), 6: ("", "")}
    held: list[tuple[str, str]] = []
    for item in root.findall("ip"):
        interface = _interface(item)
        if interface is not None and not subnets[interface.version][0]:
            subnets[interface.version] = (str(interface.network), str(interface.ip))
        held += [(_mac(host), host.get("ip", "")) for host in item.findall("dhcp/host")]
    return NetworkInfo(
        name=root.findtext("name") or "",
        mode=NicMode.NAT,
        bridge=bridge.get("name", "") if bridge is not None else "",
        subnet4=subnets[4][0],
        gateway4=subnets[4][1],
        subnet6=subnets[6][0],
        gateway6=subnets[6][1],
        forward_mode=forward.get("mode", "nat") if forward is not None else "",
        reservations=tuple(pair for pair in held if all(pair)),
    )


def _interface(item: Element) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    mask = item.get("prefix") or item.get("netmask") or ("64" if item.get("family") == "ipv6" else "24")
    try:
        return ipaddress.ip_interface(f"{item.get('address')}/{mask}")
    except ValueError:
        return None


def _mac(host: Element) -> str:
    """Whose reservation it is: IPv6 ones name the DHCP client's DUID, ours one that is made of the MAC."""
    return (host.get("mac") or host.get("id", "").removeprefix(_DUID_LL)).lower()


def reserve(conn: Any, name: str, mac: str, addresses: tuple[str, ...]) -> None:
    """Make the reservations of ``mac`` on the network exactly ``addresses``, in what runs and in what is stored."""
    network = find_network(conn, name)
    if network is None:
        if addresses:
            raise NotFound(_("The host has no network {name}."), name=name)
        return
    if network.isActive():
        _bring(network, parse(network.XMLDesc(0)), _LIVE, mac.lower(), addresses)
    if network.isPersistent():
        stored = parse(network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE))
        _bring(network, stored, _CONFIG, mac.lower(), addresses)


def _bring(network: Any, root: Element, flags: int, mac: str, addresses: tuple[str, ...]) -> None:
    """Compare one of the two definitions with what is wanted, and change what differs."""
    wanted = _by_section(root, addresses)
    held = [(index, host) for index, item in enumerate(root.findall("ip")) for host in item.findall("dhcp/host")]
    for index, host in held:
        address = host.get("ip", "")
        if _mac(host) != mac:
            if address in {text for texts in wanted.values() for text in texts}:
                raise Conflict(
                    _("Address {address} is reserved for {mac} on the host."), address=address, mac=_mac(host)
                )
        elif address in wanted.get(index, ()):
            wanted[index].remove(address)
        else:
            network.update(_DELETE, libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, index, serialize(host), flags)
    for index, texts in wanted.items():
        for address in texts:
            network.update(_ADD, libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, index, _host_xml(mac, address), flags)


def _by_section(root: Element, addresses: Iterable[str]) -> dict[int, list[str]]:
    """The addresses by the number of the ``<ip>`` that they belong into."""
    sections: dict[int, list[str]] = {}
    for text in addresses:
        address = ipaddress.ip_address(text)
        for index, item in enumerate(root.findall("ip")):
            interface = _interface(item)
            if interface is not None and address in interface.network and (_leases(item) or address.version == 6):
                if not _leases(item):
                    break  # the guest sets it up itself: see ``NicSpec.addresses``
                if sections.get(index):
                    raise InvalidInput(_("DHCP gives one address of a family to an interface."), field="ip_address")
                sections[index] = [str(address)]
                break
        else:
            raise InvalidInput(
                _("{address} is in no network of the host that has DHCP."), field="ip_address", address=text
            )
    return sections


def _leases(item: Element) -> bool:
    return item.find("dhcp") is not None


def _host_xml(mac: str, address: str) -> str:
    if ":" in address:
        return serialize(node(None, "host", id=_DUID_LL + mac, ip=address))
    return serialize(node(None, "host", mac=mac, ip=address))
