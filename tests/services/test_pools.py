"""Pools of bridges: given, told to the guest, guarded, changed and removed; and reserved addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from panel.app import build_services
from panel.engines.fake.world import world
from panel.engines.types import EngineKind, NicMode
from panel.errors import Conflict, InvalidInput, NotFound, PanelError
from panel.models import Address, Host, Network, Nic, Pool, Vm
from panel.models.database import close_database, migrate, open_database
from panel.services.container import Services
from panel.services.engines import Patience
from panel.services.pools import PoolRequest
from panel.services.specs import NicRequest
from panel.services.vms import VmRequest
from panel.services.wishes import read_wish
from panel.settings import Settings
from tests.conftest import ADMIN
from tests.models.conftest import Server, postgres, postgres_url  # noqa: F401 - fixtures

BRIDGE = "fake-bridge"
V4 = PoolRequest(
    "203.0.113.0/24", "203.0.113.1", ("9.9.9.9",), (("203.0.113.10", "203.0.113.19"),), (("203.0.113.10",) * 2,)
)
V6 = PoolRequest("2001:db8::/64", "fe80::1", ("2620:fe::fe", "9.9.9.9"))


@pytest.fixture
async def host(services: Services, fake_host: str) -> Host:
    return await services.hosts.get(fake_host)


async def make(services: Services, name: str, ip4: str = "", ip6: str = "", mode: NicMode = NicMode.BRIDGE) -> Vm:
    host = await services.hosts.get("host1")
    nics = (NicRequest("eth0", mode, ip4=ip4, ip6=ip6),)
    _vm, task = await services.vms.create(
        ADMIN, host, VmRequest(name, name, "Debian 12", 1, 256, 4, nics=nics, start=True)
    )
    task = await services.tasks.wait(task.id, 10)
    assert task.status == "succeeded", task.message
    return await services.vms.get("host1", name)


async def given_to(vm: Vm) -> list[str]:
    return [row.ip for row in await Address.filter(nic__vm_id=vm.id).order_by("id")]


async def test_given_and_told_to_the_guest(services: Services, host: Host) -> None:
    await services.pools.add_pool(ADMIN, host, BRIDGE, V4)
    await services.pools.add_pool(ADMIN, host, BRIDGE, V6)
    first, second = await make(services, "vm-1"), await make(services, "vm-2", "203.0.113.15", "2001:db8::99")
    assert await given_to(first) == ["203.0.113.11", "2001:db8::1"]
    assert await given_to(second) == ["203.0.113.15", "2001:db8::99"]
    rows = await services.addresses.rows(first)
    assert [(row.by_dhcp, row.seen, row.netmask, row.gateway) for row in rows] == [
        (False, True, "255.255.255.0", "203.0.113.1"),
        (False, True, "64", "fe80::1"),
    ]
    assert world("world1").network.reservations == {}
    guests = (await read_wish([host.id])).ruleset.guests
    assert [(guest.ip4, guest.ip6) for guest in guests] == [
        (("203.0.113.11",), ("2001:db8::1",)),
        (("203.0.113.15",), ("2001:db8::99",)),
    ]
    assert all(guest.interface for guest in guests)
    task = await services.vms.delete(ADMIN, first)
    await services.tasks.wait(task.id, 5)
    assert await given_to(await make(services, "vm-3")) == ["203.0.113.11", "2001:db8::1"]


async def test_the_words_of_the_seed(services: Services, host: Host) -> None:
    await services.pools.add_pool(ADMIN, host, BRIDGE, V4)
    await services.pools.add_pool(ADMIN, host, BRIDGE, V6)
    vm = await Vm.create(host=host, name="v", ref="r", cpu_count=1, memory_mib=64)
    await Nic.create(vm=vm, name="eth0", mode=NicMode.BRIDGE, mac="52:54:00:00:00:01")
    await Nic.create(vm=vm, name="eth1", mode=NicMode.NAT, mac="52:54:00:00:00:02")
    await Network.filter(mode=NicMode.NAT).update(subnet6="fd77::/64", gateway6="fd77::1")
    vm = await services.vms.get("host1", "v")
    await services.addresses.give_new(vm, {})
    spec = await services.addresses.placed(vm, _spec(vm))
    bridge, nat = spec.nics
    assert bridge.addresses == ("203.0.113.11/24", "2001:db8::1/64")
    assert bridge.gateways == ("203.0.113.1", "fe80::1")
    assert bridge.dns == ("9.9.9.9", "2620:fe::fe")
    assert (nat.addresses, nat.gateways, nat.dns) == (("fd77::2/64",), ("fd77::1",), ())


def _spec(vm: Vm) -> Any:
    from panel.engines.types import NicSpec, VmSpec

    nics = tuple(
        NicSpec(nic.name, nic.mode or NicMode.NAT, nic.mac) for nic in sorted(vm.nics, key=lambda nic: nic.name)
    )
    return VmSpec("r", "v", "v", 1, 64, 1, nics)


async def test_a_bridge_without_a_pool_decides_itself(services: Services, host: Host) -> None:
    vm = await make(services, "vm-1", "203.0.113.15")
    assert await given_to(vm) == []
    with pytest.raises(Conflict, match="on no network whose addresses the panel gives"):
        await services.addresses.add(ADMIN, vm, "eth0")
    await services.pools.add_pool(ADMIN, host, BRIDGE, V6)
    assert (await services.addresses.add(ADMIN, vm, "eth0")).ip == "2001:db8::1"
    assert (await services.addresses.add(ADMIN, vm, "eth0", gateway="fe80::1")).ip == "2001:db8::2"
    with pytest.raises(InvalidInput, match="has no IPv4"):
        await services.addresses.add(ADMIN, vm, "eth0", "203.0.113.15")
    await services.addresses.remove(ADMIN, vm, 0)
    await services.addresses.remove(ADMIN, vm, 0)
    guest = (await read_wish([host.id])).ruleset.guests
    assert guest == (), "nothing is given, so nothing is guarded"


@pytest.mark.parametrize(
    ("ip", "kind", "says"),
    [
        ("203.0.113.9", InvalidInput, "203.0.113.0/24"),
        ("198.51.100.1", InvalidInput, "203.0.113.0/24"),
        ("203.0.113.10", Conflict, "is reserved"),
        ("203.0.113.11", Conflict, "belongs to VM vm-1"),
    ],
)
async def test_refused(services: Services, host: Host, ip: str, kind: type[PanelError], says: str) -> None:
    await services.pools.add_pool(ADMIN, host, BRIDGE, V4)
    await make(services, "vm-1")
    with pytest.raises(kind, match=says) as caught:
        await make(services, "vm-2", ip)
    assert caught.value.field == "nic_all.eth0.ip4_addr"
    assert not await Vm.exists(name="vm-2")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (PoolRequest("nonsense"), "subnet"),
        (PoolRequest("203.0.113.7"), "subnet"),
        (PoolRequest("203.0.113.7/24"), "subnet"),
        (PoolRequest("203.0.113.0/31"), "subnet"),
        (PoolRequest("224.0.0.0/24"), "subnet"),
        (PoolRequest("0.0.0.0/0"), "subnet"),
        (PoolRequest("fe80::/64"), "subnet"),
        (PoolRequest("203.0.113.0/24", "203.0.114.1"), "gateway"),
        (PoolRequest("203.0.113.0/24", "203.0.113.255"), "gateway"),
        (PoolRequest("203.0.113.0/24", "fe80::1"), "gateway"),
        (PoolRequest("203.0.113.0/24", dns=("x",)), "dns"),
        (PoolRequest("203.0.113.0/24", dns=("9.9.9.9",) * 5), "dns"),
        (PoolRequest("203.0.113.0/24", ranges=(("203.0.113.9", "203.0.113.2"),)), "ranges"),
        (PoolRequest("203.0.113.0/24", ranges=(("203.0.113.9", "203.0.114.2"),)), "ranges"),
        (PoolRequest("203.0.113.0/24", reserved=(("203.0.113.9", "fd00::1"),)), "reserved"),
        (PoolRequest("203.0.113.0/24", reserved=(("203.0.113.9", "203.0.113.9"),) * 65), "reserved"),
    ],
)
async def test_what_is_no_pool(services: Services, host: Host, request_: PoolRequest, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await services.pools.add_pool(ADMIN, host, BRIDGE, request_)
    assert caught.value.field == field


async def test_changed_and_removed(services: Services, host: Host) -> None:
    pool = await services.pools.add_pool(ADMIN, host, BRIDGE, V4)
    other = await services.pools.add_pool(ADMIN, host, BRIDGE, V6)
    vm = await make(services, "vm-1")
    for wrong, field in (
        (PoolRequest("198.51.100.0/24"), "subnet"),
        (PoolRequest("203.0.113.0/24", "203.0.113.11"), "gateway"),
        (PoolRequest("203.0.113.0/24", "", (), (("203.0.113.20", "203.0.113.29"),)), "ranges"),
        (PoolRequest("2001:db8::/48"), "subnet"),
        (PoolRequest("192.168.0.0/16"), "subnet"),
    ):
        with pytest.raises(Conflict) as caught:
            await services.pools.change_pool(ADMIN, host, BRIDGE, pool.id, wrong)
        assert caught.value.field == field
        assert (await Pool.get(id=pool.id)).subnet == V4.subnet, "as it was"
    larger = PoolRequest("203.0.112.0/23", "203.0.112.1", reserved=(("203.0.113.11", "203.0.113.11"),))
    changed, notes = await services.pools.change_pool(ADMIN, host, BRIDGE, pool.id, larger)
    assert (changed.subnet, [str(note) for note in notes]) == (
        "203.0.112.0/23",
        ["203.0.113.11 is reserved now; VM vm-1 keeps it."],
    )
    for row in (pool, other):
        with pytest.raises(Conflict, match="VM vm-1 has the address"):
            await services.pools.delete_pool(ADMIN, host, BRIDGE, row.id)
        assert await Pool.exists(id=row.id)
    while await given_to(vm):
        await services.addresses.remove(ADMIN, vm, 0)
    await services.pools.delete_pool(ADMIN, host, BRIDGE, pool.id)
    with pytest.raises(NotFound):
        await services.pools.delete_pool(ADMIN, host, BRIDGE, pool.id)


async def test_a_network_that_goes_keeps_its_pools(services: Services, host: Host) -> None:
    await services.pools.add_pool(ADMIN, host, BRIDGE, V4)
    world("world1").bridge = "other"
    await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
    assert (await Network.get(name=BRIDGE)).bridge == ""
    nic = Nic(mode=NicMode.BRIDGE, network="")
    found = await services.addresses.network_of(host.id, nic)
    assert found is not None
    assert found.name == "other"
    world("world1").bridge = ""
    await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
    assert not await Network.exists(name="other")


async def test_how_full(services: Services, host: Host) -> None:
    await services.pools.add_pool(ADMIN, host, BRIDGE, V4)
    await make(services, "vm-1")
    await make(services, "vm-2", mode=NicMode.NAT)
    bridge, nat = await services.pools.overview(host)
    assert (bridge.network.name, nat.network.name) == (BRIDGE, "fake-nat")
    counted = bridge.spaces[0].capacity
    assert (counted.total, counted.given, counted.reserved, counted.free) == (10, 1, 1, 8)
    assert [row.nic.vm.name for row in bridge.spaces[0].holders] == ["vm-1"]
    assert [row.nic.vm.name for row in nat.spaces[0].holders] == ["vm-2"]


async def fifty(services: Services, host: Host) -> None:
    """Fifty at once on a pool of fifty, then one more. Nothing but the database's constraint keeps them apart."""
    ranges = (("203.0.113.2", "203.0.113.30"), ("203.0.113.101", "203.0.113.121"))
    await services.pools.add_pool(ADMIN, host, BRIDGE, PoolRequest("203.0.113.0/24", ranges=ranges))
    vms = []
    for number in range(51):
        vm = await Vm.create(host=host, name=f"v{number}", ref=f"r{number}", cpu_count=1, memory_mib=64)
        await Nic.create(vm=vm, name="eth0", mode=NicMode.BRIDGE, mac=f"52:54:00:00:00:{number:02x}")
        vms.append(await services.vms.get("host1", vm.name))
    await asyncio.gather(*(services.addresses.give_new(vm, {}) for vm in vms[:50]))
    rows = await Address.all().values_list("ip", flat=True)
    assert len(rows) == len(set(rows)) == 50
    with pytest.raises(Conflict, match="No IPv4 address of network fake-bridge"):
        await services.addresses.give_new(vms[50], {})


async def test_fifty_at_once(services: Services, host: Host) -> None:
    services.observer.remove(host.id)
    await fifty(services, host)


@pytest.fixture
async def on_postgres(postgres_url: str, tmp_path: Path) -> AsyncIterator[Services]:  # noqa: F811
    """Services over PostgreSQL, with host ``host1`` and its networks."""
    EXECUTOR_CACHE.clear()  # Tortoise keeps queries made for SQLite
    settings = Settings(data_folder=tmp_path / "data", database_url=postgres_url, fake_engine=True)
    (tmp_path / "data").mkdir()
    await migrate(settings.database)
    await open_database(settings.database)
    services = build_services(settings)
    host = await Host.create(name="host1", engine=EngineKind.FAKE, address="world1")
    await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
    yield services
    await close_database()
    EXECUTOR_CACHE.clear()


@pytest.mark.live
async def test_fifty_at_once_on_postgresql(on_postgres: Services) -> None:
    await fifty(on_postgres, await Host.get(name="host1"))
