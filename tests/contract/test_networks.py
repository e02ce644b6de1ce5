"""Networks and DHCP reservations: exactly what is asked for, however often, and nobody else's address."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network

import pytest

from panel.engines.base import Engine
from panel.engines.hosttypes import NetworkInfo
from panel.engines.types import NicMode, NicSpec, PowerAction, PowerState
from panel.errors import Conflict, InvalidInput, NotFound, Unsupported

from .conftest import Make
from .kit import Recorder, contract, random_mac
from .providers import Rig


async def nat(engine: Engine) -> NetworkInfo:
    return next(network for network in await engine.list_networks() if network.mode is NicMode.NAT)


async def held(engine: Engine, mac: str) -> list[str]:
    return [address for owner, address in (await nat(engine)).reservations if owner == mac]


def free(network: NetworkInfo, count: int) -> list[str]:
    taken = {address for _mac, address in network.reservations}
    hosts = [str(address) for address in list(ip_network(network.subnet4).hosts())[100:]]
    return [address for address in hosts if address not in taken][:count]


@contract("networks")
async def test_the_nat_network(engine: Engine) -> None:
    network = await nat(engine)
    assert ip_address(network.gateway4) in ip_network(network.subnet4)
    assert network.bridge
    with pytest.raises(Unsupported):
        await super(type(engine), engine).reserve(network.name, random_mac(), ())


@contract("networks")
async def test_reserve_move_remove(engine: Engine) -> None:
    network, mac = await nat(engine), random_mac()
    first, second = free(network, 2)
    try:
        for address in (first, first, second, second):
            await engine.reserve(network.name, mac, (address,))
            assert await held(engine, mac) == [address]
    finally:
        for _ in range(2):
            await engine.reserve(network.name, mac, ())
    assert await held(engine, mac) == []
    assert (await nat(engine)).reservations == network.reservations


@contract("networks")
async def test_one_of_each_family(engine: Engine) -> None:
    network, mac = await nat(engine), random_mac()
    wanted = free(network, 1) + ([str(ip_network(network.subnet6)[77])] if network.subnet6 else [])
    try:
        await engine.reserve(network.name, mac, tuple(wanted))
        assert sorted(await held(engine, mac)) == sorted(wanted)
        await engine.reserve(network.name, mac, tuple(wanted[:1]))
        assert await held(engine, mac) == wanted[:1]
    finally:
        await engine.reserve(network.name, mac, ())
    assert await held(engine, mac) == []


@contract("networks")
async def test_what_cannot_be_reserved(engine: Engine) -> None:
    network, mac, other = await nat(engine), random_mac(), random_mac()
    first, second = free(network, 2)
    await engine.reserve(network.name, mac, (first,))
    try:
        with pytest.raises(Conflict, match=mac):
            await engine.reserve(network.name, other, (first,))
        with pytest.raises(InvalidInput):
            await engine.reserve(network.name, other, ("203.0.113.9",))
        with pytest.raises(InvalidInput):
            await engine.reserve(network.name, other, (first, second))
        with pytest.raises(NotFound):
            await engine.reserve("no-such-network", other, (second,))
        await engine.reserve("no-such-network", other, ())
        assert await held(engine, mac) == [first]
        assert await held(engine, other) == []
    finally:
        await engine.reserve(network.name, mac, ())


@contract("networks")
async def test_many_at_once(engine: Engine) -> None:
    network = await nat(engine)
    macs = [random_mac() for _ in range(10)]
    addresses = free(network, len(macs))
    try:
        pairs = zip(macs, addresses, strict=True)
        await asyncio.gather(*(engine.reserve(network.name, mac, (address,)) for mac, address in pairs))
        for mac, address in zip(macs, addresses, strict=True):
            assert await held(engine, mac) == [address]
    finally:
        await asyncio.gather(*(engine.reserve(network.name, mac, ()) for mac in macs))


@contract("networks", "create", "power.start", "power.stop")
async def test_a_running_vm_has_a_port(engine: Engine, rig: Rig, make: Make) -> None:
    mac = random_mac()
    told = {
        "addresses": ("203.0.113.9/24", "2001:db8::9/64"),
        "gateways": ("203.0.113.1", "fe80::1"),
        "dns": ("9.9.9.9",),
    }
    ref = (await make(nics=(NicSpec("eth0", NicMode.NAT, mac, **told),))).ref
    network = await nat(engine)
    for action, state in ((PowerAction.START, PowerState.RUNNING), (PowerAction.STOP, PowerState.STOPPED)):
        await engine.power(ref, action, Recorder())
        seen = await engine.inspect(ref)
        nic = next(nic for nic in seen.nics if nic.mac == mac)
        assert (seen.state, bool(nic.port)) == (state, rig.ports and state is PowerState.RUNNING)
        assert (nic.mode, nic.network) == (NicMode.NAT, network.name)
