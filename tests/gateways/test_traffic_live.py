"""Rules that carry real traffic, in network namespaces."""

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
    GUEST_A,
    GUEST_B,
    GW4,
    GW6,
    WAN4,
    WAN6,
    World,
    forward,
    wish,
)  # fmt: skip

pytestmark = pytest.mark.live


async def test_tcp_udp_and_ranges_reach_the_guest_and_stop_at_the_delete(world: World, gateway: NftGateway) -> None:
    for port in (80, 2005, 81):
        world.serve("a", port)
    world.serve("a", 53, protocol="udp")
    world.serve("a", 502, protocol="udp")
    forwards = (
        forward("web", 8080),
        forward("same", 2000, inner=2000, count=10),
        forward("shifted", 3000, inner=80, count=3),
        forward("dns", 5353, inner=53, protocol="udp"),
        forward("udps", 5000, inner=500, count=5, protocol="udp"),
    )
    assert world.call("wan", GW4, 8080) is None
    await gateway.apply(wish(*forwards))
    assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"
    assert world.call("wan", GW4, 2005) == f"a 2005 {WAN4}"
    assert world.call("wan", GW4, 3001) == f"a 81 {WAN4}"
    assert world.call("wan", GW4, 5353, protocol="udp") == f"a 53 {WAN4}"
    assert world.call("wan", GW4, 5002, protocol="udp") == f"a 502 {WAN4}"
    assert world.call("wan", GW4, 2010) is None
    await gateway.apply(wish(*forwards[1:], revision=2))
    assert world.call("wan", GW4, 8080) is None
    assert world.call("wan", GW4, 3000) == f"a 80 {WAN4}"
    await gateway.apply(wish(revision=3))
    assert world.call("wan", GW4, 5353, protocol="udp", seconds=0.5) is None


async def test_ipv6(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80, six=True)
    world.serve("a", 7000, six=True)
    world.serve("wan", 90, six=True)
    applied = await gateway.apply(wish(forward("six", 8080, A6), forward("range", 7000, A6, 7000, count=3)))
    assert "net.ipv6.conf.all.forwarding=1" in applied.switches
    assert world.call("wan", GW6, 8080) == f"a 80 {WAN6}"
    assert world.call("wan", GW6, 7000) == f"a 7000 {WAN6}"
    assert world.call("wan", GW4, 8080) is None
    assert world.call("b", GW6, 8080) == "a 80 fd99::1"
    assert world.call("a", WAN6, 90) == f"wan 90 {GW6}"


