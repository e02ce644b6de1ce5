"""The panel's tries take the same way as people's: through the rules, from outside and from the machine itself."""

from __future__ import annotations

import asyncio

import pytest

from panel.gateways.nft import NftGateway
from panel.gateways.reach import NetworkConnector, Reach
from tests.gateways.world import A6, GW4, GW6, World, forward, wish

pytestmark = pytest.mark.live


def tried(world: World, where: str, address: str, port: int) -> Reach:
    version = 6 if ":" in address else 4
    return world._inside(where, lambda: asyncio.run(NetworkConnector().port(address, port, version)))


async def test_forwards_are_open_and_closed_as_they_are(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    world.serve("a", 80, six=True)
    await gateway.apply(wish(forward("web", 8080), forward("web6", 8080, A6), forward("nobody", 8081, inner=81)))
    for where in ("wan", "gw"):
        for address in (GW4, GW6):
            assert tried(world, where, address, 8080) == Reach(True), (where, address)
        found = tried(world, where, GW4, 8081)
        assert (found.open, "refuses" in str(found.problem)) == (False, True), where
    world.run("a", "ip", "link", "set", "v0", "down")
    assert tried(world, "gw", GW4, 8080).open is False
    found = tried(world, "wan", "203.0.113.1", 80)
    assert "no way from here" in str(found.problem)
    await gateway.apply(wish(revision=2))
    assert tried(world, "gw", GW4, 8080).open is False
