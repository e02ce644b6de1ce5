"""The kernel switches that routing needs, and the trap beside the IPv6 one."""

from __future__ import annotations

import json
from dataclasses import dataclass

from panel.gateways.runner import Runner, must
from panel.gateways.types import RuleSet, parse_interface

FORWARD4 = "net.ipv4.ip_forward"
FORWARD6 = "net.ipv6.conf.all.forwarding"


@dataclass(frozen=True, slots=True)
class Switch:
    """A sysctl and the value that it must have."""

    name: str
    value: str


async def missing_switches(runner: Runner, ruleset: RuleSet) -> list[Switch]:
    """The switches that ``ruleset`` needs and that stand otherwise, in the order in which to set them.

    A host that routes IPv6 ignores router advertisements unless ``accept_ra`` is 2 (Documentation/networking/ip-sysctl.rst), and
    would lose the default route that it learned from one: that interface is switched first.
    """
    wanted = []
    if ruleset.networks or any(forward.version == 4 for forward in ruleset.forwards):
        wanted.append(Switch(FORWARD4, "1"))
    if any(n.subnet6 for n in ruleset.networks) or any(forward.version == 6 for forward in ruleset.forwards):
        wanted.append(Switch(FORWARD6, "1"))
    missing = [switch for switch in wanted if await _value(runner, switch.name) != switch.value]
    if any(switch.name == FORWARD6 for switch in missing):
        missing = [*await _advertised(runner), *missing]
    return missing


async def set_switches(runner: Runner, switches: list[Switch]) -> None:
    """Set them now. They hold until the host reboots, as the rules do; the next apply sets them again."""
    for switch in switches:
        await must(runner, ["sysctl", "-w", f"{switch.name}={switch.value}"], "procps")


async def _value(runner: Runner, name: str) -> str:
    return (await must(runner, ["sysctl", "-n", name], "procps")).strip()


async def _advertised(runner: Runner) -> list[Switch]:
    """``accept_ra=2`` for the interfaces whose default route came by a router advertisement."""
    text = await must(runner, ["ip", "-j", "-6", "route", "show", "default", "proto", "ra"], "iproute2")
    routes = json.loads(text or "[]")
    interfaces = sorted({parse_interface(route["dev"], "interface") for route in routes if "dev" in route})
    switches = [Switch(f"net/ipv6/conf/{name}/accept_ra", "2") for name in interfaces]  # slashes: names may have dots
    return [switch for switch in switches if await _value(runner, switch.name) != switch.value]