async def test_hairpin_to_the_neighbour_and_to_itself_and_from_the_host(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    world.serve("b", 80)
    await gateway.apply(wish(forward("a", 8080), forward("b", 8081, B4)))
    assert world.call("a", GW4, 8081) == f"b 80 {BR4}"
    assert world.call("a", GW4, 8080) == f"a 80 {BR4}"
    assert (world.call("gw", GW4, 8080) or "").startswith("a 80")
    world.serve("gw", 8080)
    assert (world.call("gw", "127.0.0.1", 8080) or "").startswith("gw 8080")  # loopback stays the host's
    assert (world.call("b", BR4, 8080) or "").startswith("gw 8080")  # and so does the guest network's own address


async def test_guests_reach_the_outside_under_the_hosts_address_and_nobody_comes_in(
    world: World, gateway: NftGateway
) -> None:
    world.serve("wan", 81)
    world.serve("a", 80)
    world.serve("a", 80, six=True)
    world.run("gw", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    assert world.call("wan", A4, 80) == f"a 80 {WAN4}"
    assert world.call("wan", A6, 80) == f"a 80 {WAN6}"
    await gateway.apply(wish())
    assert world.call("a", WAN4, 81) == f"wan 81 {GW4}"
    assert world.call("wan", A4, 80) is None
    assert world.call("wan", A6, 80) is None
    assert world.call("b", A4, 80) == f"a 80 {B4}"


async def test_only_the_named_outside_addresses_listen(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    world.ip("gw", "addr add 198.51.100.9/24 dev g0")
    await gateway.apply(wish(forward("web", 8080), outside_addresses=("198.51.100.9",)))
    assert world.call("wan", GW4, 8080) is None
    assert world.call("wan", "198.51.100.9", 8080) == f"a 80 {WAN4}"
    assert world.call("b", "198.51.100.9", 8080) == f"a 80 {BR4}"


async def test_a_removed_forward_ends_open_connections_and_no_others(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    world.serve("a", 2000)
    await gateway.apply(wish(forward("web", 8080), forward("range", 2000, inner=2000, count=5)))
    gone, stays = world.socket("wan"), world.socket("wan")
    for client, port in ((gone, 8080), (stays, 2000)):
        client.connect((GW4, port))
        assert client.recv(100)
    applied = await gateway.apply(wish(forward("range", 2000, inner=2000, count=3), revision=2))
    assert applied.ended == 1
    stays.sendall(b"ping")
    assert stays.recv(100) == b"ping"
    gone.settimeout(0.7)
    gone.sendall(b"ping")
    with pytest.raises(OSError):  # time-out or reset
        gone.recv(100)


async def test_a_blocked_guest_is_cut_off_at_once_and_comes_back(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    world.serve("wan", 81)
    rule = forward("web", 8080)
    await gateway.apply(wish(rule))
    held = world.socket("wan")
    held.connect((GW4, 8080))
    assert held.recv(100)
    for guest in (replace(GUEST_A, blocked=True), replace(GUEST_A, blocked=True, interface=None)):
        await gateway.apply(wish(rule, a=guest))
        held.settimeout(0.5)
        held.sendall(b"ping")
        with pytest.raises(TimeoutError):
            held.recv(100)
        assert world.call("wan", GW4, 8080, seconds=0.7) is None
        assert world.call("a", WAN4, 81, seconds=0.7) is None
        assert world.call("b", A4, 80, seconds=0.7) is None
    await gateway.apply(wish(rule))
    held.settimeout(5)
    assert held.recv(100)  # TCP sends again
    assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"


async def test_a_cut_guest_keeps_its_address_and_nothing_else(world: World, gateway: NftGateway) -> None:
    """DHCP, ARP and neighbours go on, and carry nothing away: what looks like DHCP must be broadcast."""
    world.serve("a", 80)
    world.serve("gw", 67, protocol="udp")
    world.serve("wan", 67, protocol="udp")
    for guest in (GUEST_A, replace(GUEST_A, interface=None)):
        await gateway.apply(wish(a=replace(guest, blocked=True)))
        world.run("a", "ip", "neigh", "flush", "all")
        assert world.call("a", BR4, 67, protocol="udp", source=A4, seconds=0.5) is None
        assert world.call("a", WAN4, 67, protocol="udp", source=A4, seconds=0.5) is None
        assert "REACHABLE" in world.run("a", "ip", "neigh", "show", BR4), "ARP goes on"
        assert world.call("gw", A4, 80, seconds=0.5) is None
        assert ask_for_an_address(world) == f"gw 67 {A4}"
        await gateway.apply(wish(a=guest))
        assert world.call("gw", A4, 80)


def ask_for_an_address(world: World) -> str:
    """What a server on the bridge answers to a broadcast from port 68 to port 67."""
    with world.socket("a", kind=socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("", 68))
        client.sendto(b"discover", ("255.255.255.255", 67))
        return client.recv(200).decode()


async def test_counters_count_and_survive(world: World, gateway: NftGateway) -> None:
    world.pour("a", 80, 300_000)
    await gateway.apply(wish(forward("web", 8080)))
    assert (await gateway.counters())["vm-b"].sent_bytes < 1000
    world.receive_rate("wan", GW4, 8080, 300_000)
    first = (await gateway.counters())["vm-a"]
    assert 300_000 <= first.sent_bytes < 400_000
    assert 500 < first.received_bytes < 60_000
    await gateway.apply(wish(forward("web", 8080), a=replace(GUEST_A, interface=None), revision=2))
    await gateway.apply(wish(forward("other", 8081), revision=3))
    world.run("gw", "nft", "flush", "table", "bridge", "openidcs")
    await gateway.apply(wish(forward("web", 8080), revision=4))
    again = (await gateway.counters())["vm-a"]
    assert first.sent_bytes <= again.sent_bytes < first.sent_bytes + 2000  # a little of ARP and ND meanwhile
    world.receive_rate("wan", GW4, 8080, 300_000)
    assert (await gateway.counters())["vm-a"].sent_bytes >= again.sent_bytes + 300_000
    last = (await gateway.read()).traffic["vm-a"]
    only_b = replace(wish(revision=5), guests=(GUEST_B,))
    assert (await gateway.apply(only_b)).retired["vm-a"].sent_bytes >= last.sent_bytes
    assert set(await gateway.counters()) == {"vm-b"}


async def test_without_a_bridge_family_traffic_is_counted_where_it_is_routed(world: World, gateway: NftGateway) -> None:
    gateway._guard = False  # as on a kernel that lacks it
    world.pour("a", 80, 300_000)
    rules = wish(forward("web", 8080))
    applied = await gateway.apply(rules)
    assert not applied.guarded
    assert applied.warnings
    world.receive_rate("wan", GW4, 8080, 300_000)
    assert (await gateway.counters())["vm-a"].sent_bytes >= 300_000
    assert await gateway.drift(rules) == []
    await gateway.apply(wish(forward("web", 8080), a=replace(GUEST_A, blocked=True)))
    assert (await gateway.counters())["vm-a"].sent_bytes >= 300_000
    assert world.call("a", WAN4, 81, seconds=0.5) is None
    assert world.call("wan", GW4, 8080, seconds=0.5) is None
    assert A4 not in str(await gateway.counters())
    await gateway.clear()
    assert (await gateway.read()).families == frozenset()


async def test_a_forward_to_a_guest_beside_our_networks_works_through_masquerading(
    world: World, gateway: NftGateway
) -> None:
    """A guest on an ordinary bridge answers by its own router: the flow must come back through us."""
    world.serve("a", 80)
    world.ip("a", "route del default")
    rules = replace(wish(forward("web", 8080)), networks=())
    await gateway.apply(rules)
    assert world.call("wan", GW4, 8080) == f"a 80 {BR4}"
    assert world.call("b", GW4, 8080) == f"a 80 {BR4}"
    assert B6 not in str(rules.forwards)
