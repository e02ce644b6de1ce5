"""Forwards that a hypervisor makes itself: exactly what is asked for, however often, and nobody else's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from panel.engines.base import Engine
from panel.engines.hosttypes import NativeForward
from panel.engines.types import NicMode, NicSpec

from .conftest import Make
from .kit import contract, random_mac
from .providers import Rig


def wanted(address: str, ref: str, count: int = 3) -> list[NativeForward]:
    first = random.randrange(33000, 60000)
    return [NativeForward("tcp", first + step, address, 80 + step, f"{first}", ref) for step in range(count)]


async def ours(engine: Engine) -> set[NativeForward]:
    return {one for one in await engine.native_forwards() if one.mark}


async def a_guest(engine: Engine, make: Make) -> tuple[str, str]:
    """A VM, and an address of its network that is kept for it."""
    mac = random_mac()
    ref = (await make(nics=(NicSpec("eth0", NicMode.NAT, mac),), start=True)).ref
    network = next(network for network in await engine.list_networks() if network.mode is NicMode.NAT)
    address = str(list(ip_network(network.subnet4).hosts())[random.randrange(30, 90)])
    await engine.reserve(network.name, mac, (address,))
    return address, ref


@pytest.fixture
async def cleared(engine: Engine) -> AsyncIterator[None]:
    """Afterwards the hypervisor has no forwards of these tests'."""
    yield
    if engine.capabilities.native_forwards:
        await engine.change_forwards(await engine.native_forwards(), ())
        assert not await engine.native_forwards()


@contract("native_forwards", "create", "networks")
async def test_add_move_remove(engine: Engine, make: Make, cleared: None) -> None:
    assert engine.forwards_place
    address, ref = await a_guest(engine, make)
    tcp = wanted(address, ref)
    udp = [replace(one, protocol="udp") for one in tcp]
    for _ in range(2):
        assert await engine.change_forwards((), tcp + udp) == {}
        assert await ours(engine) == {*tcp, *udp}
    moved = [replace(tcp[0], target_port=8080)]
    assert await engine.change_forwards(tcp[:2], moved) == {}
    assert await ours(engine) == {*moved, tcp[2], *udp}
    for _ in range(2):
        assert await engine.change_forwards([*moved, tcp[2], *udp], ()) == {}
        assert await ours(engine) == set()


@contract("native_forwards", "create", "networks")
async def test_somebody_elses_stay(engine: Engine, rig: Rig, make: Make, cleared: None) -> None:
    address, ref = await a_guest(engine, make)
    tcp = wanted(address, ref)
    theirs = replace(tcp[1], mark="", target_port=9)
    rig.foreign_forward(theirs)
    assert theirs in await engine.native_forwards()
    refused = await engine.change_forwards((), tcp)
    assert list(refused) == [tcp[1]]
    assert str(refused[tcp[1]])
    assert await ours(engine) == {tcp[0], tcp[2]}, "one that is refused holds up no others"
    assert theirs in await engine.native_forwards()


@contract("native_forwards", "create", "networks")
async def test_cut_off_and_gone_on(engine: Engine, make: Make, cleared: None) -> None:
    """Whoever is cancelled in the middle leaves a part of it, and the rest can be asked for again."""
    address, ref = await a_guest(engine, make)
    many = wanted(address, ref, 40)
    work = asyncio.ensure_future(engine.change_forwards((), many))
    await asyncio.sleep(0.03)
    work.cancel()
    await asyncio.wait({work})
    assert await ours(engine) <= set(many)
    await engine.change_forwards((), many)
    assert await ours(engine) == set(many)
