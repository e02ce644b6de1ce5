"""A guest uses its own MAC and addresses, and no others."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from panel.gateways.nft import NftGateway
from tests.gateways.world import (
    A4,
    A6,
    B4,
    B6,
    BR4,
    BR6,
    GUEST_A,
    GW4,
    MAC_A,
    MAC_B,
    World,
    forward,
    wish,
)  # fmt: skip

pytestmark = pytest.mark.live


@pytest.fixture
def served(world: World) -> World:
    """The world with a server on the host and one on the neighbour, for both families."""
    for where in ("gw", "b"):
        world.serve(where, 80)
        world.serve(where, 80, six=True)
    return world


async def test_own_addresses_work(served: World, gateway: NftGateway) -> None:
    await gateway.apply(wish())
    for host in (BR4, BR6, B4, B6):
        assert served.call("a", host, 80), host


async def test_another_mac_is_silent(served: World, gateway: NftGateway) -> None:
    await gateway.apply(wish())
    for mac in ("02:00:00:00:00:ff", MAC_B):
        served.ip("a", f"link set v0 address {mac}")
        served.run("a", "ip", "neigh", "flush", "all")
        for host in (BR4, BR6, B4):
            assert served.call("a", host, 80, seconds=0.4) is None, (mac, host)
    served.ip("a", f"link set v0 address {MAC_A}")
    served.run("a", "ip", "neigh", "flush", "all")
    assert served.call("a", BR4, 80)


async def test_another_address_is_silent(served: World, gateway: NftGateway) -> None:
    await gateway.apply(wish())
    served.ip("a", "addr add 10.99.0.99/24 dev v0", "addr add fd99::99/64 dev v0 nodad")
    assert served.call("a", BR4, 80, source="10.99.0.99", seconds=0.4) is None
    assert served.call("a", BR6, 80, source="fd99::99", seconds=0.4) is None
    assert served.call("a", BR4, 80, source=A4)
    assert served.call("a", BR6, 80, source=A6)
    await gateway.clear()
    assert served.call("a", BR4, 80, source="10.99.0.99")  # the control: it was the guard
    assert served.call("a", BR6, 80, source="fd99::99")


@pytest.mark.parametrize("managed", [True, False])
async def test_a_neighbours_address_cannot_be_taken(served: World, gateway: NftGateway, managed: bool) -> None:
    """The neighbour is off the net; ARP and neighbour advertisements by the thief must not be heard."""
    guest = GUEST_A if managed else replace(GUEST_A, ip4=(), ip6=())
    await gateway.apply(wish(a=guest))
    served.serve("a", 80)
    served.serve("a", 80, six=True)
    assert served.call("gw", B4, 80)
    served.ip("b", "link set v0 down")
    served.ip("a", f"addr add {B4}/24 dev v0", f"addr add {B6}/64 dev v0 nodad")
    served.run("gw", "ip", "neigh", "flush", "all")
    assert served.call("gw", B4, 80, seconds=0.5) is None
    assert served.call("gw", B6, 80, seconds=0.5) is None
    assert MAC_A not in served.run("gw", "ip", "neigh", "show", B4)
    assert served.call("gw", A4, 80)
    assert served.call("gw", A6, 80)
    await gateway.clear()
    served.run("gw", "ip", "neigh", "flush", "all")
    assert served.call("gw", B4, 80, seconds=3) is not None  # the control
    assert served.call("gw", B6, 80, seconds=3) is not None


async def test_a_guest_without_managed_addresses_may_use_free_ones(served: World, gateway: NftGateway) -> None:
    await gateway.apply(wish(a=replace(GUEST_A, ip4=(), ip6=())))
    served.ip("a", "addr add 10.99.0.99/24 dev v0", "addr add fd99::99/64 dev v0 nodad")
    assert served.call("a", BR4, 80, source="10.99.0.99")
    assert served.call("a", BR6, 80, source="fd99::99")


async def test_dhcp_is_asked_but_not_answered_by_guests(served: World, gateway: NftGateway) -> None:
    await gateway.apply(wish())
    server = served.socket("gw", kind=socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 67))
    served.ip("a", "addr flush dev v0")
    client = served.socket("a", kind=socket.SOCK_DGRAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"v0")
    client.bind(("0.0.0.0", 68))
    served.ip("a", "route add default dev v0")
    client.sendto(b"discover", ("255.255.255.255", 67))
    assert server.recvfrom(100) == (b"discover", ("0.0.0.0", 68))
    served.addresses("a", A4, A6)
    rogue = served.socket("a", kind=socket.SOCK_DGRAM)
    rogue.bind((A4, 67))
    victim = served.socket("b", kind=socket.SOCK_DGRAM)
    victim.bind(("0.0.0.0", 68))
    victim.settimeout(0.5)
    rogue.sendto(b"offer", (B4, 68))
    with pytest.raises(TimeoutError):
        victim.recv(100)


async def test_link_local_and_neighbour_discovery_work(served: World, gateway: NftGateway) -> None:
    await gateway.apply(wish())
    served.run("a", "ip", "neigh", "flush", "all")
    assert served.run("a", "busybox", "ping", "-6", "-c1", "-W2", "fe80::ff:fe00:b%v0")
    served.ip("a", "addr add fe80::1234/64 dev v0 nodad")  # a private one, as guests make them
    assert served.run("a", "busybox", "ping", "-6", "-c1", "-W2", "-I", "fe80::1234", f"{BR6}", check=False) is not None
    served.ip("b", "link set v0 down")
    served.ip("a", "addr add fe80::ff:fe00:b/64 dev v0 nodad")  # the neighbour's
    served.run("gw", "ip", "neigh", "flush", "all")
    assert "1 packets received" not in served.run(
        "gw", "busybox", "ping", "-6", "-c1", "-W1", "fe80::ff:fe00:b%br0", check=False
    )


async def test_a_port_without_a_guest_is_not_ours(served: World, gateway: NftGateway) -> None:
    await gateway.apply(replace(wish(), guests=()))
    assert served.call("a", BR4, 80)
    assert "hairpin on" not in served.run("gw", "bridge", "-d", "link", "show", "dev", "pa")


async def test_hairpin_mode_is_taken_back(served: World, gateway: NftGateway) -> None:
    served.run("gw", "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
    await gateway.apply(wish(forward("web", 8080, B4)))
    assert "hairpin on" in served.run("gw", "bridge", "-d", "link", "show", "dev", "pb")
    assert served.call("b", GW4, 8080)
    await gateway.clear()
    assert "hairpin on" not in served.run("gw", "bridge", "-d", "link", "show", "dev", "pb")


@pytest.mark.parametrize("filtered", ["0", "1"])
async def test_hairpin_with_and_without_br_netfilter(served: World, gateway: NftGateway, filtered: str) -> None:
    switches = (f"net.bridge.bridge-nf-call-{each}tables={filtered}" for each in ("ip", "ip6"))
    served.run("gw", "sysctl", "-qw", *switches)
    served.serve("a", 80)
    await gateway.apply(wish(forward("b", 8081, B4), forward("b6", 8081, B6)))
    assert (served.call("a", GW4, 8081) or "").startswith("b 80")
    assert (served.call("b", GW4, 8081) or "").startswith("b 80")
    assert (served.call("a", "2001:db8:1::1", 8081) or "").startswith("b 80")
    assert (served.call("b", "2001:db8:1::1", 8081) or "").startswith("b 80")
    assert served.call("a", BR4, 80)
