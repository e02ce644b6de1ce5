"""What a wish may hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.gateways.types import Forward, Guest, NatNetwork, Protocol, RuleSet, find_overlap
from tests.gateways.strategies import forwards, refused

FORWARD = Forward("1", Protocol.TCP, 8080, 8080, "10.0.0.5", 80, "vm")
GUEST = Guest("vm", "02:00:00:00:00:01", "tap0", ("10.0.0.5",), ("fd00:0::5",))
NETWORK = NatNetwork("default", "br0", "10.0.0.0/24", "fd00::/64")
HOSTILE = ['x" accept', "a;b", "a b", "$(id)", "a\nb", "", "x" * 65, "../x", "-x", 'x"}', "ü", "@x", "#x", "*", "a*"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_refused(text: str) -> None:
    refused(lambda: replace(FORWARD, id=text), "id")
    refused(lambda: replace(FORWARD, vm=text), "vm")
    refused(lambda: replace(GUEST, vm=text), "vm")
    refused(lambda: replace(GUEST, interface=text), "interface")
    refused(lambda: replace(NETWORK, bridge=text), "bridge")
    refused(lambda: replace(GUEST, mac=text), "mac")


BAD_ADDRESSES = ["", "10.0.0", "10.0.0.5/24", "127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "169.254.169.254",
                 "fe80::1", "fd00::1%eth0", "255.255.255.255", "::ffff:10.0.0.1", "10.0.0.5 accept", "10.0.0.05"]  # fmt: skip


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_addresses_that_no_guest_has_are_refused(text: str) -> None:
    refused(lambda: replace(FORWARD, internal_ip=text), "internal_ip")
    refused(lambda: replace(GUEST, ip4=(text,)), "ip4")
    refused(lambda: RuleSet(outside_addresses=(text,)), "outside_addresses")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"protocol": "icmp"}, "protocol"),
        ({"external_start": 0}, "external_start"),
        ({"external_end": 65536}, "external_end"),
        ({"external_end": 8079}, "external_end"),
        ({"internal_start": 0}, "internal_start"),
        ({"external_end": 8090, "internal_start": 65530}, "internal_start"),
    ],
)
def test_ports(change: dict[str, Any], field: str) -> None:
    refused(lambda: replace(FORWARD, **change), field)


@pytest.mark.parametrize(
    "mac", ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:00:00:00:00", "0200.0000.0001"]
)
def test_macs_of_no_machine(mac: str) -> None:
    refused(lambda: replace(GUEST, mac=mac), "mac")


@pytest.mark.parametrize(
    "subnet", ["10.0.0.0/33", "10.0.0.1/24", "10.0.0.0/31", "0.0.0.0/0", "fd00::/64", "127.0.0.0/8", "x"]
)
def test_subnets(subnet: str) -> None:
    refused(lambda: replace(NETWORK, subnet4=subnet), "subnet4")


def test_canonical_forms() -> None:
    assert Guest("vm", "02:AA:00:00:00:01").mac == "02:aa:00:00:00:01"
    assert GUEST.ip6 == ("fd00::5",)
    assert Guest("vm", "02:00:00:00:00:01", ip4=("10.0.0.10", "10.0.0.9", "10.0.0.9")).ip4 == ("10.0.0.9", "10.0.0.10")
    assert GUEST.link_local == "fe80::ff:fe00:1"
    assert replace(FORWARD, external_end=8089).internal_end == 89
    assert NETWORK.translated6 == "fd00::/64"
    assert replace(NETWORK, subnet6="2001:db8::/64").translated6 is None


def test_what_does_not_go_together() -> None:
    other = Guest("vm2", "02:00:00:00:00:02", "tap1", ("10.0.0.6",))
    refused(lambda: RuleSet(guests=(GUEST, replace(other, mac=GUEST.mac))), "guests.mac")
    refused(lambda: RuleSet(guests=(GUEST, replace(other, interface="tap0"))), "guests.interface")
    refused(lambda: RuleSet(guests=(GUEST, replace(other, ip4=GUEST.ip4))), "guests.ip")
    refused(lambda: RuleSet((NETWORK, replace(NETWORK, bridge="br1", subnet4="10.1.0.0/24"))), "networks.name")
    refused(lambda: RuleSet((NETWORK, replace(NETWORK, name="b", subnet4="10.1.0.0/24"))), "networks.bridge")
    refused(lambda: RuleSet((NETWORK, replace(NETWORK, name="b", bridge="br1"))), "networks.subnet")
    refused(lambda: RuleSet(guests=(GUEST,), forwards=(FORWARD, FORWARD)), "forwards.id")
    twice = (FORWARD, replace(FORWARD, id="2"))
    refused(lambda: RuleSet(guests=(GUEST,), forwards=twice), "forwards.external_start")
    refused(lambda: RuleSet(forwards=(FORWARD,)), "forwards.internal_ip")
    refused(lambda: RuleSet(guests=(GUEST, other), forwards=(replace(FORWARD, vm="vm2"),)), "forwards.internal_ip")
    unmanaged = replace(other, ip4=())
    refused(lambda: RuleSet(guests=(GUEST, unmanaged), forwards=(replace(FORWARD, vm="vm2"),)), "forwards.internal_ip")
    assert RuleSet(guests=(unmanaged,), forwards=(replace(FORWARD, vm="vm2"),))
    refused(lambda: RuleSet(revision=-1), "revision")


def test_the_same_port_of_another_family_or_protocol_is_free() -> None:
    six = replace(FORWARD, id="2", internal_ip="fd00::5")
    udp = replace(FORWARD, id="3", protocol=Protocol.UDP)
    assert find_overlap((FORWARD, six, udp)) is None


@given(st.lists(forwards(), max_size=12))
def test_overlaps_are_found_as_by_trying_all_pairs(items: list[Forward]) -> None:
    def clash(one: Forward, two: Forward) -> bool:
        same = (one.version, one.protocol) == (two.version, two.protocol)
        return same and one.external_start <= two.external_end and two.external_start <= one.external_end

    pair = find_overlap(items)
    assert (pair is not None) == any(clash(one, two) for one, two in combinations(items, 2))
    assert pair is None or clash(*pair)
