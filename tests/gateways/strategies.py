"""Rule sets of every shape, for hypothesis."""

from __future__ import annotations

import ipaddress
import string
from typing import Any

from hypothesis import strategies as st

from panel.errors import InvalidInput
from panel.gateways.types import Forward, Guest, NatNetwork, Protocol, RuleSet, find_overlap

NAMES = st.text(string.ascii_letters + string.digits + "._:-", min_size=0, max_size=62).map(lambda text: f"v{text}")
TEXTS = st.text(min_size=1, max_size=64).filter(str.isprintable)


@st.composite
def rule_sets(draw: Any) -> RuleSet:
    """Valid rule sets of up to 3 networks, 6 guests and 8 forwards."""
    networks = []
    for number in range(draw(st.integers(0, 3))):
        six = draw(st.sampled_from([None, f"fd{number:02x}::/64", f"2001:db8:{number + 1:x}::/64"]))
        networks.append(NatNetwork(f"{draw(TEXTS)[:60]}{number}", f"br{number}", f"10.{number}.0.0/24", six))
    guests = []
    for number in range(draw(st.integers(0, 6))):
        own = draw(st.integers(0, 2))
        guests.append(
            Guest(
                draw(NAMES)[:60] + str(number),
                f"02:00:00:00:00:{number:02x}",
                draw(st.sampled_from([None, f"tap{number}", f"vm-{number}.x"])),
                tuple(f"10.{step}.0.{number + 10}" for step in range(own)),
                tuple(
                    str(ipaddress.ip_address("fd00::10") + number * 16 + step)
                    for step in range(draw(st.integers(0, 2)))
                ),
                blocked=draw(st.booleans()),
            )
        )
    forwards: list[Forward] = []
    homes = [(guest, address) for guest in guests for address in guest.addresses]
    for number in range(draw(st.integers(0, 8)) if homes else 0):
        guest, address = draw(st.sampled_from(homes))
        start, inner = draw(st.integers(1, 65000)), draw(st.integers(1, 65000))
        count = draw(st.integers(1, 30))
        made = Forward(
            f"{number}", draw(st.sampled_from(Protocol)), start, start + count - 1, address,
            draw(st.sampled_from([start, inner])), guest.vm,
        )  # fmt: skip
        if find_overlap([*forwards, made]) is None:
            forwards.append(made)
    outside = draw(st.sets(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])))
    return RuleSet(tuple(networks), tuple(guests), tuple(forwards), tuple(outside), draw(st.integers(0, 2**40)))


def forwards() -> st.SearchStrategy[Forward]:
    """Forwards that may overlap one another."""

    def make(number: int, protocol: Protocol, start: int, count: int, six: bool) -> Forward:
        address = "fd00::1" if six else "10.0.0.1"
        return Forward(f"f{number}", protocol, start, min(start + count, 65535), address, 1, "vm")

    return st.builds(
        make, st.integers(0, 10**6), st.sampled_from(Protocol), st.integers(1, 400), st.integers(0, 40), st.booleans()
    )


def refused(make: Any, field: str) -> None:
    """``make()`` must be refused by name."""
    try:
        make()
    except InvalidInput as error:
        assert error.field == field, (error.field, field)
        assert str(error)
    else:
        raise AssertionError(f"taken, though {field} is wrong")
