"""Rate limits that really limit, measured coarsely."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from panel.gateways.nft import NftGateway
from panel.gateways.runner import Completed
from panel.gateways.tc import RateLimiter, ifb_name
from tests.gateways.world import GUEST_A, GUEST_B, GW4, WAN4, World, forward, wish

pytestmark = pytest.mark.live
SIZE = 1_500_000  # 1.2 s at 10 Mbit/s


@pytest.fixture
async def limiter(world: World, gateway: NftGateway) -> RateLimiter:
    """The limiter of a world whose guest pours data, and drinks from the outside."""
    await gateway.apply(wish(forward("web", 8080)))
    world.pour("a", 80, SIZE)
    world.pour("wan", 81, SIZE)
    return RateLimiter(world.runner)


def speeds(world: World) -> tuple[float, float]:
    """Mbit/s from and to the guest."""
    up, down = world.receive_rate("wan", GW4, 8080, SIZE), world.receive_rate("a", WAN4, 81, SIZE)
    return up / 1e6, down / 1e6


async def test_each_direction_is_limited_and_set_free(world: World, limiter: RateLimiter) -> None:
    assert min(speeds(world)) > 50
    shaped = await limiter.apply([replace(GUEST_A, rate_up_mbit=10), GUEST_B])
    assert shaped.limited == ("pa",)
    up, down = speeds(world)
    assert 4 < up < 16
    assert down > 50
    assert await limiter.limits("pa") == (10_000_000, 0)
    await limiter.apply([replace(GUEST_A, rate_down_mbit=10)])
    up, down = speeds(world)
    assert up > 50
    assert 4 < down < 16
    await limiter.apply([replace(GUEST_A, rate_up_mbit=0)])
    assert min(speeds(world)) > 50
    assert "htb" not in world.run("gw", "tc", "qdisc", "show")
    assert "oidc-" not in world.run("gw", "ip", "link")


async def test_repeating_changes_nothing_and_a_change_is_taken_up(world: World, limiter: RateLimiter) -> None:
    def shown() -> tuple[str, ...]:
        helper = ifb_name("pa")
        commands = (("qdisc", "show"), ("class", "show", "dev", "pa"), ("class", "show", "dev", helper))
        filters = ("filter", "show", "dev", "pa", "parent", "ffff:")
        said = (world.run("gw", "tc", *each) for each in (*commands, filters))
        return tuple(re.sub(r"index \d+", "", each) for each in said)  # an action's number is the kernel's

    guest = replace(GUEST_A, rate_up_mbit=10, rate_down_mbit=20)
    await limiter.apply([guest])
    before = shown()
    await limiter.apply([guest])
    assert shown() == before
    await limiter.apply([replace(guest, rate_up_mbit=30)])
    assert await limiter.limits("pa") == (30_000_000, 20_000_000)


async def test_what_others_put_on_a_port_stays(world: World, limiter: RateLimiter) -> None:
    world.run("gw", "tc", "qdisc", "add", "dev", "pa", "root", "handle", "1:", "htb")
    shaped = await limiter.apply([replace(GUEST_A, rate_down_mbit=10)])
    assert "pa" in str(shaped.warnings[0])
    assert "qdisc htb 1: root" in world.run("gw", "tc", "qdisc", "show", "dev", "pa")
    await limiter.apply([GUEST_A])
    assert "qdisc htb 1: root" in world.run("gw", "tc", "qdisc", "show", "dev", "pa")


async def test_ports_that_are_not_there(world: World, limiter: RateLimiter) -> None:
    gone = replace(GUEST_B, interface="nowhere0", rate_up_mbit=10, rate_down_mbit=5)
    shaped = await limiter.apply([replace(GUEST_A, rate_up_mbit=10), gone])
    assert (shaped.limited, shaped.absent) == (("pa",), ("nowhere0",))
    world.run("gw", "ip", "link", "del", "pa")
    await limiter.apply([replace(GUEST_A, rate_up_mbit=10)])
    assert "oidc-" not in world.run("gw", "ip", "link")


async def test_what_was_removed_by_hand_is_put_back(world: World, limiter: RateLimiter) -> None:
    guest = replace(GUEST_A, rate_up_mbit=10, rate_down_mbit=10)
    await limiter.apply([guest])
    for line in ("filter del dev pa ingress", "qdisc del dev pa root", "qdisc del dev pa ingress"):
        world.run("gw", "tc", *line.split())
        await limiter.apply([guest])
        assert "mirred" in world.run("gw", "tc", "filter", "show", "dev", "pa", "ingress")
        assert await limiter.limits("pa") == (10_000_000, 10_000_000)
    world.run("gw", "ip", "link", "del", ifb_name("pa"))
    await limiter.apply([guest])
    assert world.receive_rate("wan", GW4, 8080, SIZE) / 1e6 < 16
    world.run("gw", "tc", "filter", "del", "dev", "pa", "ingress")
    await limiter.apply([GUEST_A])


async def test_a_port_that_comes_back_under_the_same_name(world: World, limiter: RateLimiter) -> None:
    guest = replace(GUEST_B, rate_up_mbit=10, rate_down_mbit=10)
    await limiter.apply([guest])
    world.ip("gw", "link del pb", "link add pb type veth peer name pb1", "link set pb up")
    await limiter.apply([guest])
    assert "mirred" in world.run("gw", "tc", "filter", "show", "dev", "pb", "parent", "ffff:")
    assert await limiter.limits("pb") == (10_000_000, 10_000_000)


async def test_holding_is_cheap_and_notices(world: World, limiter: RateLimiter) -> None:
    guest = replace(GUEST_A, rate_up_mbit=10, rate_down_mbit=10)
    runs: list[str] = []
    run = limiter._runner.run

    async def counting(argv: Sequence[str], **more: Any) -> Completed:
        runs.append(" ".join(argv))
        return await run(argv, **more)

    limiter._runner.run = counting  # type: ignore[method-assign]
    assert (await limiter.hold([guest, GUEST_B])).limited == ("pa",)
    runs.clear()
    await limiter.hold([guest, GUEST_B])
    assert runs == ["ip -j link show", "tc -j qdisc show"], "a look, and nothing to do"
    world.run("gw", "tc", "qdisc", "del", "dev", "pa", "root")
    await limiter.hold([guest, GUEST_B])
    assert await limiter.limits("pa") == (10_000_000, 10_000_000)
    world.ip("gw", "link del pa", "link add pa type veth peer name pa1", "link set pa up")
    await limiter.hold([guest, GUEST_B])
    assert await limiter.limits("pa") == (10_000_000, 10_000_000)
    await limiter.hold([GUEST_A, GUEST_B])
    assert await limiter.limits("pa") == (0, 0)
    runs.clear()
    await limiter.hold([GUEST_A, GUEST_B])
    assert runs == [], "no limits, no look"


async def test_a_port_as_libvirt_leaves_it_is_limited(world: World, limiter: RateLimiter) -> None:
    """libvirt puts a ``noqueue`` on every port of its own, under a handle of the kernel's choice."""
    world.run("gw", "tc", "qdisc", "add", "dev", "pa", "root", "noqueue")
    shaped = await limiter.apply([replace(GUEST_A, rate_down_mbit=10)])
    assert (shaped.limited, shaped.warnings) == (("pa",), ())
    assert await limiter.limits("pa") == (0, 10_000_000)
    await limiter.apply([GUEST_A])
    assert await limiter.limits("pa") == (0, 0)
