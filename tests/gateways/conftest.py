"""Fixtures of the gateways' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from panel.gateways.nft import NftGateway
from tests.gateways.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A world of the test's own, removed always."""
    made = World()
    yield made
    made.close()


@pytest.fixture
def gateway(world: World) -> NftGateway:
    """The gateway of its host."""
    return NftGateway(world.runner)
