"""What is free in a space: whatever is given, taken away, reserved and asked for, never twice and always inside."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.errors import Conflict, InvalidInput
from panel.i18n import Text
from panel.models import Network, Pool
from panel.services.spaces import (
    Space,
    capacity,
    check_given,
    common,
    lowest,
    merged,
    space_with,
    spaces_of,
    that_fit,
    version_of,
)

spans = st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31)), max_size=4)
NETS = {4: ip_network("10.0.0.0/27"), 6: ip_network("fd00::/123")}  # 32 addresses each


def name(version: int, number: int) -> str:
    return str(NETS[version][number])


def space(version: int, ranges: list[tuple[int, int]], held: list[tuple[int, int]]) -> Space:
    base = int(NETS[version].network_address)

    def moved(pairs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((base + low, base + high) for low, high in pairs)

    return Space(NETS[version], name(version, 1), moved(ranges), moved(held))


def good(version: int, ranges: list[tuple[int, int]], held: list[tuple[int, int]]) -> list[int]:
    """The same by brute force."""
    last = 30 if version == 4 else 31
    numbers = [n for n in range(1, last + 1) if not ranges or any(low <= n <= high for low, high in ranges)]
    return [n for n in numbers if n != 1 and not any(low <= n <= high for low, high in held)]


@given(spans)
def test_merged_and_common(pairs: list[tuple[int, int]]) -> None:
    numbers = {n for low, high in pairs for n in range(low, high + 1)}
    made = merged(pairs)
    assert {n for low, high in made for n in range(low, high + 1)} == numbers
    assert all(first[1] + 1 < second[0] for first, second in pairwise(made))
    assert common(made, [(5, 20)]) == len(numbers & set(range(5, 21)))


@given(
    version=st.sampled_from([4, 6]),
    ranges=spans,
    held=spans,
    asks=st.lists(st.tuples(st.sampled_from(["any", "this", "back"]), st.integers(0, 31)), max_size=60),
)
def test_any_order_of_giving_and_taking(
    version: int, ranges: list[tuple[int, int]], held: list[tuple[int, int]], asks: list[tuple[str, int]]
) -> None:
    """A model: what is free is what brute force says; the lowest is given; a second one is refused."""
    here, free, taken = space(version, ranges, held), set(good(version, ranges, held)), set[int]()
    for what, number in asks:
        refused = {name(version, n): Text("{field}: {address} taken") for n in taken}
        counted = capacity(here, list(refused), [*refused, "not an address"])
        assert (counted.free, counted.given) == (len(free - taken), len(taken))
        assert counted.total == len(good(version, ranges, []))
        if what == "back":
            taken.discard(number)
        elif what == "any" and free - taken:
            text = lowest("n", [here], version, refused)
            assert text == name(version, min(free - taken))
            taken.add(min(free - taken))
        elif what == "any":
            with pytest.raises(Conflict, match="is free"):
                lowest("n", [here], version, refused)
        elif number in free - taken:
            assert check_given("n", [here], version, name(version, number), refused, "x") == name(version, number)
            taken.add(number)
        else:
            with pytest.raises((Conflict, InvalidInput)):
                check_given("n", [here], version, name(version, number), refused, "x")
    assert taken <= free


def test_a_reserved_range_as_long_as_ipv6() -> None:
    subnet = ip_network("fd00::/64")
    here = Space(subnet, "fd00::1", (), ((int(subnet[0]), int(subnet[2**63])),))
    assert lowest("n", [here], 6, {}) == str(subnet[2**63 + 1])
    assert capacity(here, [], []).free == 2**63 - 1


def test_the_second_space_when_the_first_is_full() -> None:
    spaces = [Space(ip_network("10.0.0.0/30"), "10.0.0.1"), Space(ip_network("10.1.0.0/30"), "10.1.0.1")]
    assert lowest("n", spaces, 4, {}) == "10.0.0.2"
    assert lowest("n", spaces, 4, {"10.0.0.2": Text("x")}) == "10.1.0.2"
    assert that_fit("n", spaces, 4, "255.255.255.252", "10.1.0.1") == spaces[1:]
    assert that_fit("n", spaces, 4, "/30", "") == spaces
    for mask, gateway, field in (("255.0.0.0", "", "netmask"), ("", "10.9.0.1", "gateway"), ("", "x", "gateway")):
        with pytest.raises(InvalidInput) as caught:
            that_fit("n", spaces, 4, mask, gateway)
        assert caught.value.field == field
    found = space_with(spaces, "10.1.0.2")
    assert found is spaces[1]
    assert space_with(spaces, "10.2.0.2") is None


def test_of_rows() -> None:
    network = Network(id=1, name="n", subnet4="10.0.0.0/24", gateway4="10.0.0.1", subnet6="fd00::/64",
                      reserved=[["10.0.0.9", "10.0.0.9"], ["fd00::5", "fd00::6"]])  # fmt: skip
    pools = [
        Pool(id=3, subnet="192.0.2.0/28", ranges=[["192.0.2.2", "192.0.2.3"]], reserved=[], dns=[]),
        Pool(id=4, subnet="192.0.2.0/28", ranges=[], reserved=[], dns=[]),
    ]
    pools[0].network_id, pools[1].network_id = 1, 2
    own4, own6, pool = spaces_of(network, pools)
    assert (own4.is_reserved(ip_address("10.0.0.9")), own6.is_reserved(ip_address("fd00::6"))) == (True, True)
    assert (own4.netmask, own6.netmask, pool.pool_id) == ("255.255.255.0", "64", 3)
    assert (pool.holds(ip_address("192.0.2.3")), pool.holds(ip_address("192.0.2.4"))) == (True, False)
    assert capacity(pool, [], []).total == 2
    for wrong in ("x", "1.2.3", "fe80::1%eth0"):
        with pytest.raises(InvalidInput):
            version_of(wrong, "f")
